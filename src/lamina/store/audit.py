"""The audit trail: events are added and looked at, and nothing else.

What a request changes and the record that it was asked for are one commit: whoever answers a request says whose it is with
`accompanied`, and the first transaction that changes anything within has the record as its last statement
(`lamina.store.database`).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Any

import sqlalchemy as sa

from lamina.model import decoding
from lamina.model.audit import Event, Initiator, Kind, Outcome, Target
from lamina.store.paging import Direction, ordered
from lamina.store.reading import Reader
from lamina.store.tables.audit import audit_events
from lamina.store.tables.identity import login_failures

#: the execution option of a writing connection that holds the events its transaction has recorded
RECORDED = "lamina_audit_recorded"
#: tables in which is noted what was refused: who fails to log in changes nothing
_OF_REFUSALS = frozenset({login_failures})


class Accompanied:
    """An event that waits for the first change to be recorded with."""

    def __init__(self, event: Callable[[], Event | None]) -> None:
        self.event = event
        #: whether it was, and is there for good
        self.recorded = False


_waiting: contextvars.ContextVar[Accompanied | None] = contextvars.ContextVar("lamina_audit", default=None)


@contextlib.contextmanager
def accompanied(event: Callable[[], Event | None]) -> Iterator[Accompanied]:
    """Record this event, if there is one by then, with the first change that is committed in the block.

    In this thread, and in those that have its context.
    """
    waiting = Accompanied(event)
    token = _waiting.set(waiting)
    try:
        yield waiting
    finally:
        _waiting.reset(token)


def accompany(tx: sa.Connection, wrote: Set[Any]) -> Callable[[], None]:
    """Record what waits with a transaction that has written to these tables. Returns what is to be called after its commit."""
    waiting = _waiting.get()
    if waiting is None or waiting.recorded or not wrote - _OF_REFUSALS:
        return _nothing
    event = waiting.event()
    if event is None:
        return _nothing
    record(tx, event)

    def committed() -> None:
        waiting.recorded = True

    return committed


def _nothing() -> None:
    pass


#: nobody needs to know the number that a row gets
_ADD = sa.insert(audit_events).inline()


def record(tx: sa.Connection, *events: Event) -> None:
    """Add events to a transaction. Raises KeyError in one that only reads."""
    recorded: list[Event] = tx.get_execution_options()[RECORDED]
    tx.execute(_ADD, [_columns(event) for event in events])
    recorded += events


def _columns(event: Event) -> dict[str, Any]:
    who, what = event.initiator, event.target
    return {
        "event_id": event.id,
        "at": event.at,
        "action": event.action,
        "outcome": str(event.outcome),
        "status": event.status,
        "initiator_kind": str(who.kind),
        "initiator_id": who.id,
        "initiator_name": who.name,
        "project_id": who.project_id,
        "address": who.address,
        "agent": who.agent,
        "target_kind": what.kind,
        "target_id": what.id,
        "target_of": what.of,
        "observer": event.observer,
        "request_id": event.request_id,
        "global_request_id": event.global_request_id,
        "path": event.path,
        "more": dict(event.more),
    }


_later = audit_events.alias()
#: an event of two rows is what its later one says
_LAST = ~sa.exists().where(_later.c.event_id == audit_events.c.event_id, _later.c.seq > audit_events.c.seq)


@dataclasses.dataclass(frozen=True, slots=True)
class Sought:
    """Which events; None for all. Moments are seconds since the epoch, `since` included and `until` not."""

    since: float | None = None
    until: float | None = None
    #: an id or a name
    user: str | None = None
    project: str | None = None
    #: the object's id, or that of the object which has it
    target: str | None = None
    #: what the action has in it
    action: str | None = None
    outcome: Outcome | None = None
    #: the request's own id or the global one
    request: str | None = None

    def conditions(self) -> Iterable[sa.ColumnElement[bool]]:
        c = audit_events.c
        if self.since is not None:
            yield c.at >= self.since
        if self.until is not None:
            yield c.at < self.until
        if self.user is not None:
            yield sa.or_(c.initiator_id == self.user, c.initiator_name == self.user)
        if self.project is not None:
            yield c.project_id == self.project
        if self.target is not None:
            yield sa.or_(c.target_id == self.target, c.target_of == self.target)
        if self.action is not None:
            yield c.action.contains(self.action, autoescape=True)
        if self.outcome is not None:
            yield c.outcome == str(self.outcome)
        if self.request is not None:
            yield sa.or_(c.request_id == self.request, c.global_request_id == self.request)


def page(tx: sa.Connection, sought: Sought, *, limit: int, marker: int | None, direction: Direction) -> list[tuple[int, Event]]:
    """Events with their numbers in the trail, in its order, from behind the number `marker`, but damaged ones."""
    query = sa.select(audit_events).where(_LAST, *sought.conditions())
    query = ordered(query, [(audit_events.c.seq, direction)], None if marker is None else [marker])
    return EVENTS.page(tx, query, limit)


def _event(row: dict[str, Any]) -> Event:
    return Event(
        id=row["event_id"],
        at=row["at"],
        action=row["action"],
        outcome=Outcome(row["outcome"]),
        initiator=Initiator(
            Kind(row["initiator_kind"]),
            row["initiator_id"],
            row["initiator_name"],
            row["project_id"],
            row["address"],
            row["agent"],
        ),
        target=Target(row["target_kind"], row["target_id"], row["target_of"]),
        observer=row["observer"],
        request_id=row["request_id"],
        global_request_id=row["global_request_id"],
        status=row["status"],
        path=row["path"],
        more=decoding.from_plain(row["more"], dict[str, Any]),
    )


def _numbered(row: dict[str, Any]) -> tuple[int, Event]:
    return row["seq"], _event(row)


EVENTS = Reader(audit_events, tuple[int, Event], key=("seq",), decode=_numbered)
