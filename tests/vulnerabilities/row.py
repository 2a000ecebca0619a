"""One row of the catalogue: what happened elsewhere, and how it is known that it does not happen here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.vulnerabilities.stage import Stage


@dataclasses.dataclass(frozen=True)
class Row:
    """`check` raises AssertionError where the weakness is there; while `broken` lasts it is."""

    number: int
    #: CVE and OSSA numbers
    ids: tuple[str, ...]
    #: the pillar of CWE-1000 that it is judged to belong to
    pillar: int
    title: str
    check: Callable[[Stage], None]
    #: takes a protection away for as long as its context lasts; its docstring says which
    broken: Callable[[], AbstractContextManager[Any]]
    #: how far the row reaches here, where that is not all of it
    note: str = ""
