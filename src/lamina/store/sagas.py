"""Queries over the saga log. Whoever writes to a saga proves with (owner, epoch) that it is still his."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from lamina.model import decoding
from lamina.model.errors import AlreadyExists, Conflict, HostUnreachable, NotFound
from lamina.store.inserting import insert_or_leave
from lamina.store.reading import Reader, Torn
from lamina.store.tables.control_planes import counters
from lamina.store.tables.operations import saga_events, sagas

#: most ids written into one statement
_MOST_TAKEN = 500
_HOLDING = ("running", "unwinding", "stuck")
_AT_REST = ("waiting", "done", "undone", "abandoned")


class LostLease(Conflict):
    """Another process has taken this saga over; what we learnt is dropped."""

    code = "lamina.saga.lost_lease"


@dataclasses.dataclass(frozen=True, slots=True)
class SagaRow:
    """One row of the table, as it lies there: whoever carries it on looks first whether what is in its JSON can be read."""

    seq: int
    id: str
    kind: str
    subject: str
    params: Any
    steps: list[str]
    state: str
    error: dict[str, Any] | None
    cancelled: bool
    owner: str | None
    lease_expires_at: float | None
    epoch: int
    action: str
    request_id: str
    global_request_id: str | None
    project_id: str
    user_id: str
    created_at: float
    updated_at: float
    abandoned_reason: str | None

    def waits_for(self, host: str) -> bool:
        """Whether it is stuck for no other reason than that this host did not answer."""
        error = self.error if isinstance(self.error, dict) else {}
        return self.state == "stuck" and (error.get("code"), error.get("host")) == (HostUnreachable.code, host)


@dataclasses.dataclass(frozen=True, slots=True)
class EventRow:
    saga_id: str
    step: str
    event: str
    number: int
    output: Any
    error: dict[str, Any] | None
    host: str | None
    started_at: float
    finished_at: float


def _checked(row: dict[str, Any]) -> SagaRow:
    if row["state"] not in (*_HOLDING, *_AT_REST):
        raise ValueError(f"there is no state {row['state']!r}")
    if row["params"] is None or isinstance(row["params"], Torn):
        raise ValueError("its parameters are gone")
    return decoding.from_plain(row, SagaRow)


#: for who looks for damage
SAGAS = Reader(sagas, SagaRow, decode=_checked)


def _row(row: sa.Row[Any]) -> SagaRow:
    return SagaRow(**row._mapping)


# built once: what every step asks costs less than putting its question together
_EPOCH = counters.c.name == "epoch"
_NEXT_EPOCH = sa.update(counters).where(_EPOCH).values(value=counters.c.value + 1).returning(counters.c.value)
_RAISE_EPOCH = sa.update(counters).where(_EPOCH, counters.c.value < sa.bindparam("least")).values(value=sa.bindparam("least"))
_BY_ID = sa.select(sagas).where(sagas.c.id == sa.bindparam("id"))
_OF_SUBJECT = sa.select(sagas).where(sagas.c.subject == sa.bindparam("subject")).order_by(sagas.c.seq)
_HOLDER = _OF_SUBJECT.where(sagas.c.state.in_(_HOLDING))
_FIRST_WAITING = _OF_SUBJECT.where(sagas.c.state == "waiting").limit(1)
_UNFINISHED = sa.select(sagas).where(sagas.c.state.in_((*_HOLDING, "waiting"))).order_by(sagas.c.seq)
_COUNTED = (
    sa.select(sagas.c.kind, sagas.c.state, sa.func.count().label("number"))
    .where(sagas.c.state.in_((*_HOLDING, "waiting")))
    .group_by(sagas.c.kind, sagas.c.state)
)
_STUCK = sa.select(sagas).where(sagas.c.state == "stuck").order_by(sagas.c.seq)
_KINDS = sa.select(sagas.c.subject, sagas.c.kind).where(
    sagas.c.state.in_((*_HOLDING, "waiting")), sagas.c.subject.in_(sa.bindparam("subjects", expanding=True))
)
_EVENTS = (
    sa.select(saga_events)
    .where(saga_events.c.saga_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(saga_events.c.saga_id, saga_events.c.number)
)
_OURS = (
    sa.update(sagas)
    .where(sagas.c.id == sa.bindparam("of_id"), sagas.c.owner == sa.bindparam("of_owner"), sagas.c.epoch == sa.bindparam("of_epoch"))
)
_APPEND = sa.insert(saga_events)


def next_epoch(tx: sa.Connection) -> int:
    """A number larger than every one given before, on every process of this database."""
    return int(tx.execute(_NEXT_EPOCH).scalar_one())


def newest_epoch(tx: sa.Connection) -> int:
    """The largest number that `next_epoch` has given."""
    return int(tx.scalar(sa.select(counters.c.value).where(counters.c.name == "epoch")) or 0)


def raise_epoch(tx: sa.Connection, epoch: int) -> bool:
    """Have `next_epoch` give larger numbers than this one; whether it did not yet."""
    return tx.execute(_RAISE_EPOCH, {"least": epoch}).rowcount == 1


def insert(tx: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Add sagas, each given by its columns. Raises `AlreadyExists` when another one holds a subject that one of these would hold too."""
    if insert_or_leave(tx, sagas, rows) < len(rows):
        raise AlreadyExists(f"an operation on {', '.join(str(row['subject']) for row in rows)} is running")


def get(tx: sa.Connection, saga_id: str) -> SagaRow:
    """Raises `NotFound`."""
    row = tx.execute(_BY_ID, {"id": saga_id}).one_or_none()
    if row is None:
        raise NotFound(f"Operation {saga_id} could not be found.")
    return _row(row)


def holder(tx: sa.Connection, subject: str) -> SagaRow | None:
    """The saga that holds `subject`, if any."""
    row = tx.execute(_HOLDER, {"subject": subject}).one_or_none()
    return _row(row) if row else None


def waiting(tx: sa.Connection, subject: str) -> SagaRow | None:
    """The saga that waits longest for `subject`, if any."""
    row = tx.execute(_FIRST_WAITING, {"subject": subject}).one_or_none()
    return _row(row) if row else None


def unfinished(tx: sa.Connection) -> list[SagaRow]:
    """All that hold a subject or wait for one, oldest first."""
    return [_row(row) for row in tx.execute(_UNFINISHED)]


def count_unfinished(tx: sa.Connection) -> dict[tuple[str, ...], int]:
    """(kind, state) -> how many that hold a subject or wait for one."""
    return {(row.kind, row.state): row.number for row in tx.execute(_COUNTED)}


def kinds_of(tx: sa.Connection, subjects: Iterable[str]) -> list[tuple[str, str]]:
    """Subject and kind of all that hold one of these subjects or wait for it."""
    named = sorted(set(subjects))
    return [(row.subject, row.kind) for row in tx.execute(_KINDS, {"subjects": named})] if named else []


def waiting_for(tx: sa.Connection, host: str) -> list[SagaRow]:
    """All that are stuck for no other reason than that this host did not answer, oldest first."""
    return [row for row in map(_row, tx.execute(_STUCK)) if row.waits_for(host)]


def of_subject(tx: sa.Connection, subject: str) -> list[SagaRow]:
    """Every saga of a subject, oldest first."""
    return [_row(row) for row in tx.execute(_OF_SUBJECT, {"subject": subject})]


def events(tx: sa.Connection, saga_ids: Iterable[str]) -> list[EventRow]:
    """Events of these sagas, in the order in which they were written within each."""
    return [EventRow(**row._mapping) for row in tx.execute(_EVENTS, {"ids": list(saga_ids)})]


def take(tx: sa.Connection, row: SagaRow, *, state: str, owner: str, lease_expires_at: float, now: float) -> int | None:
    """Make `owner` the one who runs the saga, under a new epoch, which is returned; None where somebody was faster."""
    epoch = next_epoch(tx)
    taken = tx.execute(
        sa.update(sagas)
        .where(sagas.c.id == row.id, sagas.c.epoch == row.epoch, sagas.c.state == row.state)
        .values(state=state, owner=owner, lease_expires_at=lease_expires_at, epoch=epoch, updated_at=now)
    )
    return epoch if taken.rowcount == 1 else None


def take_all(
    tx: sa.Connection, saga_ids: Sequence[str], *, owner: str, lease_expires_at: float, now: float, alone: bool
) -> set[str]:
    """Make `owner` the one who runs these, as far as their leases have run out by now, or are another's and nobody else is there.

    All under one new epoch. Returns the ids of those that are his now.
    """
    gone = sagas.c.lease_expires_at.is_(None) | (sagas.c.lease_expires_at <= now)
    if alone:
        gone |= sagas.c.owner != owner
    taken = (
        sa.update(sagas)
        .where(sagas.c.id.in_(sa.bindparam("ids", expanding=True)), sagas.c.state.in_(("running", "unwinding")), gone)
        .values(owner=owner, lease_expires_at=lease_expires_at, epoch=next_epoch(tx), updated_at=now)
        .returning(sagas.c.id)
    )
    parts = [saga_ids[start : start + _MOST_TAKEN] for start in range(0, len(saga_ids), _MOST_TAKEN)]
    return {found for part in parts for found in tx.scalars(taken, {"ids": part})}


def write(
    tx: sa.Connection, saga_id: str, *, owner: str, epoch: int, new_events: Sequence[EventRow], **columns: Any
) -> None:
    """Append events and set columns of a saga that is still ours. Raises `LostLease`."""
    done = tx.execute(_OURS.values(**columns), {"of_id": saga_id, "of_owner": owner, "of_epoch": epoch})
    if done.rowcount != 1:
        raise LostLease(f"saga {saga_id} was taken over")
    if new_events:
        try:
            tx.execute(_APPEND, [dataclasses.asdict(e) for e in new_events])
        except sa.exc.IntegrityError as error:
            raise LostLease(f"somebody else has written the next line of saga {saga_id}") from error


def extend_leases(tx: sa.Connection, *, owner: str, saga_ids: Iterable[str], lease_expires_at: float) -> None:
    """The heartbeat of all sagas that a process runs."""
    tx.execute(
        sa.update(sagas)
        .where(sagas.c.owner == owner, sagas.c.id.in_(list(saga_ids)), sagas.c.state.in_(("running", "unwinding")))
        .values(lease_expires_at=lease_expires_at)
    )


def let_go(tx: sa.Connection, *, owner: str) -> None:
    """Have whoever looks next take over the sagas of a process that ends."""
    mine = (sagas.c.owner == owner) & sagas.c.state.in_(("running", "unwinding"))
    tx.execute(sa.update(sagas).where(mine).values(lease_expires_at=0.0))


def cancel(tx: sa.Connection, saga_id: str) -> None:
    """Ask a saga to turn back at its next step, if it still may."""
    tx.execute(sa.update(sagas).where(sagas.c.id == saga_id).values(cancelled=True))


def is_cancelled(tx: sa.Connection, saga_id: str) -> bool:
    return bool(tx.scalar(sa.select(sagas.c.cancelled).where(sagas.c.id == saga_id)))


def operator_verdict(tx: sa.Connection, saga_id: str, *, state: str, reason: str | None, now: float) -> None:
    """What an operator decided of a stuck saga. Raises `NotFound`, and `Conflict` where it is not stuck."""
    row = get(tx, saga_id)
    values: dict[str, Any] = {"state": state, "updated_at": now, "abandoned_reason": reason, "owner": None, "lease_expires_at": None}
    done = tx.execute(sa.update(sagas).where(sagas.c.id == saga_id, sagas.c.state == "stuck").values(**values))
    if done.rowcount != 1:
        raise Conflict(f"Operation {saga_id} is {row.state}, not stuck.")
