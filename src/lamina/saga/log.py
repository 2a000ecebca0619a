"""The saga log as a value, and the one decision made from it: what comes next.

A saga is a list of named steps. Its log holds at most one event of each kind for each step, and everything about the
saga follows from the log; no clock is consulted. A step's events go only along these lines:

    (nothing) ── done ── undone | undo-failed        undo-failed ── undone
    (nothing) ── failed ── undone | undo-failed

A saga with a ``failed`` event unwinds: the failed step's own undo runs too, because a step may fail after its effect.
Theory: H. Garcia-Molina and K. Salem, "Sagas", SIGMOD 1987; the event discipline is that of Oxide's steno.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

from lamina.model.errors import LaminaError


class State(enum.StrEnum):
    """Where a saga stands."""

    #: another saga holds its subject
    WAITING = "waiting"
    RUNNING = "running"
    UNWINDING = "unwinding"
    #: neither forward nor back without an operator
    STUCK = "stuck"
    DONE = "done"
    UNDONE = "undone"
    ABANDONED = "abandoned"


#: states in which a saga holds its subject
HOLDING = frozenset({State.RUNNING, State.UNWINDING, State.STUCK})
#: states that last
ENDED = frozenset({State.DONE, State.UNDONE, State.ABANDONED})


class Event(enum.StrEnum):
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"
    UNDO_FAILED = "undo-failed"


_MAY_FOLLOW: dict[Event, frozenset[Event | None]] = {
    Event.DONE: frozenset({None}),
    Event.FAILED: frozenset({None}),
    Event.UNDONE: frozenset({Event.DONE, Event.FAILED, Event.UNDO_FAILED}),
    Event.UNDO_FAILED: frozenset({Event.DONE, Event.FAILED}),
}


class CorruptLog(LaminaError):
    """The log says something that no run of a saga could have written."""

    code = "lamina.saga.corrupt_log"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. Times are seconds since the epoch and serve people only."""

    step: str
    event: Event
    number: int
    started_at: float
    finished_at: float
    output: Any = None
    error: dict[str, Any] | None = None
    host: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Do:
    step: str


@dataclasses.dataclass(frozen=True, slots=True)
class Undo:
    step: str


@dataclasses.dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do: the saga is done, or undone."""

    state: State


Move = Do | Undo | Finish


def latest(entries: Sequence[Entry]) -> dict[str, Event]:
    """The last event of each step. Raises `CorruptLog` where the events do not follow each other."""
    last: dict[str, Event] = {}
    for entry in sorted(entries, key=lambda e: e.number):
        if last.get(entry.step) not in _MAY_FOLLOW[entry.event]:
            raise CorruptLog(f"step {entry.step!r}: {entry.event} after {last.get(entry.step)}")
        last[entry.step] = entry.event
    return last


def unwinding(entries: Sequence[Entry]) -> bool:
    return any(e.event is Event.FAILED for e in entries)


def next_move(steps: Sequence[str], entries: Sequence[Entry]) -> Move:
    """What a saga with these steps and this log does next. Raises `CorruptLog`."""
    last = latest(entries)
    if last.keys() - set(steps):
        raise CorruptLog(f"events of unknown steps: {', '.join(sorted(last.keys() - set(steps)))}")
    begun = [step for step in steps if step in last]
    if begun != list(steps[: len(begun)]):
        raise CorruptLog(f"events out of order: {', '.join(begun)}")
    if unwinding(entries):
        for step in reversed(begun):
            if last[step] is not Event.UNDONE:
                return Undo(step)
        return Finish(State.UNDONE)
    if len(begun) < len(steps):
        return Do(steps[len(begun)])
    return Finish(State.DONE)
