"""Which sagas a process takes up: a pure plan from the rows of the log, carried out by the runner."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from lamina.saga.log import HOLDING, State


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What a plan needs to know of one saga that has not ended."""

    id: str
    kind: str
    subject: str
    state: State
    owner: str | None
    lease_expires_at: float | None
    #: order of enlisting
    seq: int


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """``take``: sagas to run, whose owner is gone; ``promote``: waiting sagas whose subject is free now;
    ``overrule``: (stuck, waiting) sagas, of which the stuck one is given up for the one that waits behind it;
    ``unknown``: sagas of kinds that this version does not know, left to one that does."""

    take: tuple[str, ...]
    promote: tuple[str, ...]
    unknown: tuple[str, ...]
    overrule: tuple[tuple[str, str], ...] = ()


def plan(found: Iterable[Found], *, me: str, mine: Collection[str], now: float, alone: bool, kinds: Collection[str]) -> Plan:
    """What process `me`, which is running `mine`, should take up now.

    A saga is free when its lease ran out, or when `alone` says that no other process can exist on this database and it
    is not one of `mine`.
    """
    take, promote, unknown, overrule = [], [], [], []
    rows = sorted(found, key=lambda f: f.seq)
    held = {f.subject for f in rows if f.state in HOLDING}
    stuck = {f.subject: f.id for f in rows if f.state is State.STUCK}
    for row in rows:
        if row.kind not in kinds:
            unknown.append(row.id)
        elif row.state is State.WAITING:
            if row.subject in stuck:  # only what may interrupt waits, and it gives up what is stuck
                overrule.append((stuck.pop(row.subject), row.id))
            elif row.subject not in held:
                promote.append(row.id)
                held.add(row.subject)
        elif row.state in (State.RUNNING, State.UNWINDING) and row.id not in mine:
            expired = row.lease_expires_at is None or row.lease_expires_at <= now
            if expired or (alone and row.owner != me):
                take.append(row.id)
    return Plan(tuple(take), tuple(promote), tuple(unknown), tuple(overrule))
