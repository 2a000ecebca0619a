"""CWE-664: what is taken has to be given back, whatever happens in between."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import ACQUIRE, SECRET, called, calls, dotted, handled_within, last_name, names, undone_around
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Function, Module

OPENERS = {
    "open", "io.open", "socket.socket", "socket.create_connection", "tarfile.open", "zipfile.ZipFile", "gzip.open", "sqlite3.connect",
    "urllib.request.urlopen", "tempfile.NamedTemporaryFile", "os.fdopen",
}
SECOND = re.compile(r"(^|_)(define|start|activate|register|enable|set|attach|boot|resume|configure|connect|plug)(_|$)")
LOG = re.compile(r"(?i)(^|\.)(log|logger|logging)\.(debug|info|warning|warn|error|critical|exception|audit)$")


@rule("open-until-it-fails", 772)
def open_until_it_fails(module: Module) -> Iterator[Site]:
    """A file or connection kept in a name outside `with` and closed on the straight way only: an error leaves it open."""
    for assign in module.nodes(ast.Assign):
        if not (isinstance(assign.value, ast.Call) and dotted(assign.value.func) in OPENERS and isinstance(assign.targets[0], ast.Name)):
            continue
        function = module.function_at(assign)
        if function is None:
            continue
        name = assign.targets[0].id
        yield Site(assign, "" if _is_given_away(function, name) else f"{name} stays open when something fails before it is closed")


def _is_given_away(function: Function, name: str) -> bool:
    """Whether a name is returned, stored, handed on, entered, or closed in a `finally` or a handler."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return | ast.Yield) and isinstance(node.value, ast.Name | ast.Tuple) and name in names(node.value):
            return True
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript) and name in names(node.value):
            return True
        if isinstance(node, ast.withitem) and name in names(node.context_expr):
            return True
        if isinstance(node, ast.Try):
            ends = [*node.finalbody, *(s for h in node.handlers for s in h.body)]
            if any(name in names(end) for end in ends):
                return True
        if isinstance(node, ast.Call) and any(isinstance(a, ast.Name) and a.id == name for a in node.args):
            return True
    return False


@rule("half-of-them-stay", 459)
def half_of_them_stay(module: Module) -> Iterator[Site]:
    """A loop makes things one after the other and gathers them; when a later one fails, those made before stay, since
    nothing around or within the loop takes them away."""
    for loop in module.nodes(ast.For, ast.AsyncFor, ast.While):
        made = {
            target.id for node in ast.walk(loop) if isinstance(node, ast.Assign) and _acquires(node.value)
            for target in node.targets if isinstance(target, ast.Name)
        }
        for call in calls(loop):
            gathers = isinstance(call.func, ast.Attribute) and call.func.attr in {"append", "add"} and isinstance(call.func.value, ast.Name)
            if not gathers or not call.args or not (names(call.args[0]) & made or _acquires(call.args[0])):
                continue
            fine = undone_around(module, loop) or handled_within(loop)
            yield Site(call, "" if fine else "what was made before stays when a later one fails")


def _acquires(value: ast.AST) -> bool:
    """Whether a value is what a method of some other object has made."""
    value = value.value if isinstance(value, ast.Await) else value
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and ACQUIRE.search(called(value).lower()) is not None


@rule("made-but-not-finished", 460)
def made_but_not_finished(module: Module) -> Iterator[Site]:
    """Something is created and then defined, started or attached in a second call on the same object. When the second call
    fails, nothing takes back the first."""
    for function in module.functions():
        for block in _blocks(function):
            yield from _second_steps(module, block)


def _blocks(function: Function) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(function):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt) and not isinstance(node, ast.ClassDef):
                yield block


def _second_steps(module: Module, block: list[ast.stmt]) -> Iterator[Site]:
    made: list[ast.Call] = []
    for statement in block:
        call = _whole_call(statement)
        if call is not None and isinstance(call.func, ast.Attribute):
            first = next((m for m in made if _same_object(m, call)), None)
            if first is not None and SECOND.search(called(call).lower()):
                fine = undone_around(module, statement)
                yield Site(call, "" if fine else f"when {called(call)}() fails, what {called(first)}() made stays")
                made.remove(first)
            elif ACQUIRE.search(called(call).lower()):
                made.append(call)
        elif isinstance(statement, ast.Try) and made and handled_within(statement):
            made.clear()


def _whole_call(statement: ast.stmt) -> ast.Call | None:
    value = statement.value if isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign) else None
    value = value.value if isinstance(value, ast.Await) else value
    return value if isinstance(value, ast.Call) else None


def _same_object(first: ast.Call, second: ast.Call) -> bool:
    """Whether both are methods of one object and are given one thing to work on."""
    same = dotted(first.func).rpartition(".")[0] == dotted(second.func).rpartition(".")[0]
    given = {n for a in first.args for n in names(a)} & {n for a in second.args for n in names(a)}
    return same and bool(given)


@rule("secret-in-the-log", 532)
def secret_in_the_log(module: Module) -> Iterator[Site]:
    """A password or token among a log line's arguments: whoever may read logs has it."""
    for call in module.nodes(ast.Call):
        if LOG.search(dotted(call.func)):
            told = [*call.args, *(k.value for k in call.keywords)]
            secret = next((last_name(a) for a in told if SECRET.search(last_name(a).lower())), "")
            yield Site(call, f"{secret} goes into the log" if secret else "")


@rule("unpacked-without-a-limit", 409)
def unpacked_without_a_limit(module: Module) -> Iterator[Site]:
    """Compressed bytes are unpacked whole: a few kilobytes may become gigabytes."""
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        if name in {"gzip.decompress", "bz2.decompress", "lzma.decompress", "zlib.decompress"}:
            yield Site(call, "unpacked without a limit")
