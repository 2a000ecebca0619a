"""What is there to judge under each pillar: counts, and the functions in which most of it stands.

An observation is not a fault. It says where a reader who doubts should look first.
"""
from __future__ import annotations

import ast
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from lamina_review.rules.access_control import CHECK, VERBS
from lamina_review.rules.calculation import RATIO, UNIT
from lamina_review.rules.control_flow import LOCK
from lamina_review.rules.lifetime import LOG
from lamina_review.rules.neutralization import MARKUP, SQL, composed
from lamina_review.rules.reading import ACQUIRE, RELEASE, called, calls, dotted, keyword, names, text_of
from lamina_review.source import Module

#: how many functions an observation names
NAMED = 5
Seen = Iterator[tuple[str, ast.AST]]
QUANTITY = re.compile(r"(?i)(^|_)(total|reserved|used|capacity|free|size|count|allocated|inventory|framebuffer|memory)($|_)")
EXTERNAL = {
    "subprocess": "programs", "socket": "sockets", "httpx": "HTTP", "requests": "HTTP", "urllib": "HTTP", "libvirt": "libvirt",
    "sqlalchemy": "SQL", "sqlite3": "SQL", "json": "JSON", "msgspec": "JSON", "yaml": "YAML", "tomllib": "TOML", "ET": "XML",
    "ElementTree": "XML", "etree": "XML", "ssl": "TLS", "struct": "bytes",
}
SLOW = {"sleep", "run", "execute", "request", "urlopen", "open", "check_call", "check_output", "wait", "commit", "begin", "connect"}


@dataclasses.dataclass(frozen=True)
class Observation:
    """How often something is there, and in which functions most."""

    what: str
    count: int
    where: tuple[str, ...]


def _access_control(module: Module) -> Seen:
    for call in module.nodes(ast.Call):
        path = next((t for a in call.args if (t := text_of(a)) and t.startswith("/")), None)
        name = called(call)
        if name.endswith("Route") and path is not None:
            checked = len(call.args) > 3 or any(CHECK.search(n) for k in call.keywords for n in {k.arg or "", *names(k.value)})
            yield ("routes in a table, with a rule" if checked else "routes in a table, without a rule"), call
        elif name in VERBS and path is not None and any(call in getattr(a, "decorator_list", []) for a in module.above(call)):
            yield "routes by decorator", call
        elif re.search(r"(?i)^(enforce|authorize|authenticate|require_|check_policy|can_)", name):
            yield "checks that are called", call


def _interaction(module: Module) -> Seen:
    for call in module.nodes(ast.Call):
        kind = EXTERNAL.get(dotted(call.func).partition(".")[0])
        if kind is not None:
            yield f"calls that meet the outside: {kind}", call


def _lifetime(module: Module) -> Seen:
    for call in module.nodes(ast.Call):
        name = called(call).lower()
        if dotted(call.func) in {"open", "os.open", "socket.socket"}:
            held = isinstance(module.parent(call), ast.withitem)
            yield ("opened in a with" if held else "opened outside of a with"), call
        elif ACQUIRE.search(name):
            yield "calls that make or take", call
        elif RELEASE.search(name) and name not in {"stop", "push", "free", "callback"}:
            yield "calls that give back or take away", call


def _calculation(module: Module) -> Seen:
    for node in module.nodes(ast.BinOp):
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod):
            said = names(node)
            if any(QUANTITY.search(n) or UNIT.search(n) or RATIO.search(n) for n in said):
                yield ("quantities divided" if isinstance(node.op, ast.Div) else "quantities calculated"), node


def _control_flow(module: Module) -> Seen:
    for held in [*module.nodes(ast.With), *module.nodes(ast.AsyncWith)]:
        if any(LOCK.search(dotted(item.context_expr)) for item in held.items):  # type: ignore[attr-defined]
            slow = any(called(call) in SLOW for s in held.body for call in calls(s))  # type: ignore[attr-defined]
            yield ("locks held over slow calls" if slow else "locks held"), held
    for loop in module.nodes(ast.While):
        if isinstance(loop.test, ast.Constant):
            yield "loops without a condition", loop
    for call in module.nodes(ast.Call):
        if dotted(call.func) in {"threading.Thread", "Thread", "asyncio.create_task", "ThreadPoolExecutor"}:
            yield "threads and tasks begun", call


def _protection(module: Module) -> Seen:
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        if name.startswith("ssl."):
            yield "TLS set up", call
        elif name.startswith("secrets.") or name in {"os.urandom", "hmac.compare_digest"}:
            yield "secrets made or compared", call
        if keyword(call, "timeout") is not None:
            yield "calls with a timeout", call
        if any(re.search(r"(?i)^(max_|limit)", k.arg or "") for k in call.keywords):
            yield "calls with a limit", call


def _comparison(module: Module) -> Seen:
    for compare in module.nodes(ast.Compare):
        for op, side in zip(compare.ops, compare.comparators, strict=True):
            singleton = isinstance(side, ast.Constant) and (side.value is None or isinstance(side.value, bool))
            if isinstance(op, ast.Is | ast.IsNot) and not singleton:
                yield "identity compared", compare
    for call in module.nodes(ast.Call):
        name = called(call)
        if name == "fullmatch":
            yield "whole texts matched", call
        elif name in {"match", "search"} and "re" in module.imported and not isinstance(module.parent(call), ast.Await):
            yield "beginnings or parts matched", call
        elif name in {"startswith", "endswith"} and call.args and text_of(call.args[0]) is None and not isinstance(call.args[0], ast.Tuple):
            yield "prefixes or suffixes that are variables", call


def _exceptional_conditions(module: Module) -> Seen:
    for handler in module.nodes(ast.ExceptHandler):
        caught = dotted(handler.type).rpartition(".")[2] if handler.type is not None else "BaseException"
        broad = caught in {"BaseException", "Exception", "OSError", "RuntimeError", "ValueError", "KeyError", "LookupError"}
        yield f"handlers of {caught if broad else 'named errors'}", handler


def _neutralization(module: Module) -> Seen:
    for node in [*module.nodes(ast.JoinedStr), *module.nodes(ast.BinOp), *module.nodes(ast.Call)]:
        text = composed(node)
        if text is not None and SQL.search(text):
            yield "SQL put together", node
        elif text is not None and MARKUP.search(text):
            yield "markup put together", node
        elif text is not None and re.match(r"/|[^ ]*/\0", text):
            yield "paths put together", node
        if isinstance(node, ast.Call):
            if LOG.search(dotted(node.func)) and node.args and composed(node.args[0]) is not None:
                yield "log lines put together", node
            if dotted(node.func).startswith("subprocess."):
                yield "programs run", node


def _coding_standards(module: Module) -> Seen:
    for function in module.functions():
        lines = (function.end_lineno or function.lineno) - function.lineno
        yield "functions", module.tree
        if lines > 60:
            yield "functions of more than 60 lines", function
        if function.returns is None:
            yield "functions without a type of what they return", function
    for number, line in enumerate(module.text.splitlines(), 1):
        if re.search(r"#\s*(noqa|nosec|type:\s*ignore)", line):
            yield "lines on which a checker is silenced", ast.Pass(lineno=number, col_offset=0)


KINDS: dict[int, Callable[[Module], Seen]] = {
    284: _access_control, 435: _interaction, 664: _lifetime, 682: _calculation, 691: _control_flow, 693: _protection, 697: _comparison,
    703: _exceptional_conditions, 707: _neutralization, 710: _coding_standards,
}


def observe(modules: Iterable[Module]) -> dict[int, tuple[Observation, ...]]:
    """The observations under each pillar, the most frequent first."""
    read: Sequence[Module] = list(modules)
    return {pillar: _counted(kind, read) for pillar, kind in KINDS.items()}


def _counted(kind: Callable[[Module], Seen], modules: Sequence[Module]) -> tuple[Observation, ...]:
    found: dict[str, Counter[str]] = {}
    for module in modules:
        for what, node in kind(module):
            stem = module.path.rpartition("/")[2].removesuffix(".py")
            where = module.name_at(node) if module.parent(node) is not None else ""
            found.setdefault(what, Counter())[f"{stem}.{where}" if where else stem] += 1
    made = [
        Observation(what, sum(places.values()), tuple(name for name, _ in sorted(places.items(), key=lambda p: (-p[1], p[0]))[:NAMED]))
        for what, places in found.items()
    ]
    return tuple(sorted(made, key=lambda o: (-o.count, o.what)))
