"""Queries over servers and their migrations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.model.errors import BadRequest, ConcurrentUpdate, NotFound
from lamina.model.servers import EVACUATION, Fault, Migration, MigrationStatus, Server, TaskState, VmState
from lamina.store.reading import Reader, text_in
from lamina.store.tables.compute import migrations, servers

#: columns that a listing may be sorted by, by the Compute API's name
SORT_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    "created_at": servers.c.created_at,
    "updated_at": servers.c.updated_at,
    "display_name": servers.c.name,
    "name": servers.c.name,
    "host": servers.c.host,
    "uuid": servers.c.id,
    "vm_state": servers.c.vm_state,
    "task_state": servers.c.task_state,
    "power_state": servers.c.power_state,
    "project_id": servers.c.project_id,
    "user_id": servers.c.user_id,
    "launched_at": servers.c.launched_at,
    "terminated_at": servers.c.terminated_at,
    "key_name": servers.c.key_name,
    "hostname": servers.c.hostname,
    "availability_zone": servers.c.zone,
    "display_description": servers.c.description,
    "image_ref": servers.c.image_id,
    "locked": sa.cast(servers.c.locked, sa.Integer),
}

#: of the flavor that a server was last given
_flavor_id = text_in(servers.c.flavor, "id")
#: most ids written into one query
_MOST_NAMED = 500
#: the servers of migrations in these states may be in two places
_MOVING = [str(status) for status in MigrationStatus if not status.has_arrived]
_ARRIVED = [str(status) for status in MigrationStatus if status.has_arrived]


SERVERS = Reader(servers, Server)
MIGRATIONS = Reader(migrations, Migration)


def _columns(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: msgspec.to_builtins(value) for key, value in changes.items()}


def insert(tx: sa.Connection, made: Iterable[Server]) -> None:
    fields = dataclasses.fields(Server)
    tx.execute(sa.insert(servers), [_columns({f.name: getattr(server, f.name) for f in fields}) for server in made])


_BY_ID = sa.select(servers).where(servers.c.id == sa.bindparam("id"))
_ON_HOST = sa.select(servers).where(servers.c.host == sa.bindparam("host"), servers.c.deleted_at.is_(None))
_MOVING_HERE = sa.select(migrations.c.id, migrations.c.server_id).where(
    (migrations.c.source_host == sa.bindparam("host")) | (migrations.c.dest_host == sa.bindparam("host")), migrations.c.status.in_(_MOVING)
)
_EVACUATED = (
    sa.select(migrations)
    .where(migrations.c.type == EVACUATION, migrations.c.status == MigrationStatus.DONE)
    .order_by(migrations.c.seq.desc())
)
#: one whose status is damaged may be one of them
_EVACUATED_OF = (
    sa.select(migrations)
    .where(
        migrations.c.type == EVACUATION,
        migrations.c.server_id == sa.bindparam("server_id"),
        migrations.c.status.not_in([str(status) for status in MigrationStatus if status is not MigrationStatus.DONE]),
    )
    .order_by(migrations.c.seq.desc())
)
_EVACUATED_FROM = _EVACUATED.where(migrations.c.source_host == sa.bindparam("host"))


def get(tx: sa.Connection, server_id: str, project_id: str | None = None, *, deleted: bool = False) -> Server:
    """One server; with `project_id` only if it belongs there. Deleted ones only if asked for.

    Raises `NotFound`, `CorruptRecord`.
    """
    row = tx.execute(_BY_ID, {"id": server_id}).one_or_none()
    if row is None or (row.deleted_at is not None and not deleted) or project_id not in (None, row.project_id):
        raise NotFound(f"Instance {server_id} could not be found.")
    return SERVERS.one(row)


def update(tx: sa.Connection, server_id: str, now: float, *, expected: int | None = None, **changes: Any) -> None:
    """Set columns of a server and raise its generation.

    A server marked for deletion keeps that task_state whatever a still running operation would set. Raises
    `ConcurrentUpdate` where `expected` is not the server's generation any more, `NotFound` where it is gone.
    """
    columns: dict[Any, Any] = _columns(changes)
    if "task_state" in columns and columns.get("vm_state") != VmState.DELETED:
        columns["task_state"] = sa.case((servers.c.task_state == TaskState.DELETING, TaskState.DELETING), else_=columns["task_state"])
    query = sa.update(servers).where(servers.c.id == server_id).values(**columns, updated_at=now, generation=servers.c.generation + 1)
    if expected is not None:
        query = query.where(servers.c.generation == expected)
    if tx.execute(query).rowcount != 1:
        if expected is None:
            raise NotFound(f"Instance {server_id} could not be found.")
        raise ConcurrentUpdate(f"Instance {server_id} was changed by somebody else; try again.")


_GENERATION = sa.select(servers.c.generation).where(servers.c.id == sa.bindparam("id")).with_for_update()


def hold(tx: sa.Connection, server_id: str, *, expected: int) -> None:
    """Have a server stay as it is to the end of the transaction. Raises `ConcurrentUpdate` where `expected` is not its generation."""
    if tx.scalar(_GENERATION, {"id": server_id}) != expected:
        raise ConcurrentUpdate(f"Instance {server_id} was changed by somebody else; try again.")


def page(
    tx: sa.Connection,
    conditions: Iterable[sa.ColumnElement[bool]] = (),
    *,
    sort: Iterable[tuple[str, str]] = (("created_at", "desc"),),
    limit: int | None = None,
    marker: str | None = None,
) -> list[Server]:
    """Servers that meet every condition, sorted by (column of `SORT_COLUMNS`, asc|desc), after `marker`.

    Damaged ones are passed over. Raises `BadRequest` for an unknown column, direction or marker.
    """
    order: list[tuple[sa.ColumnElement[Any], bool]] = []
    for key, direction in sort:
        if key not in SORT_COLUMNS:
            raise BadRequest(f"sort_key: {key[:80]!r} is not one of {', '.join(sorted(SORT_COLUMNS))}")
        if direction not in ("asc", "desc"):
            raise BadRequest(f"sort_dir: {direction[:80]!r} is neither 'asc' nor 'desc'")
        column = SORT_COLUMNS[key]
        # a NULL sorts first everywhere, so that a page that begins after one means the same on every database
        order.append((sa.case((column.is_(None), 0), else_=1), direction == "asc"))
        order.append((column, direction == "asc"))
    order.append((servers.c.seq, order[-1][1] if order else False))
    query = sa.select(servers).where(*conditions)
    if marker is not None:
        at = tx.execute(sa.select(*(c for c, _ in order)).where(servers.c.id == marker)).one_or_none()
        if at is None:
            raise BadRequest(f"marker [{marker[:80]}] not found")
        query = query.where(_after(order, tuple(at)))
    query = query.order_by(*(column.asc() if rising else column.desc() for column, rising in order))
    return SERVERS.page(tx, query, limit)


def _after(order: list[tuple[sa.ColumnElement[Any], bool]], at: tuple[Any, ...]) -> sa.ColumnElement[bool]:
    """Rows strictly behind `at` in the given order: (a > x) or (a = x and (b > y or …))."""
    condition: sa.ColumnElement[bool] = sa.false()
    for (column, rising), value in zip(reversed(order), reversed(at), strict=True):
        if value is None:
            continue  # equal by the preceding NULL marker
        further = column > value if rising else column < value
        condition = sa.or_(further, sa.and_(column == value, condition))
    return condition


def on_host(tx: sa.Connection, host: str) -> list[Server]:
    """Servers whose place is this host. Raises `CorruptRecord`."""
    return SERVERS.every(tx.execute(_ON_HOST, {"host": host}))


def readable_on(tx: sa.Connection, host: str) -> list[Server]:
    """Servers whose place is this host, but damaged ones."""
    return list(SERVERS.readable(tx.execute(_ON_HOST, {"host": host})))


def find(tx: sa.Connection, server_id: str) -> Server | None:
    """A server that there is or was, a deleted one too. Raises `CorruptRecord`."""
    row = tx.execute(_BY_ID, {"id": server_id}).one_or_none()
    return SERVERS.one(row) if row is not None else None


def readable(tx: sa.Connection, server_ids: Iterable[str]) -> dict[str, Server]:
    """Those of the servers that there are or were, deleted ones too, by id; damaged ones are passed over."""
    wanted = sorted(set(server_ids))
    found: dict[str, Server] = {}
    for start in range(0, len(wanted), _MOST_NAMED):
        query = sa.select(servers).where(servers.c.id.in_(wanted[start : start + _MOST_NAMED]))
        found |= {server.id: server for server in SERVERS.readable(tx.execute(query))}
    return found


def moving(tx: sa.Connection, host: str) -> dict[str, str]:
    """Migration -> server, of the migrations from or to this host whose server has not arrived: something of it may be there."""
    return {row.id: row.server_id for row in tx.execute(_MOVING_HERE, {"host": host})}


def _touches(host: str) -> sa.ColumnElement[bool]:
    """Whether a server is on a host, or on its way there or away."""
    here = (migrations.c.source_host == host) | (migrations.c.dest_host == host)
    moving = sa.exists().where(migrations.c.server_id == servers.c.id, here, migrations.c.status.in_(_MOVING))
    return servers.c.deleted_at.is_(None) & ((servers.c.host == host) | moving)


def touches(tx: sa.Connection, host: str, server_id: str) -> bool:
    """Whether a server is on this host, or on its way there or away."""
    return tx.scalar(sa.select(servers.c.id).where(servers.c.id == server_id, _touches(host))) is not None


def hosts_in_use(tx: sa.Connection, names: Iterable[str]) -> list[str]:
    """Those of the hosts that a server is on, or on its way to or away from."""
    return [name for name in names if tx.scalar(sa.select(servers.c.id).where(_touches(name)).limit(1)) is not None]


def needs_image(tx: sa.Connection, host: str, image_id: str) -> bool:
    """Whether a server made from this image is on the host, or on its way there or away."""
    made_from = sa.or_(*(column == image_id for column in (servers.c.image_id, servers.c.shelved_image_id, servers.c.rescue_image_id)))
    return tx.scalar(sa.select(servers.c.id).where(made_from, _touches(host)).limit(1)) is not None


def count_by_host(tx: sa.Connection) -> dict[str, int]:
    placed = servers.c.deleted_at.is_(None) & servers.c.host.is_not(None)
    query = sa.select(servers.c.host, sa.func.count()).where(placed).group_by(servers.c.host)
    return {row[0]: row[1] for row in tx.execute(query)}


def given(flavor_id: str) -> sa.ColumnElement[bool]:
    """Whether a server was last given this flavor."""
    return _flavor_id == flavor_id


def count_by_flavor(tx: sa.Connection) -> dict[str, int]:
    """Flavor id -> how many servers were last given it."""
    query = sa.select(_flavor_id, sa.func.count()).where(servers.c.deleted_at.is_(None)).group_by(_flavor_id)
    return {row[0]: row[1] for row in tx.execute(query)}


# ---------------------------------------------------------------------------------------------------- migrations


def insert_migration(tx: sa.Connection, **columns: Any) -> None:
    tx.execute(sa.insert(migrations).values(**_columns(columns)))


def update_migration(tx: sa.Connection, migration_id: str, now: float, **changes: Any) -> None:
    tx.execute(sa.update(migrations).where(migrations.c.id == migration_id).values(**_columns(changes), updated_at=now))


def migration(tx: sa.Connection, migration_id: str) -> Migration:
    """Raises `NotFound`, `CorruptRecord`."""
    row = tx.execute(sa.select(migrations).where(migrations.c.id == migration_id)).one_or_none()
    if row is None:
        raise NotFound(f"Migration {migration_id} could not be found.")
    return MIGRATIONS.one(row)


def finished_migration(tx: sa.Connection, server_id: str) -> Migration:
    """The migration that waits for confirm or revert. Raises `NotFound`, `CorruptRecord`."""
    query = sa.select(migrations).where(migrations.c.server_id == server_id, migrations.c.status == MigrationStatus.FINISHED)
    row = tx.execute(query.order_by(migrations.c.seq.desc()).limit(1)).one_or_none()
    if row is None:
        raise NotFound(f"Instance {server_id} has no finished migration.")
    return MIGRATIONS.one(row)


def evacuations(tx: sa.Connection, *, of_server: str | None = None, from_host: str | None = None) -> list[Migration]:
    """Those, newest first, whose server has arrived, and whose source still has, and pays for, what the server left there.

    Of one server, which raises `CorruptRecord`, or from one host, or all, but damaged ones.
    """
    if of_server is not None:
        return MIGRATIONS.every(tx.execute(_EVACUATED_OF, {"server_id": of_server}))
    return list(MIGRATIONS.readable(tx.execute(_EVACUATED) if from_host is None else tx.execute(_EVACUATED_FROM, {"host": from_host})))


def unfinished_migrations(tx: sa.Connection, server_id: str) -> list[Migration]:
    """Those of a server that has not arrived by them, newest first. Raises `CorruptRecord`, whatever is damaged, the status too."""
    query = sa.select(migrations).where(migrations.c.server_id == server_id, migrations.c.status.not_in(_ARRIVED))
    return MIGRATIONS.every(tx.execute(query.order_by(migrations.c.seq.desc())))


def left_behind(tx: sa.Connection, server_id: str) -> frozenset[str]:
    """Hosts that still have something of a server from before it was evacuated; until they are cleared it cannot be there again."""
    return frozenset(migration.source_host for migration in evacuations(tx, of_server=server_id))


def migrations_page(
    tx: sa.Connection, conditions: Iterable[sa.ColumnElement[bool]] = (), *, limit: int | None = None, marker: str | None = None
) -> list[Migration]:
    """Migrations that meet every condition, newest first, after `marker` (a migration's uuid); damaged ones are passed over.

    Raises `BadRequest`.
    """
    query = sa.select(migrations).where(*conditions).order_by(migrations.c.seq.desc())
    if marker is not None:
        at = tx.scalar(sa.select(migrations.c.seq).where(migrations.c.id == marker))
        if at is None:
            raise BadRequest(f"marker [{marker[:80]}] not found")
        query = query.where(migrations.c.seq < at)
    return MIGRATIONS.page(tx, query, limit)


def set_fault(tx: sa.Connection, server_id: str, fault: Fault, now: float) -> None:
    update(tx, server_id, now, vm_state=VmState.ERROR, task_state=None, fault=fault)
