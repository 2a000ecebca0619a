"""How often somebody may ask: a bucket of tokens that fills at a steady rate and from which every request takes.

All arithmetic is in whole numbers and exact: times in nanoseconds, what is in a bucket in *drops*, of which a token is as many as
there are nanoseconds in a second. So a rate of N tokens a second is N drops a nanosecond, and nothing is ever rounded.
"""

from __future__ import annotations

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
