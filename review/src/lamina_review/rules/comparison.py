"""CWE-697: what is taken for equal."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import called, dotted, folded, last_name, text_of
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Module

DOT_BETWEEN = re.compile(r"(?<=[)\]}])\.(?=[(\[])")


@rule("prefix-for-a-whole", 187)
def prefix_for_a_whole(module: Module) -> Iterator[Site]:
    """A composed name is matched by ``startswith(part + separator)``: where the part itself may hold the separator, the
    name that begins with another part is taken for it (`node` and `node_1`)."""
    for call in module.nodes(ast.Call):
        if called(call) != "startswith" or not isinstance(call.func, ast.Attribute) or len(call.args) != 1:
            continue
        given = call.args[0]
        separator = None
        if isinstance(given, ast.BinOp) and isinstance(given.op, ast.Add) and not isinstance(given.left, ast.Constant):
            separator = text_of(given.right)
        elif isinstance(given, ast.JoinedStr) and len(given.values) == 2 and isinstance(given.values[0], ast.FormattedValue):
            separator = text_of(given.values[1])
        yield Site(call, "another name that begins the same is taken for it" if separator in {"_", "-", ":", "."} else "")


@rule("expression-that-lets-more-through", 185)
def expression_that_lets_more_through(module: Module) -> Iterator[Site]:
    """``$`` matches before a trailing newline too, and a bare dot between groups matches any letter: a value that is not
    of the form passes. `fullmatch` and an escaped dot accept exactly the form."""
    known = {t.id: n.value for n in module.nodes(ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    for call in module.nodes(ast.Call):
        method = called(call)
        if method not in {"match", "search"}:
            continue
        compiled = isinstance(call.func, ast.Attribute) and known.get(last_name(call.func.value))
        if dotted(call.func) in {"re.match", "re.search"} and call.args:
            pattern = folded(call.args[0], known)
        elif isinstance(compiled, ast.Call) and dotted(compiled.func) == "re.compile" and compiled.args:
            pattern = folded(compiled.args[0], known)
        else:
            continue
        yield Site(call, _lets_through(pattern, method, _only_asked(module, call)))


def _lets_through(pattern: str | None, method: str, asked: bool) -> str:
    if pattern is None:
        return ""
    whole = pattern.endswith("$") and not pattern.endswith("\\$") and (method == "match" or pattern.startswith("^"))
    if whole:
        dot = ", and a bare dot lets any letter through" if DOT_BETWEEN.search(pattern) else ""
        return "" if pattern.endswith(".*$") else "$ lets a trailing newline through" + dot
    if asked and method == "match" and re.fullmatch(r"\^?(\[[^\]]+\]|\\[dw])[+*]", pattern):
        return "the end is not looked at"
    return ""


def _only_asked(module: Module, call: ast.Call) -> bool:
    """Whether the match is used as a yes or no only."""
    parent = module.parent(call)
    if isinstance(parent, ast.Compare):
        return True
    if isinstance(parent, ast.Call):
        return dotted(parent.func) == "bool"
    return isinstance(parent, ast.If | ast.UnaryOp | ast.BoolOp | ast.IfExp)


@rule("identity-for-equality", 595)
def identity_for_equality(module: Module) -> Iterator[Site]:
    """``is`` with a text or number asks whether it is the same object, which equal values need not be."""
    for compare in module.nodes(ast.Compare):
        for op, side in zip(compare.ops, compare.comparators, strict=True):
            if isinstance(op, ast.Is | ast.IsNot):
                value = side.value if isinstance(side, ast.Constant) else None
                literal = isinstance(value, str | int | float | bytes) and not isinstance(value, bool)
                yield Site(compare, "identity is asked where equality is meant" if literal else "")


@rule("versions-in-letters", 1024)
def versions_in_letters(module: Module) -> Iterator[Site]:
    """A version ordered as text: "2.9" comes after "2.10"."""
    for compare in module.nodes(ast.Compare):
        if any(isinstance(op, ast.Lt | ast.Gt | ast.LtE | ast.GtE) for op in compare.ops):
            sides = [compare.left, *compare.comparators]
            text = any(re.fullmatch(r"\d+(\.\d+)+", text_of(s) or "") for s in sides)
            if text or any("version" in last_name(s).lower() for s in sides):
                yield Site(compare, "a version is ordered as text" if text else "")


@rule("text-taken-for-true", 704)
def text_taken_for_true(module: Module) -> Iterator[Site]:
    """``bool`` of a text: "False" is true."""
    for call in module.nodes(ast.Call):
        if dotted(call.func) == "bool" and call.args and isinstance(call.args[0], ast.Call) and called(call.args[0]) in {"get", "getenv"}:
            default = text_of(call.args[0].args[1]) if len(call.args[0].args) > 1 else None
            yield Site(call, f"bool({default!r}) is true" if default and default.lower() in {"false", "no", "off", "0"} else "")
