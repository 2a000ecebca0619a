"""The control planes that run on this database, each with where it is reached and when it was last heard of."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.store.tables.control_planes import replicas


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """One process. ``agents_url`` is where hosts dial in, None where they cannot."""

    id: str
    public_url: str
    agents_url: str | None
    version: str
    started_at: float
    heard_at: float


def put(tx: sa.Connection, replica: Replica) -> None:
    """Write down that a replica is there."""
    columns = dataclasses.asdict(replica)
    if tx.execute(sa.update(replicas).where(replicas.c.id == replica.id).values(**columns)).rowcount == 0:
        tx.execute(sa.insert(replicas).values(**columns))


def heard_since(tx: sa.Connection, moment: float) -> list[Replica]:
    """Those that were heard of after a moment, by their addresses."""
    query = sa.select(replicas).where(replicas.c.heard_at >= moment).order_by(replicas.c.public_url, replicas.c.id)
    return [Replica(**row._mapping) for row in tx.execute(query)]


def forget(tx: sa.Connection, replica_id: str) -> None:
    tx.execute(sa.delete(replicas).where(replicas.c.id == replica_id))


def forget_silent(tx: sa.Connection, before: float) -> None:
    """Those that were not heard of since a moment."""
    tx.execute(sa.delete(replicas).where(replicas.c.heard_at < before))
