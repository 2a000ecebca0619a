"""Who has which role where. A role is given to a user or to a group, on a project, on a domain or on the system.

A role on a domain is for the Identity API and holds on no project of the domain.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import NotFound
from lamina.store import domains, groups, identity
from lamina.store.names_in_domains import shown
from lamina.store.roles import Role, get_role, list_roles, with_implied
from lamina.store.tables.identity import domains as domains_table
from lamina.store.tables.identity import group_members, group_role_assignments, projects, role_assignments, roles, user_groups, users

#: where a role is held that is held on no project and no domain
SYSTEM = "system"


class Holder(enum.StrEnum):
    """What a role can be given to."""

    USER = "user"
    GROUP = "group"


_GIVEN = {Holder.USER: role_assignments, Holder.GROUP: group_role_assignments}


def _holder_id(holder: Holder) -> sa.ColumnElement[Any]:
    column: sa.ColumnElement[Any] = _GIVEN[holder].c[f"{holder}_id"]
    return column


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """One role of one user or group. What has no name (the system) and no domain has None there."""

    holder: Holder
    holder_id: str
    holder_name: str
    holder_domain_id: str
    role_id: str
    role_name: str
    target: str
    target_name: str | None
    #: of the project that is the target
    target_domain_id: str | None
    #: whether the target is a domain
    on_domain: bool
    #: the group through which a user has it
    by_group: str | None = None

    @property
    def within(self) -> str | None:
        """The domain that the target is, or is in; None for the system."""
        return self.target if self.on_domain else self.target_domain_id


def is_held(user_id: sa.ColumnElement[Any], role_id: sa.ColumnElement[Any] | None, target: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether that user has that role there, of his own or by a group; with no role named, whether he has any."""
    own, groups_ = role_assignments.c, group_role_assignments.c
    by_himself = sa.exists().where(own.user_id == user_id, own.target == target)
    by_group = sa.exists().where(groups_.group_id == group_members.c.group_id, group_members.c.user_id == user_id, groups_.target == target)
    if role_id is not None:
        by_himself, by_group = by_himself.where(own.role_id == role_id), by_group.where(groups_.role_id == role_id)
    return sa.or_(by_himself, by_group)


def held_domains(tx: sa.Connection, user_id: str) -> list[domains.Domain]:
    """The enabled domains on which the user has a role, by name."""
    query = sa.select(domains_table).where(domains_table.c.enabled, is_held(sa.literal(user_id), None, domains_table.c.id))
    return [domains.Domain(**row._mapping) for row in tx.execute(query.order_by(domains_table.c.name))]


def effective_roles(tx: sa.Connection, user_id: str, target: str) -> list[Role]:
    """The roles that the user has there, of his own or by groups, without the implied ones; by name."""
    query = sa.select(roles).where(is_held(sa.literal(user_id), roles.c.id, sa.literal(target))).order_by(roles.c.name)
    return [Role(**row._mapping) for row in tx.execute(query)]


def roles_on(tx: sa.Connection, holder_id: str, target: str, holder: Holder = Holder.USER) -> list[Role]:
    """The roles that the holder itself was given there, without the implied ones; by name."""
    given = _GIVEN[holder]
    query = sa.select(roles).join(given, given.c.role_id == roles.c.id).order_by(roles.c.name)
    return [Role(**row._mapping) for row in tx.execute(query.where(_holder_id(holder) == holder_id, given.c.target == target))]


def assign(tx: sa.Connection, holder_id: str, role_id: str, target: str, holder: Holder = Holder.USER) -> None:
    """Give a role; giving it twice changes nothing. Raises `NotFound` naming what is not there."""
    _must_exist(tx, holder, holder_id, role_id, target)
    if role_id not in {role.id for role in roles_on(tx, holder_id, target, holder)}:
        tx.execute(sa.insert(_GIVEN[holder]).values({f"{holder}_id": holder_id, "role_id": role_id, "target": target}))


def unassign(tx: sa.Connection, holder_id: str, role_id: str, target: str, holder: Holder = Holder.USER) -> None:
    """Take a role away. Raises `NotFound` where the holder was not given it there."""
    _must_exist(tx, holder, holder_id, role_id, target)
    given = _GIVEN[holder]
    this = (_holder_id(holder) == holder_id, given.c.role_id == role_id, given.c.target == target)
    if not tx.execute(sa.delete(given).where(*this)).rowcount:
        raise NotFound(f"Could not find role assignment with role: {role_id}, {holder}: {holder_id}.")


def _must_exist(tx: sa.Connection, holder: Holder, holder_id: str, role_id: str, target: str) -> None:
    if holder is Holder.USER:
        identity.get_user(tx, holder_id)
    else:
        groups.get_group(tx, holder_id)
    get_role(tx, role_id)
    if target != SYSTEM and not domains.list_domains(tx, domain_id=target):
        identity.get_project(tx, target)


def list_assignments(
    tx: sa.Connection, *, user_id: str | None = None, group_id: str | None = None, target: str | None = None
) -> list[Assignment]:
    """As they were given, of one user, of one group, or of everybody."""
    found: list[Assignment] = []
    if group_id is None:
        found += _listed(tx, Holder.USER, user_id, target)
    if user_id is None:
        found += _listed(tx, Holder.GROUP, group_id, target)
    return found


def _listed(tx: sa.Connection, holder: Holder, holder_id: str | None, target: str | None) -> list[Assignment]:
    given, held_by = _GIVEN[holder], users if holder is Holder.USER else user_groups
    name = shown(users) if holder is Holder.USER else user_groups.c.name
    query = (
        sa.select(
            held_by.c.id.label("holder_id"),
            name.label("holder_name"),
            held_by.c.domain_id.label("holder_domain_id"),
            given.c.role_id,
            roles.c.name.label("role_name"),
            given.c.target,
            sa.func.coalesce(shown(projects), domains_table.c.name).label("target_name"),
            projects.c.domain_id.label("target_domain_id"),
            domains_table.c.id.is_not(None).label("on_domain"),
        )
        .join(held_by, held_by.c.id == _holder_id(holder))
        .join(roles, roles.c.id == given.c.role_id)
        .outerjoin(projects, projects.c.id == given.c.target)
        .outerjoin(domains_table, domains_table.c.id == given.c.target)
        .order_by(given.c.target, name, roles.c.name)
    )
    if holder_id is not None:
        query = query.where(_holder_id(holder) == holder_id)
    if target is not None:
        query = query.where(given.c.target == target)
    return [Assignment(holder=holder, **row._mapping) for row in tx.execute(query)]


def list_effective(tx: sa.Connection, *, user_id: str | None = None, target: str | None = None) -> list[Assignment]:
    """What users have of their own and by groups, the implied roles included; each once."""
    ids = {role.name: role.id for role in list_roles(tx)}
    held: dict[tuple[str, str, str], Assignment] = {}
    for one in _of_users(tx, user_id, target):
        for name in sorted(with_implied([one.role_name])):
            held.setdefault((one.holder_id, one.target, name), dataclasses.replace(one, role_id=ids[name], role_name=name))
    return list(held.values())


def _of_users(tx: sa.Connection, user_id: str | None, target: str | None) -> Iterable[Assignment]:
    yield from _listed(tx, Holder.USER, user_id, target)
    query = sa.select(group_members.c.group_id, users.c.id, shown(users).label("name"), users.c.domain_id)
    query = query.join(users, users.c.id == group_members.c.user_id).order_by(shown(users))
    if user_id is not None:
        query = query.where(group_members.c.user_id == user_id)
    members: dict[str, list[Any]] = {}
    for row in tx.execute(query):
        members.setdefault(row.group_id, []).append(row)
    for one in _listed(tx, Holder.GROUP, None, target):
        for user in members.get(one.holder_id, ()):
            yield dataclasses.replace(
                one,
                holder=Holder.USER,
                holder_id=user.id,
                holder_name=user.name,
                holder_domain_id=user.domain_id,
                by_group=one.holder_id,
            )
