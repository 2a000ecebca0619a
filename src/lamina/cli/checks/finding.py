"""One line of the doctor's answer."""

from __future__ import annotations

import dataclasses
import enum


class Verdict(enum.StrEnum):
    OK = "ok"
    #: it is not there; whether that matters depends on what Lamina is wanted for
    MISSING = "missing"
    #: it is there and something is wrong with it
    PROBLEM = "problem"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """``mend`` is the command that helps, None where nothing is to be done; ``needed`` is False for what only real hosts need."""

    check: str
    verdict: Verdict
    told: str
    mend: str | None = None
    needed: bool = True

    @property
    def bad(self) -> bool:
        return self.needed and self.verdict is not Verdict.OK
