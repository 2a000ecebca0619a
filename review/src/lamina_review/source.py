"""The files of a tree, read and parsed once for all rules."""
from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

N = TypeVar("N", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Module:
    """A parsed file. ``path`` is what reports call it: relative, with slashes, the same on every machine."""

    path: str
    file: Path
    text: str
    tree: ast.Module

    @functools.cached_property
    def _nodes(self) -> tuple[dict[type[ast.AST], list[ast.AST]], dict[ast.AST, ast.AST]]:
        kinds: dict[type[ast.AST], list[ast.AST]] = {}
        parents: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(self.tree):
            kinds.setdefault(type(node), []).append(node)
            for child in ast.iter_child_nodes(node):
                parents[child] = node
        return kinds, parents

    def nodes(self, *kinds: type[N]) -> Iterator[N]:
        """Every node of these kinds."""
        for kind in kinds:
            yield from self._nodes[0].get(kind, [])  # type: ignore[misc]

    def functions(self) -> Iterator[Function]:
        """Every function, methods and nested ones too."""
        yield from self.nodes(ast.FunctionDef)
        yield from self.nodes(ast.AsyncFunctionDef)

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self._nodes[1].get(node)

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around this one, from the inside out."""
        around = self.parent(node)
        while around is not None:
            yield around
            around = self.parent(around)

    def function_at(self, node: ast.AST) -> Function | None:
        """The function that `node` is, or stands in."""
        if isinstance(node, Function):
            return node
        return next((around for around in self.above(node) if isinstance(around, Function)), None)

    def name_at(self, node: ast.AST) -> str:
        """The dotted name of the class and function that `node` stands in; empty at the top of the module."""
        around = [node, *self.above(node)]
        return ".".join(a.name for a in reversed(around) if isinstance(a, Function | ast.ClassDef))

    @functools.cached_property
    def imported(self) -> frozenset[str]:
        """The top-level names of the packages that are imported anywhere."""
        plain = {alias.name.split(".")[0] for node in self.nodes(ast.Import) for alias in node.names}
        return frozenset(plain | {(node.module or "").split(".")[0] for node in self.nodes(ast.ImportFrom)})

    def line(self, number: int) -> str:
        lines = self.text.splitlines()
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""


@dataclasses.dataclass(frozen=True, order=True)
class Unscanned:
    """A file that could not be read as Python, and why."""

    path: str
    why: str


def shown(file: Path, root: Path) -> str:
    """What reports call a file: relative to where we stand, else to the folder above the tree."""
    for base in (Path.cwd(), root.resolve().parent):
        if file.resolve().is_relative_to(base):
            return file.resolve().relative_to(base).as_posix()
    return file.name


def load(roots: Sequence[Path]) -> tuple[list[Module], list[Unscanned]]:
    """Every ``.py`` file below the roots, in order of path, and those that could not be parsed."""
    modules: list[Module] = []
    unscanned: list[Unscanned] = []
    for root in roots:
        if not root.exists():
            unscanned.append(Unscanned(root.name, "no such file or folder"))
        for file in [root] if root.is_file() else sorted(root.rglob("*.py")):
            path = shown(file, root)
            try:
                text = file.read_text(encoding="utf-8")
                modules.append(Module(path, file, text, ast.parse(text)))
            except (OSError, SyntaxError, ValueError, RecursionError) as problem:
                unscanned.append(Unscanned(path, f"{type(problem).__name__}: {str(problem).replace(str(file), path)}"))
    return modules, sorted(unscanned)
