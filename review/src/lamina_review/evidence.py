"""Tests that are evidence for a weakness: those marked ``pytest.mark.weakness(CWE)``, in files or functions of the tests.

Static rules say little about interaction, lifetime and control flow; there, only what is run convinces.
"""
from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from lamina_review.pillars import pillars_of
from lamina_review.rules.reading import called
from lamina_review.source import load


@dataclasses.dataclass(frozen=True, order=True)
class Evidence:
    """A test and the weakness whose absence it shows."""

    cwe: int
    test: str


class UnknownWeakness(Exception):
    """A test is marked with what is no weakness of CWE-1000."""


def evidence(folders: Iterable[Path]) -> list[Evidence]:
    """Every marked test below the folders; a mark on a class or module counts for all it holds, under its name. Raises
    `UnknownWeakness`."""
    modules, _ = load([folder for folder in folders if folder.exists()])
    found = set()
    for module in modules:
        for call in module.nodes(ast.Call):
            if called(call) != "weakness" or not call.args or not isinstance(call.args[0], ast.Constant):
                continue
            holder = next((a for a in module.above(call) if isinstance(a, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)), None)
            name = f"{module.path}::{module.name_at(holder)}" if holder else module.path
            found.add(Evidence(_known(str(call.args[0].value).removeprefix("CWE-"), name), name))
    return sorted(found)


def _known(number: str, test: str) -> int:
    try:
        pillars_of(int(number))
    except (ValueError, KeyError) as problem:
        raise UnknownWeakness(f"{test} is marked with {number}, which is no weakness of CWE-1000") from problem
    return int(number)
