"""What handlers do, read from their sources: which bodies they decode, which query parameters they look at, how they answer.

Followed are the functions of the API floor that a handler names, and theirs in turn.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

_MISSING = object()


@dataclasses.dataclass
class Facts:
    bodies: set[Any] = dataclasses.field(default_factory=set)
    query: set[str] = dataclasses.field(default_factory=set)
    statuses: set[int] = dataclasses.field(default_factory=set)
    #: whether it may say that what is asked for is not done here
    refuses: bool = False

    def __or__(self, other: Facts) -> Facts:
        merged = (self.bodies | other.bodies, self.query | other.query, self.statuses | other.statuses, self.refuses or other.refuses)
        return Facts(*merged)


def facts_of(handler: Callable[..., Any]) -> Facts:
    found = Facts()
    for function in _reached(inspect.unwrap(handler)):
        found |= _facts(function)
    return found


def _reached(handler: Any) -> Iterator[types.FunctionType]:
    seen: set[Any] = set()
    waiting = [handler]
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        yield function
        waiting += _named(function)


@functools.cache
def _tree(function: types.FunctionType) -> ast.AST:
    text = textwrap.dedent(inspect.getsource(function))
    return ast.parse(text if text.startswith(("def", "async def", "@")) else "None")


@functools.cache
def _named(function: types.FunctionType) -> list[types.FunctionType]:
    """The functions of this floor that it names, those in a table of actions too."""
    found: list[types.FunctionType] = []
    for node in ast.walk(_tree(function)):
        if isinstance(node, ast.Name | ast.Attribute):
            value = _value(function, node)
            values = [field for one in value.values() for field in _fields(one)] if isinstance(value, dict) else [value]
            found += [one for one in values if isinstance(one, types.FunctionType) and one.__module__.startswith("lamina.api.")]
    return found


def _fields(value: Any) -> list[Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return []


def _value(function: types.FunctionType, node: ast.expr) -> Any:
    """What a name stands for, in the function's own surroundings; nothing for what only a call knows."""
    if isinstance(node, ast.Name):
        return _around(function).get(node.id, _MISSING)
    if isinstance(node, ast.Attribute):
        of = _value(function, node.value)
        return getattr(of, node.attr, _MISSING) if isinstance(of, types.ModuleType) else _MISSING
    return _MISSING


@functools.cache
def _around(function: types.FunctionType) -> dict[str, Any]:
    own = set(inspect.signature(function).parameters)
    around = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    return {name: value for name, value in around.items() if name not in own}


@functools.cache
def _facts(function: types.FunctionType) -> Facts:
    found = Facts()
    for node in ast.walk(_tree(function)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _name(node.exc.func) == "NotImplementedHere":
            found.refuses = True
        if isinstance(node, ast.Call):
            found.bodies |= _body(function, node)
            found.query |= _asked(function, node)
            found.statuses |= _statuses(node)
    return found


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _of_request(call: ast.Call, *names: str) -> bool:
    return isinstance(call.func, ast.Attribute) and _name(call.func.value) == "request" and call.func.attr in names


def _body(function: types.FunctionType, call: ast.Call) -> set[Any]:
    model = None
    if _of_request(call, "json") and call.args:
        model = call.args[0]
    elif _name(call.func) in ("read", "body") and len(call.args) == 2 and _name(call.args[0]) == "request":
        model = call.args[1]
    if model is None or (isinstance(model, ast.Name) and model.id in inspect.signature(function).parameters):
        return set()
    return {eval(ast.unparse(model), _around(function))}  # noqa: S307 - an expression of our own sources


def _asked(function: types.FunctionType, call: ast.Call) -> set[str]:
    """``request.value("limit")``, and ``flag(request, "enabled")`` where `flag` asks for what it is given."""
    if _of_request(call, "value", "values"):
        return _word(call.args[0])
    if len(call.args) > 1 and _name(call.args[0]) == "request":
        asks = _value(function, call.func)
        if isinstance(asks, types.FunctionType) and asks.__module__.startswith("lamina.api."):
            second = list(inspect.signature(asks).parameters)[1]
            calls = (node for node in ast.walk(_tree(asks)) if isinstance(node, ast.Call))
            if any(_of_request(one, "value", "values") and _name(one.args[0]) == second for one in calls):
                return _word(call.args[1])
    return set()


def _word(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def _statuses(call: ast.Call) -> set[int]:
    told = next((keyword.value for keyword in call.keywords if keyword.arg == "status"), None)
    if told is None and _name(call.func) == "Reply":
        told = call.args[0] if call.args else ast.Constant(200)
    if told is None and _name(call.func) == "reply":
        told = ast.Constant(200)
    choices = [told.body, told.orelse] if isinstance(told, ast.IfExp) else [told]
    return {one.value for one in choices if isinstance(one, ast.Constant) and isinstance(one.value, int)}
