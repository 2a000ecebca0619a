"""Groups of users: who is in one has the roles that were given to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import NotFound
from lamina.store import domains, identity
from lamina.store.identity import User
from lamina.store.names_in_domains import taken
from lamina.store.tables.identity import group_members, user_groups


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    description: str
    domain_id: str


def list_groups(tx: sa.Connection, *, domain_id: str | None = None, name: str | None = None, with_user: str | None = None) -> list[Group]:
    """By name; `with_user` keeps those that the user is in."""
    query = sa.select(user_groups).order_by(user_groups.c.name, user_groups.c.id)
    for column, wanted in ((user_groups.c.domain_id, domain_id), (user_groups.c.name, name)):
        if wanted is not None:
            query = query.where(column == wanted)
    if with_user is not None:
        query = query.where(user_groups.c.id.in_(sa.select(group_members.c.group_id).where(group_members.c.user_id == with_user)))
    return [Group(**row._mapping) for row in tx.execute(query)]


def get_group(tx: sa.Connection, group_id: str) -> Group:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(user_groups).where(user_groups.c.id == group_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find group: {group_id}.")
    return Group(**row._mapping)


def add_group(tx: sa.Connection, group: Group) -> None:
    """Raises `AlreadyExists` where the domain has a group of that name, `NotFound` where there is no such domain."""
    domains.hold(tx, group.domain_id)
    with taken("group", group.name):
        tx.execute(sa.insert(user_groups).values(**dataclasses.asdict(group)))


def change_group(tx: sa.Connection, group_id: str, changes: Mapping[str, Any]) -> Group:
    """Raises `NotFound`, or `AlreadyExists` where the new name is taken."""
    get_group(tx, group_id)
    if changes:
        with taken("group", changes.get("name")):
            tx.execute(sa.update(user_groups).where(user_groups.c.id == group_id).values(**changes))
    return get_group(tx, group_id)


def delete_group(tx: sa.Connection, group_id: str) -> None:
    """Takes its roles along: its users have them no longer. Raises `NotFound`."""
    get_group(tx, group_id)
    tx.execute(sa.delete(user_groups).where(user_groups.c.id == group_id))


def members(tx: sa.Connection, group_id: str) -> list[User]:
    """Raises `NotFound`."""
    get_group(tx, group_id)
    return identity.list_users(tx, in_group=group_id)


def is_member(tx: sa.Connection, group_id: str, user_id: str) -> bool:
    query = sa.select(group_members.c.user_id).where(group_members.c.group_id == group_id, group_members.c.user_id == user_id)
    return tx.scalar(query) is not None


def put_in(tx: sa.Connection, group_id: str, user_id: str) -> None:
    """Putting somebody in twice changes nothing. Raises `NotFound` naming what is not there."""
    get_group(tx, group_id)
    identity.get_user(tx, user_id)
    if not is_member(tx, group_id, user_id):
        tx.execute(sa.insert(group_members).values(group_id=group_id, user_id=user_id))


def take_out(tx: sa.Connection, group_id: str, user_id: str) -> None:
    """Raises `NotFound` naming what is not there, or where the user is not in the group."""
    get_group(tx, group_id)
    identity.get_user(tx, user_id)
    here = group_members.c
    if not tx.execute(sa.delete(group_members).where(here.group_id == group_id, here.user_id == user_id)).rowcount:
        raise NotFound(f"User {user_id} is not in group {group_id}.")
