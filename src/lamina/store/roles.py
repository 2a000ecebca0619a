"""Roles: those that Lamina comes with, which its rules are about, and those that operators add for rules of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, Forbidden, NotFound
from lamina.store.tables.identity import roles

#: role -> the role that it brings along (Keystone's bootstrap: admin implies manager implies member implies reader)
IMPLIES: Mapping[str, str] = {"admin": "manager", "manager": "member", "member": "reader"}
BOOTSTRAP_ROLES = ("admin", "manager", "member", "reader", "service")


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    id: str
    name: str
    description: str

    @property
    def built_in(self) -> bool:
        return self.name in BOOTSTRAP_ROLES


def with_implied(names: Iterable[str]) -> frozenset[str]:
    """The roles and every role they bring along."""
    found: set[str] = set()
    for name in names:
        step: str | None = name
        while step is not None and step not in found:
            found.add(step)
            step = IMPLIES.get(step)
    return frozenset(found)


def list_roles(tx: sa.Connection, *, name: str | None = None) -> list[Role]:
    """By name."""
    query = sa.select(roles).order_by(roles.c.name)
    if name is not None:
        query = query.where(roles.c.name == name)
    return [Role(**row._mapping) for row in tx.execute(query)]


def get_role(tx: sa.Connection, role_id: str) -> Role:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(roles).where(roles.c.id == role_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find role: {role_id}.")
    return Role(**row._mapping)


def add_role(tx: sa.Connection, role: Role) -> None:
    """Raises `AlreadyExists` where the name is taken, in whatever case: policy rules do not tell ``Admin`` from ``admin``."""
    _must_be_free(tx, role.name, role.id)
    try:
        tx.execute(sa.insert(roles).values(**dataclasses.asdict(role)))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is a role named {role.name} already.") from error


def change_role(tx: sa.Connection, role_id: str, changes: Mapping[str, Any]) -> Role:
    """Raises `NotFound`, `AlreadyExists` where the new name is taken, `Forbidden` for one that Lamina comes with."""
    _must_be_theirs(get_role(tx, role_id), "changed")
    if "name" in changes:
        _must_be_free(tx, changes["name"], role_id)
    if changes:
        try:
            tx.execute(sa.update(roles).where(roles.c.id == role_id).values(**changes))
        except sa.exc.IntegrityError as error:
            raise AlreadyExists(f"There is a role named {changes.get('name')} already.") from error
    return get_role(tx, role_id)


def delete_role(tx: sa.Connection, role_id: str) -> None:
    """Whoever had it has it no longer. Raises `NotFound`, and `Forbidden` for one that Lamina comes with."""
    _must_be_theirs(get_role(tx, role_id), "deleted")
    tx.execute(sa.delete(roles).where(roles.c.id == role_id))


def _must_be_theirs(role: Role, what: str) -> None:
    if role.built_in:
        raise Forbidden(f"The role {role.name} comes with Lamina, whose rules are about it; it cannot be {what}.")


def _must_be_free(tx: sa.Connection, name: str, role_id: str) -> None:
    # lower() as oslo.policy compares, not as either database does
    if any(known.name.lower() == name.lower() and known.id != role_id for known in list_roles(tx)):
        raise AlreadyExists(f"There is a role named {name} already, or named so but for the case of letters.")
