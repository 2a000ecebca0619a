"""CWE-707: values that are put into another language."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import called, calls, dotted, names, text_of
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Module

SQL = re.compile(r"(?is)^\s*(select\s.+\sfrom|insert\s+into|update\s.+\sset|delete\s+from|drop\s+table)\b")
MARKUP = re.compile(r"<[A-Za-z][\w:-]*(\s[^<>]*)?>")
ESCAPES = {"escape", "quoteattr", "quote", "xml_escape", "saxutils"}


def composed(node: ast.AST) -> str | None:
    """The constant parts, with NUL between, of a text that is put together with values; None of anything else."""
    if isinstance(node, ast.JoinedStr) and any(isinstance(v, ast.FormattedValue) for v in node.values):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return text_of(node.left)
    if isinstance(node, ast.Call) and called(node) == "format" and isinstance(node.func, ast.Attribute):
        return text_of(node.func.value)
    return None


@rule("question-from-text", 89)
def question_from_text(module: Module) -> Iterator[Site]:
    """A statement of SQL put together with values and given to the database: a value may become part of the question."""
    for call in module.nodes(ast.Call):
        if called(call) in {"execute", "executemany", "executescript", "exec_driver_sql"} and call.args:
            text = composed(call.args[0])
            yield Site(call, "values are part of the question" if text is not None and SQL.search(text) else "")


@rule("markup-from-text", 91)
def markup_from_text(module: Module) -> Iterator[Site]:
    """XML or HTML put together as text with values that nothing escapes: a value may bring elements of its own."""
    for node in [*module.nodes(ast.JoinedStr), *module.nodes(ast.BinOp), *module.nodes(ast.Call)]:
        text = composed(node)
        if text is None or not MARKUP.search(text) or ("</" not in text and "/>" not in text):
            continue
        function = module.function_at(node)
        guarded = any(called(call) in ESCAPES for call in calls(function or module.tree)) or bool(names(node) & ESCAPES)
        yield Site(node, "" if guarded else "values go into markup as they are")


@rule("text-that-is-run", 95)
def text_that_is_run(module: Module) -> Iterator[Site]:
    """``eval`` or ``exec`` of what is no constant."""
    for call in module.nodes(ast.Call):
        if dotted(call.func) in {"eval", "exec"} and call.args:
            yield Site(call, "" if isinstance(call.args[0], ast.Constant) else "a text is run")


@rule("shell-reads-it", 78)
def shell_reads_it(module: Module) -> Iterator[Site]:
    """A command put together as text for a shell."""
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        shell = any(k.arg == "shell" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords)
        if name in {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"} or shell:
            yield Site(call, "" if not call.args or isinstance(call.args[0], ast.Constant) else "a shell reads the values")
