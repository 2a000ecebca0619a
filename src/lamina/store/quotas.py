"""Quotas: what of its limits a project has used, counted from what there is, and nobody beyond them.

Nothing is kept beside what it counts: servers, groups and key pairs are rows, what servers hold are allocations, of migrations
too, and vGPUs have their types in their records. Who takes something limited writes it first and then raises the generation of
its project's turn, which holds that row to the end of the transaction; whoever takes of the same project meanwhile waits
there, and counts afterwards what the first has taken. Of two at the last unit one is refused, and takes back what it wrote.
Behind a turn only the counters of all that is committed are waited for, and nobody who holds one waits for a turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model import limits as rules
from lamina.model.errors import OverLimit
from lamina.model.limits import Bound, Resource
from lamina.store import limits
from lamina.store.inserting import insert_or_leave
from lamina.store.limits import InForce
from lamina.store.tables.compute import keypairs, server_group_members, server_groups, servers
from lamina.store.tables.hosts import vgpus
from lamina.store.tables.limits import quota_turns
from lamina.store.tables.placement import allocations, consumers

Amounts = Mapping[str, int]
_NOTHING: Amounts = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Whose limits are looked at, and where the members of a group count, of which."""

    project_id: str
    user_id: str = ""
    group_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Used:
    """How much of a resource a project has, and its one user of it."""

    project: int
    user: int


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """A resource, its limits and what is used of it."""

    resource: Resource
    limit: int
    user_limit: int
    used: Used


def must_allow(tx: sa.Connection, owner: Owner, *, taken: Amounts = _NOTHING, asked: Amounts = _NOTHING) -> None:
    """Judge what this transaction has `taken`, for good, and whether there would be room for what is `asked`, for now.

    Called once everything that is taken is written. With no limit on any of it this is one query. Raises `OverLimit`.
    """
    why = _refusal(tx, owner, taken, asked)
    if why is not None:
        raise OverLimit(why)


def why_not(tx: sa.Connection, owner: Owner, asked: Amounts) -> str | None:
    """Why there is no room for what is asked, as of now; None where there is."""
    return _refusal(tx, owner, _NOTHING, asked)


def _refusal(tx: sa.Connection, owner: Owner, taken: Amounts, asked: Amounts) -> str | None:
    known = limits.in_force(tx, owner.project_id, owner.user_id)
    requested = {key: amount for key, amount in {**asked, **taken}.items() if amount > 0 and _limited(known, key)}
    if not requested:
        return None
    if any(key in taken for key in requested):
        _take_turn(tx, owner.user_id if rules.KEY_PAIRS in requested else owner.project_id)
    bounds = []
    for key, used in count(tx, owner, requested).items():
        before = taken.get(key, 0)
        for amount, have, of_user in ((known.project.get(key), used.project, False), (known.user.get(key), used.user, True)):
            if amount is not None:
                bounds.append(Bound(known.resources[key], amount, have - before, requested[key], of_user))
    return rules.refusal(bounds)


def _limited(known: InForce, key: str) -> bool:
    return any(of.get(key, rules.UNLIMITED) != rules.UNLIMITED for of in (known.project, known.user))


_RAISE = sa.update(quota_turns).where(quota_turns.c.owner_id == sa.bindparam("owner")).values(generation=quota_turns.c.generation + 1)


def _take_turn(tx: sa.Connection, owner_id: str) -> None:
    if tx.execute(_RAISE, {"owner": owner_id}).rowcount == 0:
        insert_or_leave(tx, quota_turns, [{"owner_id": owner_id, "generation": 0}])
        tx.execute(_RAISE, {"owner": owner_id})


# ---------------------------------------------------------------------------------------------------- counting


def count(tx: sa.Connection, owner: Owner, keys: Iterable[str]) -> dict[str, Used]:
    """How much of each resource is used, in at most one query for each kind of resource."""
    wanted = set(keys)
    found: dict[str, Used] = {}
    if any(map(rules.is_class, wanted)):
        found |= _classes(tx, owner)
    if any(map(rules.is_type, wanted)):
        found |= {key: used for key, (_, used) in _types(tx, owner).items()}
    for key in wanted & _COUNTED.keys():
        found[key] = _COUNTED[key](tx, owner)
    return {key: found.get(key, Used(0, 0)) for key in sorted(wanted)}


def standings(tx: sa.Connection, owner: Owner) -> dict[str, Standing]:
    """Every resource of which there is a limit or which is used, and those that every project has a quota of, by key."""
    known = limits.in_force(tx, owner.project_id, owner.user_id)
    types = _types(tx, owner)
    used = _classes(tx, owner) | {key: amount for key, (_, amount) in types.items()}
    used |= {key: counted(tx, owner) for key, counted in _COUNTED.items()}
    named = {key: Resource(key, key) for key in (*used, *rules.QUOTAS.values())} | {key: name for key, (name, _) in types.items()}
    return {
        key: Standing(
            resource,
            known.project.get(key, rules.UNLIMITED),
            known.user.get(key, rules.UNLIMITED),
            used.get(key, Used(0, 0)),
        )
        for key, resource in sorted((named | dict(known.resources)).items())
    }


def _sums(amount: Any, user_column: sa.Column[Any]) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """The sum for the project, and that for the one user."""
    return sa.func.sum(amount), sa.func.sum(sa.case((user_column == sa.bindparam("user_id"), amount), else_=0))


_OF_PROJECT = consumers.c.project_id == sa.bindparam("project_id")
_CLASSES = (
    sa.select(allocations.c.resource_class, *_sums(allocations.c.used, consumers.c.user_id))
    .join_from(consumers, allocations)
    .where(_OF_PROJECT)
    .group_by(allocations.c.resource_class)
)
_TYPES = (
    sa.select(vgpus.c.type, *_sums(sa.literal_column("1"), consumers.c.user_id))
    .join_from(consumers, vgpus, vgpus.c.consumer_id == consumers.c.id)
    .where(_OF_PROJECT)
    .group_by(vgpus.c.type)
)


def _owner(owner: Owner) -> dict[str, str]:
    return {"project_id": owner.project_id, "user_id": owner.user_id}


def _classes(tx: sa.Connection, owner: Owner) -> dict[str, Used]:
    return {rules.class_key(name): Used(int(all_), int(own)) for name, all_, own in tx.execute(_CLASSES, _owner(owner))}


def _types(tx: sa.Connection, owner: Owner) -> dict[str, tuple[Resource, Used]]:
    found: dict[str, tuple[Resource, Used]] = {}
    for name, all_, own in tx.execute(_TYPES, _owner(owner)):
        resource = rules.of_type(name)
        _, before = found.get(resource.key, (resource, Used(0, 0)))
        found[resource.key] = resource, Used(before.project + int(all_), before.user + int(own))
    return found


def _rows(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    own = sa.func.coalesce(sa.func.sum(sa.case((table.c.user_id == sa.bindparam("user_id"), 1), else_=0)), 0)
    return sa.select(sa.func.count(), own).where(table.c.project_id == sa.bindparam("project_id"), *conditions)


_SERVERS, _GROUPS = _rows(servers, servers.c.deleted_at.is_(None)), _rows(server_groups)
_KEY_PAIRS = sa.select(sa.func.count()).where(keypairs.c.user_id == sa.bindparam("user_id"))
_MEMBERS = (
    sa.select(sa.func.count())
    .join_from(server_group_members, servers, servers.c.id == server_group_members.c.server_id)
    .where(server_group_members.c.group_id == sa.bindparam("group_id"), servers.c.deleted_at.is_(None))
)


def _servers(tx: sa.Connection, owner: Owner) -> Used:
    all_, own = tx.execute(_SERVERS, _owner(owner)).one()
    return Used(int(all_), int(own))


def _groups(tx: sa.Connection, owner: Owner) -> Used:
    all_, own = tx.execute(_GROUPS, _owner(owner)).one()
    return Used(int(all_), int(own))


def _key_pairs(tx: sa.Connection, owner: Owner) -> Used:
    """A user's, whatever project they were made for: key pairs are in none (as in Nova)."""
    number = tx.scalar(_KEY_PAIRS, {"user_id": owner.user_id}) or 0
    return Used(number, number)


def _members(tx: sa.Connection, owner: Owner) -> Used:
    number = 0 if owner.group_id is None else tx.scalar(_MEMBERS, {"group_id": owner.group_id}) or 0
    return Used(number, number)


_COUNTED = {rules.SERVERS: _servers, rules.GROUPS: _groups, rules.KEY_PAIRS: _key_pairs, rules.MEMBERS: _members}
