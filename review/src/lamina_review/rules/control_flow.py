"""CWE-691: what may happen in between, and what never ends."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import called, calls, dotted, last_name, names
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Function, Module

LOCK = re.compile(r"(?i)(^|_|\.)(r?lock|mutex|semaphore|locked|synchronized)($|_|\(|s$)")
OBSERVED = re.compile(r"(?i)(available|unassigned|not_assigned|unused|free|existing|candidates|list_|idle)")
RECORDS = {
    "add", "append", "update", "setdefault", "insert", "save", "commit", "record", "put", "mark", "store", "extend", "execute",
}
ASKS = {"exists", "isfile", "isdir", "access", "is_file", "is_dir", "lexists"}
ACTS = {
    "open", "remove", "unlink", "mkdir", "makedirs", "rename", "rmdir", "rmtree", "read_text", "write_text", "read_bytes", "write_bytes",
}

#: words of a loop that knows when to give up
BOUND = re.compile(r"(?i)deadline|timeout|time\(|now\(|monotonic|attempt|tries|retries|retry|remaining|limit|count|stop")


@rule("chosen-under-a-lock-recorded-later", 367)
def chosen_under_a_lock(module: Module) -> Iterator[Site]:
    """A free item is found by looking at the world, chosen and returned under a lock, and nothing within the lock records
    the choice. Until the world shows it, the next holder of the lock finds the same item free: it is given twice."""
    for function in module.functions():
        for held in _held(function):
            yield from _choices(function, held)


def _held(function: Function) -> Iterator[ast.AST]:
    if any(LOCK.search(dotted(d)) for d in function.decorator_list):
        yield function
    for node in ast.walk(function):
        if isinstance(node, ast.With | ast.AsyncWith) and any(LOCK.search(dotted(item.context_expr)) for item in node.items):
            yield node


def _choices(function: Function, held: ast.AST) -> Iterator[Site]:
    free = {
        target.id: node for node in ast.walk(held) if isinstance(node, ast.Assign)
        and any(OBSERVED.search(called(call)) for call in calls(node.value))
        for target in node.targets if isinstance(target, ast.Name)
    }
    own = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    returned = any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(held))
    for node in ast.walk(held):
        if isinstance(node, ast.Call) and called(node) == "pop" and isinstance(node.func, ast.Attribute):
            source = last_name(node.func.value)
        elif isinstance(node, ast.Call) and called(node) in {"next", "min", "max", "choice"} and node.args:
            source = min(names(node.args[0]) & free.keys(), default="")
        else:
            continue
        if source in free:
            recorded = any(_records(inner, own) for inner in ast.walk(held))
            yield Site(node, "" if recorded or not returned else f"chosen from {source} and not recorded before the lock ends")


def _records(node: ast.AST, own: set[str]) -> bool:
    """Whether a statement leaves a trace outside of the function's own names."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
        return dotted(node).split(".")[0].removesuffix("[]") not in own
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RECORDS:
        return dotted(node.func.value).split(".")[0].removesuffix("[]") not in own
    return False


@rule("asked-then-done", 367)
def asked_then_done(module: Module) -> Iterator[Site]:
    """A path is asked about and then used: in between it may come, go, or become a link."""
    for node in module.nodes(ast.If):
        asked = {
            ast.unparse(call.args[0]) if call.args else dotted(call.func).rpartition(".")[0]
            for call in calls(node.test) if called(call) in ASKS
        }
        if not asked:
            continue
        done = {
            _worked_on(call) for statement in node.body for call in calls(statement)
            if called(call) in ACTS and not {"missing_ok", "exist_ok", "ignore_errors"} & {k.arg for k in call.keywords}
        }
        yield Site(node, f"{sorted(asked & done)[0]} may change in between" if asked & done else "")


def _worked_on(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return ast.unparse(first) if isinstance(first, ast.Name | ast.Attribute) else dotted(call.func).rpartition(".")[0]


@rule("waits-without-an-end", 835)
def waits_without_an_end(module: Module) -> Iterator[Site]:
    """A loop asks and sleeps until something comes, and knows no deadline."""
    for loop in module.nodes(ast.While):
        inner = [call for statement in loop.body for call in calls(statement)]
        if not any(called(call) == "sleep" for call in inner):
            continue
        said = " ".join([ast.unparse(loop.test), *(ast.unparse(s) for s in loop.body)])
        leaves = any(isinstance(n, ast.Return | ast.Break) for n in ast.walk(loop))
        bounded = (isinstance(loop.test, ast.Constant) and not leaves) or BOUND.search(said)
        raises = any(isinstance(n, ast.Raise) for n in ast.walk(loop))
        yield Site(loop, "" if bounded or raises else "nothing ends this when what it waits for never comes")


@rule("lock-that-stays", 667)
def lock_that_stays(module: Module) -> Iterator[Site]:
    """`acquire()` as a statement without a `finally` that releases: an error leaves everybody waiting."""
    for statement in module.nodes(ast.Expr):
        value = statement.value
        if isinstance(value, ast.Call) and called(value) == "acquire" and LOCK.search(dotted(value.func)[: -len(".acquire")]):
            function = module.function_at(statement)
            tries = [n for n in ast.walk(function or module.tree) if isinstance(n, ast.Try)]
            freed = any(called(call) == "release" for t in tries for s in t.finalbody for call in calls(s))
            method = function is not None and function.name in {"acquire", "__enter__", "__aenter__", "lock"}
            yield Site(statement, "" if freed or method else "an error before release() leaves the lock held")


@rule("two-orders-of-two-locks", 833)
def two_orders_of_two_locks(module: Module) -> Iterator[Site]:
    """Two locks that are taken in one order here and in the other there: both holders wait for ever."""
    seen: dict[tuple[str, str], ast.AST] = {}
    for outer in module.nodes(ast.With):
        first = [dotted(i.context_expr) for i in outer.items]
        for inner in ast.walk(outer):
            if isinstance(inner, ast.With) and inner is not outer:
                for a in first:
                    for b in (dotted(i.context_expr) for i in inner.items):
                        if a and b and a != b and "(" not in a + b:
                            seen.setdefault((a, b), inner)
    for (a, b), node in seen.items():
        yield Site(node, f"{a} then {b} here, the other way elsewhere" if (b, a) in seen and a < b else "")
