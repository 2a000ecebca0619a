"""What a reader may want to look at under each pillar, whether or not a rule finds fault with it."""
from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator

from lamina_review.rules.access_control import CHECK, VERBS, handler_in_table
from lamina_review.rules.calculation import RATIO, UNIT
from lamina_review.rules.control_flow import LOCK
from lamina_review.rules.exceptional_conditions import TOLD, caught
from lamina_review.rules.lifetime import LOG
from lamina_review.rules.neutralization import MARKUP, SQL, composed
from lamina_review.rules.reading import called, calls, dotted, keyword, last_name, names, text_of
from lamina_review.source import Function, Module

QUANTITY = re.compile(r"(?i)(^|_)(total|reserved|used|capacity|free|size|count|allocated|inventory|framebuffer|memory)($|_)")
#: what is called when something outside of the program is met
OUTSIDE = {
    "programs": re.compile(r"subprocess\..*|os\.(system|popen|exec\w*|posix_spawn\w*)"),
    "sockets": re.compile(r"socket\..*|asyncio\.(open_connection|start_server|open_unix_connection|start_unix_server)"),
    "HTTP": re.compile(r"(httpx|requests|urllib\.request|http\.client|urllib3)\..*"),
    "libvirt": re.compile(r"libvirt\.(open|vir)\w*"),
    "SQL": re.compile(r"sqlite3\.connect|.*\b(execute|executemany|executescript|exec_driver_sql|create_engine)"),
    "JSON": re.compile(r"(json|jsonutils)\.(load|dump)s?|msgspec\.(json|convert|to_builtins)\b.*"),
    "YAML": re.compile(r"yaml\.\w+"),
    "TOML": re.compile(r"tomllib\.loads?"),
    "XML": re.compile(r"(ET|ElementTree|etree|defusedxml|minidom)\b.*\.(fromstring|parse|iterparse|XML|tostring|Element|SubElement)"),
    "bytes by layout": re.compile(r"struct\.(pack|unpack)\w*"),
}
#: what may take long, so that whoever holds a lock over it keeps others waiting
SLOW = {
    "sleep", "run", "execute", "request", "urlopen", "open", "check_call", "check_output", "wait", "commit", "begin", "connect", "join",
    "read_text", "write_text", "read_bytes", "write_bytes", "fsync", "recv", "sendall",
}
LONG_FUNCTION = 60
LONG_FILE = 500
#: how much of an expression is quoted
QUOTED = 60


@dataclasses.dataclass(frozen=True)
class Noted:
    """Something that is there: what kind of thing, where, and what is special about this one. ``name`` stands for the
    function that holds `node` where another name says more."""

    what: str
    node: ast.AST
    note: str = ""
    name: str = ""


Seen = Iterator[Noted]


def quoted(node: ast.AST) -> str:
    """The source of a node on one line, cut where it is long."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= QUOTED else text[: QUOTED - 1] + "…"


def access_control(module: Module) -> Seen:
    """Routes by what checks them, and calls of checks."""
    for call in module.nodes(ast.Call):
        name, holder = called(call), module.parent(call)
        handler = handler_in_table(call)
        if handler is not None:
            yield Noted(f"routes {_check_in_table(call, handler)}", call, name=last_name(handler))
        elif name in VERBS and isinstance(holder, Function) and call in holder.decorator_list:
            checks = sorted(n for d in holder.decorator_list for n in names(d) if CHECK.search(n))
            yield Noted(f"routes checked by {checks[0]}" if checks else "routes whose decorators name no check", holder)
        elif re.fullmatch(r"(enforce|authorize|authenticate|require_\w+|check_(policy|access|permission)\w*)", name):
            yield Noted("checks called by hand", call)


def _check_in_table(call: ast.Call, handler: ast.expr) -> str:
    public = keyword(call, "public")
    if isinstance(public, ast.Constant) and public.value is True:
        return "open to everybody"
    after = call.args[call.args.index(handler) + 1:]
    return f"checked by {quoted(after[-1])}" if after else "whose table names no check"


def interaction(module: Module) -> Seen:
    """Calls that meet something outside of the program, by what they meet."""
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        kind = next((kind for kind, pattern in OUTSIDE.items() if pattern.fullmatch(name)), None)
        if kind is not None:
            yield Noted(kind, call)


def lifetime(module: Module) -> Seen:
    """Files and sockets by whether a ``with`` closes them; tasks and threads are under control flow."""
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        if name in {"open", "os.open", "os.fdopen", "socket.socket", "tempfile.mkdtemp", "tempfile.mkstemp"} or called(call) == "makefile":
            held = isinstance(module.parent(call), ast.withitem)
            yield Noted("opened in a with" if held else "opened outside of a with", call, "" if held else f"{name}()")


def calculation(module: Module) -> Seen:
    """Arithmetic on what is named like a quantity, apart: divisions and conversions that lose something."""
    for node in module.nodes(ast.BinOp):
        if not isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod) or text_of(node.left) is not None:
            continue
        if any(QUANTITY.search(n) or UNIT.search(n) or RATIO.search(n) for n in names(node)):
            if isinstance(node.op, ast.Div):
                yield Noted("quantities divided into fractions", node, quoted(node))
            elif isinstance(node.op, ast.FloorDiv | ast.Mod):
                yield Noted("quantities divided into whole parts", node, quoted(node))
            else:
                yield Noted("quantities added, taken away, multiplied", node)
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        if name in {"Fraction", "fractions.Fraction", "Decimal", "decimal.Decimal"}:
            yield Noted("exact fractions", call)
        elif name in {"round", "math.floor", "math.ceil", "math.isclose"} and call.args:
            yield Noted("quantities rounded", call, quoted(call))


def control_flow(module: Module) -> Seen:
    """Locks and what is done under them; loops without a condition; what runs beside."""
    for held in [*module.nodes(ast.With), *module.nodes(ast.AsyncWith)]:
        locks = [item.context_expr for item in held.items if LOCK.search(dotted(item.context_expr))]  # type: ignore[attr-defined]
        if locks:
            slow = sorted({called(call) for s in held.body for call in calls(s)} & SLOW)  # type: ignore[attr-defined]
            what = "locks held over what may take long" if slow else "locks held over nothing that waits"
            yield Noted(what, held, f"{quoted(locks[0])}: {', '.join(slow)}" if slow else "")
    for loop in module.nodes(ast.While):
        if isinstance(loop.test, ast.Constant):
            yield Noted("loops without a condition", loop)
    for call in module.nodes(ast.Call):
        if called(call) in {"Thread", "create_task", "ThreadPoolExecutor", "ProcessPoolExecutor", "Process", "ensure_future", "to_thread"}:
            yield Noted("what runs beside", call, called(call))


def protection(module: Module) -> Seen:
    """TLS, secrets, and calls with a limit in time or size."""
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        if name.startswith("ssl."):
            yield Noted("TLS set up", call, name)
        elif name.startswith("secrets.") or name in {"os.urandom", "hmac.compare_digest"}:
            yield Noted("secrets made or compared", call, name)
        elif re.fullmatch(r".*\b(argon2|bcrypt|scrypt|pbkdf2_hmac|PasswordHasher|hmac\.new|Fernet)(\(\).*|\..*)?", name):
            yield Noted("passwords and keys derived", call, name)
        if keyword(call, "timeout") is not None:
            yield Noted("calls with a limit in time", call)
        if any(re.search(r"(?i)^(max_|limit|most_)", k.arg or "") for k in call.keywords):
            yield Noted("calls with a limit in size or number", call)


def comparison(module: Module) -> Seen:
    """Identity of what is no singleton, expressions by how much of a text they look at, prefixes that vary."""
    for compare in module.nodes(ast.Compare):
        for op, side in zip(compare.ops, compare.comparators, strict=True):
            singleton = isinstance(side, ast.Constant) and (side.value is None or isinstance(side.value, bool))
            member = isinstance(side, ast.Attribute) and side.attr.isupper()
            if isinstance(op, ast.Is | ast.IsNot) and not singleton:
                yield Noted("identity compared with a member of an enumeration" if member else "identity compared otherwise", compare)
    for call in module.nodes(ast.Call):
        name = called(call)
        if name == "fullmatch":
            yield Noted("expressions that match the whole text", call)
        elif name in {"match", "search"} and "re" in module.imported and not isinstance(module.parent(call), ast.Await):
            yield Noted("expressions that match a beginning or a part", call, quoted(call))
        elif name in {"startswith", "endswith"} and call.args and text_of(call.args[0]) is None and not isinstance(call.args[0], ast.Tuple):
            yield Noted("prefixes and suffixes that vary", call, quoted(call))


def exceptional_conditions(module: Module) -> Seen:
    """Handlers by how much they catch, and what the broad ones do with it."""
    for handler in module.nodes(ast.ExceptHandler):
        types = {t.rpartition(".")[2] for t in caught(handler)} or {"BaseException"}
        broad = sorted(types & {"BaseException", "Exception"})
        if broad:
            yield Noted(f"handlers of {broad[0]}", handler, _end(handler))
        elif types & {"OSError", "RuntimeError", "ValueError", "LookupError", "ArithmeticError"}:
            yield Noted(f"handlers of {min(types)}" if len(types) == 1 else "handlers of several families", handler)
        else:
            yield Noted("handlers of named errors", handler)


def _end(handler: ast.ExceptHandler) -> str:
    inner = [n for s in handler.body for n in ast.walk(s)]
    if any(isinstance(n, ast.Raise) for n in inner):
        return "raises again"
    if any(isinstance(n, ast.Call) and called(n) in TOLD for n in inner):
        return "tells"
    return "hands it on" if any(isinstance(n, ast.Name) and n.id == handler.name for n in inner) else "answers otherwise"


def neutralization(module: Module) -> Seen:
    """Texts put together with values, by the language that reads them; programs that are run."""
    for node in [*module.nodes(ast.JoinedStr), *module.nodes(ast.BinOp), *module.nodes(ast.Call)]:
        text = composed(node)
        if text is not None:
            if SQL.search(text):
                yield Noted("SQL put together", node)
            elif MARKUP.search(text) and ("</" in text or "/>" in text):
                yield Noted("markup put together", node)
            elif re.match(r"/\w", text) and " " not in text:
                yield Noted("paths put together", node)
        if isinstance(node, ast.Call):
            if LOG.search(dotted(node.func)) and node.args and composed(node.args[0]) is not None:
                yield Noted("log lines put together", node)
            elif OUTSIDE["programs"].fullmatch(dotted(node.func)):
                yield Noted("programs run", node, dotted(node.func))
            elif OUTSIDE["XML"].fullmatch(dotted(node.func)):
                yield Noted("XML read or written by a library", node)


def coding_standards(module: Module) -> Seen:
    """Length, types, and where a checker is silenced."""
    for function in module.functions():
        if (function.end_lineno or function.lineno) - function.lineno >= LONG_FUNCTION:
            yield Noted(f"functions of more than {LONG_FUNCTION} lines", function)
        yield Noted("functions with types" if _typed(function) else "functions without types", function)
    if module.text.count("\n") > LONG_FILE:
        yield Noted(f"files of more than {LONG_FILE} lines", module.tree)
    for number, line in enumerate(module.text.splitlines(), 1):
        silenced = re.search(r"#\s*(noqa|nosec|type:\s*ignore)(:?\s*\S*)", line)
        if silenced:
            place = ast.Pass(lineno=number, col_offset=0)
            yield Noted("lines on which a checker is silenced", place, silenced.group(0).lstrip("# "))


def _typed(function: Function) -> bool:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return function.returns is not None and all(a.annotation is not None or a.arg in {"self", "cls"} for a in given)


OBSERVERS: dict[int, Callable[[Module], Seen]] = {
    284: access_control, 435: interaction, 664: lifetime, 682: calculation, 691: control_flow, 693: protection, 697: comparison,
    703: exceptional_conditions, 707: neutralization, 710: coding_standards,
}
