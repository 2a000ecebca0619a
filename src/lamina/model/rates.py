"""How often somebody may ask: a bucket of tokens that fills at a steady rate and from which every request takes.

All arithmetic is in whole numbers and exact: times in nanoseconds, what is in a bucket in *drops*, of which a token is as many as
there are nanoseconds in a second. So a rate of N tokens a second is N drops a nanosecond, and nothing is ever rounded.
"""

from __future__ import annotations

import collections
import dataclasses
from fractions import Fraction

#: drops of a token, and nanoseconds of a second
SECOND = 10**9


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """Tokens a second in the long run, and tokens at once after a rest; both at least 1."""

    per_second: int
    burst: int

    def __post_init__(self) -> None:
        if self.per_second < 1 or self.burst < 1:
            raise ValueError("a rate lets at least one request pass")

    @property
    def full(self) -> int:
        """Drops in a full bucket."""
        return self.burst * SECOND


@dataclasses.dataclass(frozen=True, slots=True)
class Bucket:
    """Drops that were in it at a moment, in nanoseconds."""

    drops: int
    at: int

    def filled(self, rate: Rate, now: int) -> Bucket:
        """The same bucket now. A clock that is set back takes nothing away, and nothing comes until it is where it was."""
        return Bucket(min(rate.full, self.drops + rate.per_second * max(0, now - self.at)), max(now, self.at))


def new(rate: Rate, now: int) -> Bucket:
    return Bucket(rate.full, now)


def take(bucket: Bucket, rate: Rate, cost: int, now: int) -> tuple[Bucket, Fraction]:
    """The bucket after a request that costs so many tokens, and the seconds after which it would have been let pass: 0 where it is.

    A refused one takes nothing. One that costs more than a full bucket passes by a full one, or it never would.
    """
    filled, needed = bucket.filled(rate, now), min(cost * SECOND, rate.full)
    if filled.drops >= needed:
        return dataclasses.replace(filled, drops=filled.drops - needed), Fraction(0)
    # a bucket whose moment is ahead of the clock begins to fill then
    return filled, Fraction(needed - filled.drops, rate.per_second * SECOND) + Fraction(filled.at - now, SECOND)


class Buckets:
    """One bucket for each of many, by key; a full one for who has none. Not safe for threads."""

    def __init__(self, rate: Rate, most: int) -> None:
        """Of more than `most`, the one is forgotten that was not taken from for the longest time, which is the fullest."""
        self.rate, self._most = rate, most
        self._of: collections.OrderedDict[str, Bucket] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def wait(self, key: str, cost: int, now: int) -> Fraction:
        """The seconds after which so many tokens could be taken, which are not: 0 where they could be now."""
        return self._after(key, cost, now)[1]

    def take(self, key: str, cost: int, now: int) -> Fraction:
        """The seconds to wait, and nothing is taken; 0 where it is."""
        self._of[key], wait = self._after(key, cost, now)
        self._of.move_to_end(key)
        if len(self._of) > self._most:
            self._of.popitem(last=False)
        return wait

    def _after(self, key: str, cost: int, now: int) -> tuple[Bucket, Fraction]:
        return take(self._of.get(key) or new(self.rate, now), self.rate, cost, now)
