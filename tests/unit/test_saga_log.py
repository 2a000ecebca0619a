"""What comes next follows from the log alone, and a log that no run could have written is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.saga.log import CorruptLog, Do, Entry, Event, Finish, State, Undo, latest, next_move, unwinding

STEPS = ("a", "b", "c")


def entries(*lines: tuple[str, Event]) -> list[Entry]:
    return [Entry(step, event, number, 0.0, 0.0) for number, (step, event) in enumerate(lines, start=1)]


@pytest.mark.parametrize(
    ("lines", "move"),
    [
        ([], Do("a")),
        ([("a", Event.DONE)], Do("b")),
        ([("a", Event.DONE), ("b", Event.DONE), ("c", Event.DONE)], Finish(State.DONE)),
        ([("a", Event.FAILED)], Undo("a")),
        ([("a", Event.DONE), ("b", Event.FAILED)], Undo("b")),
        ([("a", Event.DONE), ("b", Event.FAILED), ("b", Event.UNDONE)], Undo("a")),
        ([("a", Event.DONE), ("b", Event.FAILED), ("b", Event.UNDO_FAILED)], Undo("b")),
        ([("a", Event.FAILED), ("a", Event.UNDONE)], Finish(State.UNDONE)),
    ],
)
def test_next_move(lines: list[tuple[str, Event]], move: object) -> None:
    assert next_move(STEPS, entries(*lines)) == move


@pytest.mark.parametrize(
    "lines",
    [
        [("a", Event.UNDONE)],
        [("a", Event.DONE), ("a", Event.DONE)],
        [("a", Event.DONE), ("a", Event.FAILED)],
        [("b", Event.DONE)],
        [("z", Event.DONE)],
        [("a", Event.DONE), ("a", Event.UNDONE), ("a", Event.UNDONE)],
    ],
)
def test_a_log_that_no_run_wrote_is_refused(lines: list[tuple[str, Event]]) -> None:
    with pytest.raises(CorruptLog):
        next_move(STEPS, entries(*lines))


@given(st.lists(st.booleans(), max_size=40))
def test_every_run_ends_with_each_begun_step_undone_or_all_done(outcomes: list[bool]) -> None:
    """Follow the moves, a coin deciding each outcome: the run ends, in order, and undoes exactly what it began."""
    log: list[Entry] = []
    coin = iter(outcomes)
    for _ in range(100):
        move = next_move(STEPS, log)
        if isinstance(move, Finish):
            break
        ok = next(coin, True)
        if isinstance(move, Do):
            event = Event.DONE if ok else Event.FAILED
        else:
            # an undo that failed once is tried until it is done
            event = Event.UNDONE if ok or latest(log)[move.step] is Event.UNDO_FAILED else Event.UNDO_FAILED
        log.append(Entry(move.step, event, len(log) + 1, 0.0, 0.0))
    else:
        pytest.fail("the run did not end")
    last = latest(log)
    if unwinding(log):
        assert move == Finish(State.UNDONE)
        assert set(last.values()) == {Event.UNDONE}
    else:
        assert move == Finish(State.DONE)
        assert last == dict.fromkeys(STEPS, Event.DONE)
