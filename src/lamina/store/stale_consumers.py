"""Consumers of ours that hold allocations and should not: whose server is deleted, or whose migration is over.

That a consumer is ours is certain by its id: Lamina drew it at random for a row of the servers or of the migrations, and such
a row is kept for ever. The type it was given says the same once more. Whoever else uses the Placement API has other consumers,
whatever type he gives them, and none of them is found here. What pays for a recorded vGPU is ours too: only claims write those.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.servers import MigrationStatus
from lamina.store.tables.compute import migrations, servers
from lamina.store.tables.hosts import vgpus
from lamina.store.tables.placement import consumers

_OVER = [str(status) for status in MigrationStatus if status.is_over]


@dataclasses.dataclass(frozen=True, slots=True)
class StaleConsumer:
    """``hosts`` are those on which vGPUs are recorded for it."""

    consumer_id: str
    server_id: str
    why: str
    hosts: tuple[str, ...] = ()


def _those(*, one: bool) -> sa.CompoundSelect[str, str, str]:
    """All of them, or the one whose id is the parameter."""
    gone = (
        sa.select(consumers.c.id, servers.c.id.label("server_id"), sa.literal("its server is deleted").label("why"))
        .join_from(consumers, servers, servers.c.id == consumers.c.id)
        .where(consumers.c.type == "INSTANCE", servers.c.deleted_at.is_not(None))
    )
    over = (
        sa.select(consumers.c.id, migrations.c.server_id, sa.literal("its migration is over"))
        .join_from(consumers, migrations, migrations.c.id == consumers.c.id)
        .where(consumers.c.type == "MIGRATION", migrations.c.status.in_(_OVER))
    )
    nobodys = (
        sa.select(vgpus.c.consumer_id, vgpus.c.server_id, sa.literal("it pays for a vGPU of a server that is not known"))
        .join_from(vgpus, servers, servers.c.id == vgpus.c.server_id, isouter=True)
        .where(servers.c.id.is_(None))
    )
    if one:
        consumer_id: sa.BindParameter[str] = sa.bindparam("consumer_id")
        gone, over = gone.where(consumers.c.id == consumer_id), over.where(consumers.c.id == consumer_id)
        nobodys = nobodys.where(vgpus.c.consumer_id == consumer_id)
    return sa.union(gone, over, nobodys)


_ALL, _ONE = _those(one=False), _those(one=True)


def find(tx: sa.Connection, consumer_id: str | None = None) -> list[StaleConsumer]:
    """All of them, or the one if it is stale, in the order of their ids."""
    found = tx.execute(_ALL) if consumer_id is None else tx.execute(_ONE, {"consumer_id": consumer_id})
    rows = sorted(found, key=lambda row: row.id)
    if not rows:
        return []
    held: dict[str, set[str]] = {}
    for row in tx.execute(sa.select(vgpus.c.consumer_id, vgpus.c.host).where(vgpus.c.consumer_id.in_([row.id for row in rows]))):
        held.setdefault(row.consumer_id, set()).add(row.host)
    return [StaleConsumer(row.id, row.server_id, row.why, tuple(sorted(held.get(row.id, ())))) for row in rows]
