"""Lamina's sources as trees, for tests that hold a rule against every line."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import lamina

ROOT = Path(lamina.__file__).parent
Node = TypeVar("Node", bound=ast.AST)


class Module(NamedTuple):
    #: below the package: ``model/ids.py``
    name: str
    text: str
    tree: ast.Module


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module of the package, ordered by name."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Module(path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    assert len(found) > 200, "the sources are somewhere else"
    return tuple(found)


def nodes(kind: type[Node]) -> Iterator[tuple[Module, Node]]:
    """Every node of a kind, with the module it is in."""
    for module in modules():
        for node in _walked(module.tree):
            if isinstance(node, kind):
                yield module, node


@functools.cache
def _walked(tree: ast.Module) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree))


def calls(*names: str) -> Iterator[tuple[Module, ast.Call]]:
    """Every call of a method or function with one of these names, whatever it is called on."""
    for module, call in nodes(ast.Call):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
        if called in names:
            yield module, call
