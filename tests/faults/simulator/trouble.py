"""Trouble: what goes wrong, and at which passing of which place. Armed by a schedule, it strikes once and is over."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable

from tests.faults.world import Killed


class AgentDied(BaseException):
    """A host's compute service died here. Not an Exception, so that nothing in Lamina can catch it."""

    def of_the_whole_process(self) -> bool:
        """Whether it died with its control plane, and had this happen to it while the stack of that death was unwound."""
        cause = self.__context__
        while cause is not None and not isinstance(cause, Killed):
            cause = cause.__context__
        return cause is not None


@dataclasses.dataclass
class Armed:
    """``strike`` is called the `left`-th time that one of `places` is passed."""

    places: frozenset[str]
    left: int
    strike: Callable[[], str | None]


class Trouble:
    """Counts the passings of each place and strikes where it was armed."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []
        self.passed: collections.Counter[str] = collections.Counter()
        self.struck: collections.Counter[str] = collections.Counter()

    def arm(self, name: str, places: frozenset[str], left: int, strike: Callable[[], str | None]) -> None:
        def told() -> str | None:
            self.struck[name] += 1
            return strike()

        self._armed.append(Armed(places, left, told))

    def disarm(self) -> None:
        self._armed.clear()

    def passing(self, place: str) -> str | None:
        """Raises what was armed here, or returns what a call is to suffer."""
        self.passed[place] += 1
        for armed in self._armed:
            if place in armed.places:
                armed.left -= 1
                if armed.left == 0:
                    self._armed.remove(armed)
                    return armed.strike()
        return None
