"""Queries over server groups and who is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import sqlalchemy as sa

from lamina.model.errors import NotFound
from lamina.model.server_groups import GroupPolicy, ServerGroup
from lamina.model.servers import MigrationStatus
from lamina.store.reading import Reader
from lamina.store.tables.compute import migrations, server_group_members, server_groups, servers

_ARRIVED = [str(status) for status in MigrationStatus if status.has_arrived]
_COLUMNS = [column for column in server_groups.c if column.name != "seq"]
GROUPS = Reader(server_groups, ServerGroup)


def add(tx: sa.Connection, group: ServerGroup) -> None:
    tx.execute(sa.insert(server_groups).values(**dataclasses.asdict(group) | {"policy": str(group.policy)}))


def get(tx: sa.Connection, group_id: str, project_id: str | None = None) -> ServerGroup:
    """One group; with `project_id` only if it belongs there. Raises `NotFound`, `CorruptRecord`."""
    query = sa.select(*_COLUMNS).where(server_groups.c.id == group_id)
    if project_id is not None:
        query = query.where(server_groups.c.project_id == project_id)
    row = tx.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"Instance group {group_id[:80]} could not be found.")
    return GROUPS.one(row)


def page(tx: sa.Connection, project_id: str | None, *, limit: int, offset: int = 0) -> list[ServerGroup]:
    """The groups of a project, or of all, in the order they were made, but damaged ones."""
    query = sa.select(*_COLUMNS).order_by(server_groups.c.seq).offset(offset)
    if project_id is not None:
        query = query.where(server_groups.c.project_id == project_id)
    return GROUPS.page(tx, query, limit)


def delete(tx: sa.Connection, group_id: str) -> None:
    """Its servers stay, and are in no group. Raises `NotFound`."""
    if tx.execute(sa.delete(server_groups).where(server_groups.c.id == group_id)).rowcount == 0:
        raise NotFound(f"Instance group {group_id[:80]} could not be found.")


# ---------------------------------------------------------------------------------------------------- members


def join(tx: sa.Connection, group_id: str, server_ids: Iterable[str]) -> None:
    """Let new servers be members from their first moment on. Raises `NotFound`."""
    get(tx, group_id)
    tx.execute(sa.insert(server_group_members), [{"server_id": server_id, "group_id": group_id} for server_id in server_ids])


def members(tx: sa.Connection, group_ids: Iterable[str]) -> dict[str, list[str]]:
    """Group id -> the ids of its servers that are not deleted, in the order they were made."""
    found: dict[str, list[str]] = {group_id: [] for group_id in group_ids}
    query = (
        sa.select(server_group_members.c.group_id, servers.c.id)
        .join_from(server_group_members, servers, servers.c.id == server_group_members.c.server_id)
        .where(server_group_members.c.group_id.in_(list(found)), servers.c.deleted_at.is_(None))
        .order_by(servers.c.seq)
    )
    for group_id, server_id in tx.execute(query):
        found[group_id].append(server_id)
    return found


def groups_of(tx: sa.Connection, server_ids: Iterable[str]) -> dict[str, str]:
    """Server id -> the id of its group, for those that have one."""
    query = sa.select(server_group_members).where(server_group_members.c.server_id.in_(list(server_ids)))
    return {row.server_id: row.group_id for row in tx.execute(query)}


def under_hard_policies(tx: sa.Connection) -> set[str]:
    """Ids of the servers whose group has a hard policy, or one that nobody can read."""
    hard = server_groups.c.policy.not_in([str(policy) for policy in GroupPolicy if not policy.hard])
    return set(tx.scalars(sa.select(server_group_members.c.server_id).join(server_groups).where(hard)))


# ---------------------------------------------------------------------------------------------------- claims


_MINE = sa.select(server_group_members.c.group_id).where(server_group_members.c.server_id == sa.bindparam("server_id"))
_OF_SERVER = sa.select(*_COLUMNS).where(server_groups.c.id.in_(_MINE))
#: who asks so waits until every other who has asked so has committed; who joins or reads the group does not
OF_SERVER_HELD = _OF_SERVER.with_for_update(key_share=True)


def of_server(tx: sa.Connection, server_id: str, *, hold: bool = False) -> ServerGroup | None:
    """The group that a server is in. With `hold` nobody else has it so to the end of the transaction. Raises `CorruptRecord`."""
    row = tx.execute(OF_SERVER_HELD if hold else _OF_SERVER, {"server_id": server_id}).one_or_none()
    return GROUPS.one(row) if row is not None else None


def places(tx: sa.Connection, group_id: str, but_of: str) -> list[frozenset[str]]:
    """Where each server of a group but one is: its host, and both sides of a move that is not over.

    Those that have no place yet are left out.
    """
    others = sa.select(server_group_members.c.server_id).where(
        server_group_members.c.group_id == group_id, server_group_members.c.server_id != but_of
    )
    found: dict[str, set[str]] = {}
    placed = servers.c.deleted_at.is_(None) & servers.c.host.is_not(None)
    for server_id, host in tx.execute(sa.select(servers.c.id, servers.c.host).where(servers.c.id.in_(others), placed)):
        found[server_id] = {host}
    moving = sa.select(migrations.c.server_id, migrations.c.source_host, migrations.c.dest_host)
    for server_id, source, target in tx.execute(moving.where(migrations.c.server_id.in_(others), migrations.c.status.not_in(_ARRIVED))):
        if server_id in found:
            found[server_id] |= {host for host in (source, target) if host is not None}
    return [frozenset(hosts) for hosts in found.values()]
