"""The bucket: exact, never more than it promises in any window, never less to who waits as told."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import rates
from lamina.model.rates import SECOND, Bucket, Rate

pytestmark = pytest.mark.weakness(770)

RATES = st.builds(Rate, per_second=st.integers(1, 10_000), burst=st.integers(1, 100_000))
#: (nanoseconds since the last one, cost)
ASKED = st.lists(st.tuples(st.integers(0, 5 * SECOND), st.integers(1, 20)), max_size=60)
START = 1_800_000_000 * SECOND


def passed(rate: Rate, asked: list[tuple[int, int]]) -> list[tuple[int, int, Fraction]]:
    """(when, tokens taken, seconds to wait) of each request."""
    now, bucket, seen = START, rates.new(rate, START), []
    for gap, cost in asked:
        now += gap
        bucket, wait = rates.take(bucket, rate, cost, now)
        seen.append((now, 0 if wait else min(cost, rate.burst), wait))
    return seen


@given(RATES, ASKED)
def test_no_window_lets_more_pass_than_the_burst_and_what_flows_in_meanwhile(rate: Rate, asked: list[tuple[int, int]]) -> None:
    seen = passed(rate, asked)
    for first, (begin, _, _) in enumerate(seen):
        taken = 0
        for end, tokens, _ in seen[first:]:
            taken += tokens
            assert taken <= rate.burst + Fraction(rate.per_second * (end - begin), SECOND)


@given(RATES, ASKED)
def test_who_waits_as_told_passes_and_who_comes_a_nanosecond_sooner_does_not(rate: Rate, asked: list[tuple[int, int]]) -> None:
    now, bucket = START, rates.new(rate, START)
    for gap, cost in asked:
        now += gap
        bucket, wait = rates.take(bucket, rate, cost, now)
        if wait:
            then = now + -int(-wait * SECOND // 1)  # the first whole nanosecond that is late enough
            assert rates.take(bucket, rate, cost, then)[1] == 0
            assert rates.take(bucket, rate, cost, then - 1)[1] > 0


@given(RATES, st.integers(1, 20))
def test_a_steady_pace_at_the_rate_is_never_refused(rate: Rate, cost: int) -> None:
    step = -(-min(cost, rate.burst) * SECOND // rate.per_second)
    assert all(wait == 0 for _, _, wait in passed(rate, [(step, cost)] * 40))


@given(RATES, ASKED)
def test_a_refused_request_costs_nothing(rate: Rate, asked: list[tuple[int, int]]) -> None:
    now, bucket = START, rates.new(rate, START)
    for gap, cost in asked:
        now += gap
        after, wait = rates.take(bucket, rate, cost, now)
        if wait:
            assert after == bucket.filled(rate, now)
        bucket = after
        assert 0 <= bucket.drops <= rate.full


@given(RATES, st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_filling_in_two_goes_is_filling_in_one(rate: Rate, drops: int, one: int, two: int) -> None:
    bucket = Bucket(min(drops, rate.full), START)
    assert bucket.filled(rate, START + one).filled(rate, START + one + two) == bucket.filled(rate, START + one + two)


def test_a_clock_that_is_set_back_neither_gives_nor_takes() -> None:
    rate = Rate(per_second=2, burst=4)
    bucket, _ = rates.take(rates.new(rate, START), rate, 4, START)
    same, wait = rates.take(bucket, rate, 1, START - 3 * SECOND)
    assert same == bucket
    assert wait == Fraction(7, 2)
    assert rates.take(same, rate, 1, START + SECOND // 2)[1] == 0


def test_more_than_a_full_bucket_passes_by_a_full_one() -> None:
    rate = Rate(per_second=1, burst=3)
    bucket, wait = rates.take(rates.new(rate, START), rate, 5, START)
    assert (bucket.drops, wait) == (0, Fraction(0))
    assert rates.take(bucket, rate, 5, START)[1] == 3


@pytest.mark.parametrize("words", [(0, 1), (1, 0), (-1, 5)])
def test_a_rate_lets_something_pass(words: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Rate(*words)
