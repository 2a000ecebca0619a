"""Servers that wait for room, and when each project was last served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from lamina.model import decoding
from lamina.model.queueing import Waiting
from lamina.store.reading import UNREADABLE, corrupt
from lamina.store.tables.control_planes import queue, queue_turns

P = TypeVar("P")


def _waiting(row: sa.Row[Any]) -> Waiting:
    return Waiting(row.server_id, row.project_id, row.queued_at, row.expires_at, row.reason)


def join(tx: sa.Connection, one: Waiting, *, user_id: str, request_id: str, global_request_id: str | None, params: Any) -> None:
    """`params` are plain values from which its creation goes on."""
    row = {"server_id": one.server_id, "project_id": one.project_id, "queued_at": one.queued_at, "expires_at": one.expires_at}
    asked = {"user_id": user_id, "request_id": request_id, "global_request_id": global_request_id}
    tx.execute(sa.insert(queue).values(**row, **asked, reason=one.reason, params=params))


def leave(tx: sa.Connection, server_id: str) -> sa.Row[Any] | None:
    """Take a server out of the queue; its row, or None where it was in none."""
    return tx.execute(sa.delete(queue).where(queue.c.server_id == server_id).returning(queue)).one_or_none()


def all_waiting(tx: sa.Connection) -> list[Waiting]:
    return [_waiting(row) for row in tx.execute(sa.select(queue).order_by(queue.c.queued_at, queue.c.server_id))]


def count(tx: sa.Connection) -> int:
    return int(tx.scalar(sa.select(sa.func.count()).select_from(queue)) or 0)


def creation_of(tx: sa.Connection, server_id: str, type: type[P]) -> tuple[P, str] | None:
    """What its creation goes on from, and the user who asked for it; None where it waits no more. Raises `CorruptRecord`."""
    row = tx.execute(sa.select(queue.c.params, queue.c.user_id).where(queue.c.server_id == server_id)).one_or_none()
    if row is None:
        return None
    try:
        return decoding.from_plain(row.params, type), row.user_id
    except UNREADABLE as error:  # what it says is told to nobody: user data may be in it
        raise corrupt(queue.name, server_id, cause=f"params is no {type.__name__}") from error


def tell(tx: sa.Connection, server_id: str, reason: str) -> None:
    """Why it has no room now."""
    tx.execute(sa.update(queue).where(queue.c.server_id == server_id, queue.c.reason != reason).values(reason=reason))


def served(tx: sa.Connection, project_id: str, now: float) -> None:
    """A project has got something out of the queue."""
    if tx.execute(sa.update(queue_turns).where(queue_turns.c.project_id == project_id).values(served_at=now)).rowcount == 0:
        tx.execute(sa.insert(queue_turns).values(project_id=project_id, served_at=now))


def served_at(tx: sa.Connection) -> Mapping[str, float]:
    """Project -> when it last got something, of those that have anything waiting."""
    asked = sa.select(queue_turns).where(queue_turns.c.project_id.in_(sa.select(queue.c.project_id)))
    return {row.project_id: row.served_at for row in tx.execute(asked)}
