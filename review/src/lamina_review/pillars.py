"""The ten pillars, and which of them a weakness lies below.

A weakness may have several parents in view CWE-1000, hence lie below several pillars. The primary pillar is the one
that the primary parents lead to; the others are named beside it.
"""
from __future__ import annotations

import functools
import importlib.resources
import json

PILLARS: dict[int, str] = {
    284: "Access control",
    435: "Interaction of correctly behaving entities",
    664: "Lifetime of resources",
    682: "Calculation",
    691: "Control flow",
    693: "Protection mechanisms",
    697: "Comparison",
    703: "Exceptional conditions",
    707: "Neutralization",
    710: "Coding standards",
}


@functools.cache
def _weaknesses() -> dict[str, list[str]]:
    data = importlib.resources.files("lamina_review").joinpath("data/cwe1000.json").read_text(encoding="utf-8")
    found: dict[str, list[str]] = json.loads(data)["weaknesses"]
    return found


def name_of(cwe: int) -> str:
    """The weakness's name. KeyError when CWE-1000 has none of that number."""
    return _weaknesses()[str(cwe)][0]


@functools.cache
def pillars_of(cwe: int) -> tuple[int, ...]:
    """The pillars above a weakness, the primary one first. KeyError when CWE-1000 has none of that number."""
    if cwe in PILLARS:
        return (cwe,)
    found: dict[int, None] = {}
    for parent in _weaknesses()[str(cwe)][1:]:
        found.update(dict.fromkeys(pillars_of(int(parent))))
    return tuple(found)
