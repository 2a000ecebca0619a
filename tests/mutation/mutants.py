"""What can be wrong in a module: every place where one operator, number, condition or statement could be another."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator

COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
CALCULATED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Pow: ast.Mult,
}
#: parts of a tree in which nothing is changed: what they say is told to people, or to those who check types
LEFT_ALONE = (ast.JoinedStr, ast.arguments)


@dataclasses.dataclass(frozen=True, slots=True)
class Mutant:
    """One change. ``function`` is the outermost function or method it is in, "" for a statement of the module itself."""

    function: str
    change: str
    first: int
    last: int
    #: the module's tree with the change
    tree: ast.Module
    #: the changed statement of a module
    statement: ast.stmt | None = None

    @property
    def name(self) -> str:
        return f"{self.function or 'module'}: {self.change}"


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    number = 0
    while True:
        tree = ast.parse(source)
        site = _Site(number)
        site.module(tree)
        if site.change is None:
            return
        change, at = site.change, site.statement
        yield Mutant(
            site.function, change, at.lineno, at.end_lineno or at.lineno, ast.fix_missing_locations(tree), None if site.function else at
        )
        number += 1


class _Site:
    """Goes through a tree, counts the places, and makes the change at the one with this number."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.change: str | None = None
        self.function = ""
        self.statement: ast.stmt = ast.Pass(lineno=0, end_lineno=0)

    def module(self, tree: ast.Module) -> None:
        for node in tree.body:
            self._outer(node, "")

    def _outer(self, node: ast.stmt, above: str) -> None:
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.ClassDef):
                    self._outer(inner, f"{above}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            self.function = f"{above}{node.name}" if self.change is None else self.function
            self._body(node)
            self.function = self.function if self.change is not None else ""
        elif isinstance(node, ast.Assign | ast.AnnAssign) and self.change is None and _is_value(node):
            self.statement = node
            self._expressions(node)

    def _body(self, node: ast.AST) -> None:
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            statements = getattr(node, field, None)
            if not isinstance(statements, list):
                continue
            for at, statement in enumerate(statements):
                if self.change is None:
                    self._statement(statement, statements, at)

    def _statement(self, statement: ast.AST, among: list[ast.AST], at: int) -> None:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return  # words for people
        if isinstance(statement, ast.stmt):
            self.statement = statement
        for other, told in _instead(statement):
            if self._here(told):
                among[at] = ast.copy_location(other, statement)
                return
        self._expressions(statement)
        self._body(statement)

    def _expressions(self, node: ast.AST) -> None:
        """Changes within the expressions of a node, statements below it left out."""
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "decorator_list", "returns", "type_comment"):
                continue
            for at, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if self.change is not None or not isinstance(child, ast.expr | ast.comprehension | ast.keyword | ast.withitem):
                    continue
                if isinstance(child, LEFT_ALONE):
                    continue
                self._expression(node, field, at, child)

    def _expression(self, parent: ast.AST, field: str, at: int | None, child: ast.AST) -> None:
        for other in _other(child):
            if self._here(f"{ast.unparse(child)} -> {ast.unparse(other)}"):
                other = ast.copy_location(other, child) if isinstance(child, ast.expr) else other
                if at is None:
                    setattr(parent, field, other)
                else:
                    getattr(parent, field)[at] = other
                return
        if _is_pattern(child) and isinstance(child, ast.Call):
            for pattern in _patterns(child.args[0].value):  # type: ignore[attr-defined]
                if self._here(f"{ast.unparse(child)} -> {pattern!r}"):
                    child.args[0] = ast.copy_location(ast.Constant(pattern), child.args[0])
                    return
        self._expressions(child)

    def _here(self, told: str) -> bool:
        if self.change is None and self._left == 0:
            self.change = told
            return True
        self._left -= 1
        return False


def _instead(statement: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Other statements in the place of one."""
    told = ast.unparse(statement).splitlines()[0]
    if isinstance(statement, ast.Return) and not (statement.value is None or _is_none(statement.value)):
        yield ast.Return(ast.Constant(None)), f"{told} -> return None"
    if isinstance(statement, ast.Raise | ast.AugAssign | ast.Continue | ast.Break | ast.Delete) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    ):
        yield ast.Pass(), f"{told} -> pass"
    if isinstance(statement, ast.AugAssign) and type(statement.op) in CALCULATED:
        other = ast.AugAssign(statement.target, CALCULATED[type(statement.op)](), statement.value)
        yield other, f"{told} -> {ast.unparse(other)}"


def _other(node: ast.AST) -> Iterator[ast.expr]:
    """Other expressions in the place of one."""
    make: Callable[[ast.AST], Iterator[ast.expr]] | None = _OTHERS.get(type(node))
    if make is not None:
        yield from make(node)


def _compare(node: ast.AST) -> Iterator[ast.expr]:
    assert isinstance(node, ast.Compare)
    for at, op in enumerate(node.ops):
        ops = [*node.ops[:at], COMPARED[type(op)](), *node.ops[at + 1 :]]
        yield ast.Compare(node.left, ops, node.comparators)


def _calculate(node: ast.AST) -> Iterator[ast.expr]:
    assert isinstance(node, ast.BinOp)
    if type(node.op) in CALCULATED:
        yield ast.BinOp(node.left, CALCULATED[type(node.op)](), node.right)


def _both(node: ast.AST) -> Iterator[ast.expr]:
    assert isinstance(node, ast.BoolOp)
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _unary(node: ast.AST) -> Iterator[ast.expr]:
    assert isinstance(node, ast.UnaryOp)
    yield node.operand


def _choice(node: ast.AST) -> Iterator[ast.expr]:
    assert isinstance(node, ast.IfExp)
    yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _constant(node: ast.AST) -> Iterator[ast.expr]:
    assert isinstance(node, ast.Constant)
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)


def _extreme(node: ast.AST) -> Iterator[ast.expr]:
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Name) and node.func.id in ("min", "max", "any", "all"):
        swapped = {"min": "max", "max": "min", "any": "all", "all": "any"}[node.func.id]
        yield ast.Call(ast.Name(swapped, ast.Load()), node.args, node.keywords)


_OTHERS: dict[type[ast.AST], Callable[[ast.AST], Iterator[ast.expr]]] = {
    ast.Compare: _compare,
    ast.BinOp: _calculate,
    ast.BoolOp: _both,
    ast.UnaryOp: _unary,
    ast.IfExp: _choice,
    ast.Constant: _constant,
    ast.Call: _extreme,
}


def _is_value(node: ast.stmt) -> bool:
    """What takes functions in when the module is loaded has been taken over by others already."""
    return not any(isinstance(inner, ast.Lambda) for inner in ast.walk(node))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_pattern(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return False
    return ast.unparse(node.func) in ("re.compile", "re.fullmatch") and isinstance(node.args[0].value, str)


def _patterns(pattern: str) -> Iterator[str]:
    """Other expressions: counts one more, ranges one less, an escaped dot any character, an optional part needed."""
    for match in re.finditer(r"[0-9]+(?=\})", pattern):
        yield f"{pattern[: match.start()]}{int(match[0]) + 1}{pattern[match.end() :]}"
    for match in re.finditer(r"(?<=[0-9a-zA-Z]-)[0-9a-zA-Z](?=[^{}]*\])", pattern):
        yield f"{pattern[: match.start()]}{chr(ord(match[0]) - 1)}{pattern[match.end() :]}"
    for match in re.finditer(r"\\\.", pattern):
        yield f"{pattern[: match.start()]}.{pattern[match.end() :]}"
    for match in re.finditer(r"(?<=[\])a-z-])\?", pattern):
        yield pattern[: match.start()] + pattern[match.end() :]
