"""How many logins of an address may fail, and how many are checked at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model.errors import TooManyRequests
from lamina.operations import login_limits
from lamina.operations.login_limits import LoginLimits

FAILURES, WINDOW = 5, 50


def limits(*, at_once: int = 4) -> LoginLimits:
    return LoginLimits(failures=FAILURES, window=WINDOW, at_once=at_once)


def attempt(of: LoginLimits, address: str, now: float, *, fails: bool = True) -> bool:
    """Whether it was looked at."""
    try:
        with of.turn(address, now):
            pass
    except TooManyRequests:
        return False
    if fails:
        of.failed(address, now)
    return True


@pytest.mark.weakness(307)
def test_so_many_fail_and_no_more_until_time_has_passed() -> None:
    of = limits()
    assert [attempt(of, "a", 0.0) for _ in range(FAILURES + 2)] == [True] * FAILURES + [False] * 2
    assert not attempt(of, "a", WINDOW / FAILURES - 1)
    assert attempt(of, "a", WINDOW / FAILURES)
    assert not attempt(of, "a", WINDOW / FAILURES)
    assert [attempt(of, "a", 10.0 * WINDOW) for _ in range(FAILURES + 1)] == [True] * FAILURES + [False]


def test_without_a_number_as_many_as_like() -> None:
    of = LoginLimits(failures=None, window=WINDOW, at_once=1)
    assert all(attempt(of, "a", 0.0) for _ in range(100 * FAILURES))


def test_it_says_when_to_ask_again() -> None:
    of = limits()
    for _ in range(FAILURES):
        of.failed("a", 3.0)
    with pytest.raises(TooManyRequests) as refused, of.turn("a", 5.0):
        pass
    assert refused.value.retry_after == WINDOW / FAILURES - 2


def test_what_is_right_costs_nothing_and_others_are_others() -> None:
    of = limits()
    assert all(attempt(of, "a", 0.0, fails=False) for _ in range(10 * FAILURES))
    assert [attempt(of, "a", 0.0) for _ in range(FAILURES + 1)][-1] is False
    assert attempt(of, "b", 0.0)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_in_no_window_do_more_fail_than_twice_what_may(steps: list[tuple[int, bool]]) -> None:
    """A bucket that is full lets as many pass as it fills by in its window, and those that were in it."""
    of, now, failed = limits(), 0, []
    for pause, fails in steps:
        now += pause
        if attempt(of, "a", float(now), fails=fails) and fails:
            failed.append(now)
    for start in failed:
        assert sum(start <= moment < start + WINDOW for moment in failed) <= 2 * FAILURES


@pytest.mark.weakness(770)
def test_no_more_are_in_line_than_there_are_places() -> None:
    of = limits(at_once=2)
    with of.turn("a", 0.0), of.turn("b", 0.0):
        with pytest.raises(TooManyRequests) as refused, of.turn("c", 0.0):
            pass
        assert refused.value.retry_after > 0
    assert attempt(of, "c", 0.0)


def test_a_place_is_given_back_whatever_happens() -> None:
    of = limits(at_once=1)
    for _ in range(3):
        with pytest.raises(LookupError), of.turn("a", 0.0):
            raise LookupError
    assert attempt(of, "a", 0.0)


@pytest.mark.weakness(770)
def test_a_flood_of_addresses_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_limits, "MOST_KEPT", 10)
    of = limits()
    for number in range(1000):
        of.failed(str(number), 0.0)
    assert len(of._failed) == 10
