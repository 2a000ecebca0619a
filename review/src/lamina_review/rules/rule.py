"""What a rule is: it looks at sites of a module and says of each whether it shows the weakness.

Sites that are fine are reported too, so that a review can tell what was examined from what was never there.
"""
from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator

from lamina_review.source import Module


@dataclasses.dataclass(frozen=True)
class Site:
    """A place that a rule has looked at; ``problem`` is empty where it is fine."""

    node: ast.AST
    problem: str = ""


Check = Callable[[Module], Iterator[Site]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """A named check for one weakness; ``why`` is its docstring."""

    name: str
    cwe: int
    why: str
    check: Check


RULES: dict[str, Rule] = {}


def rule(name: str, cwe: int) -> Callable[[Check], Check]:
    """Registers a check under a name that no other rule has."""

    def register(check: Check) -> Check:
        if name in RULES:
            raise ValueError(f"two rules are called {name}")
        RULES[name] = Rule(name, cwe, " ".join((check.__doc__ or "").split()), check)
        return check

    return register
