"""Damaged records: all that can be found without being asked for, and the servers that have any.

What is over (servers that are gone, operations and migrations that have ended) and what only grows (the audit trail, repairs) is
not gone through here: whoever asks for it passes over what is damaged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import CorruptRecord
from lamina.model.servers import MigrationStatus
from lamina.store import tables
from lamina.store.aggregates import AGGREGATES
from lamina.store.flavors import FLAVORS
from lamina.store.hosts import GPUS, HOSTS, VGPUS
from lamina.store.images import IMAGES
from lamina.store.reading import Reader, pass_over
from lamina.store.sagas import SAGAS
from lamina.store.server_groups import GROUPS
from lamina.store.servers import MIGRATIONS, SERVERS

_servers, _migrations, _sagas, _vgpus = tables.compute.servers, tables.compute.migrations, tables.operations.sagas, tables.hosts.vgpus
#: states are asked for by what they are not, so that a damaged one is found too
_WHOLE: tuple[tuple[Reader[Any], sa.ColumnElement[bool]], ...] = (
    *((reader, sa.true()) for reader in (HOSTS, GPUS, VGPUS, FLAVORS, IMAGES, GROUPS, AGGREGATES)),
    (SERVERS, _servers.c.deleted_at.is_(None)),
    (MIGRATIONS, _migrations.c.status.not_in([str(status) for status in MigrationStatus if status.is_over])),
    (SAGAS, _sagas.c.state.not_in(["done", "undone", "abandoned"])),
)
_OF_SERVERS: tuple[tuple[Reader[Any], sa.Column[Any]], ...] = (
    (SERVERS, _servers.c.id),
    (VGPUS, _vgpus.c.server_id),
    (MIGRATIONS, _migrations.c.server_id),
    (SAGAS, _sagas.c.subject),
)


def name_all(tx: sa.Connection) -> None:
    """Have every damaged record named in the log."""
    for reader, condition in _WHOLE:
        for _ in reader.readable(tx.execute(sa.select(reader.table).where(condition))):
            pass


def of_servers(tx: sa.Connection, server_ids: Collection[str]) -> frozenset[str]:
    """Those of the servers of which any record is damaged: nobody knows what they have, and where."""
    return frozenset(_found(tx, server_ids)) if server_ids else frozenset()


def _found(tx: sa.Connection, server_ids: Collection[str]) -> Iterator[str]:
    for reader, server_id in _OF_SERVERS:
        for row in tx.execute(sa.select(reader.table).where(server_id.in_(sorted(server_ids)))):
            try:
                reader.one(row)
            except CorruptRecord as error:
                pass_over(error)
                yield row._mapping[server_id]
