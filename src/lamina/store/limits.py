"""Queries over limits: the defaults that are registered, and those of projects and of users within them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import AlreadyExists, NotFound
from lamina.model.limits import Resource
from lamina.store.tables.identity import projects, users
from lamina.store.tables.limits import limits, registered_limits


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredLimit:
    """What every project may have that has no limit of its own."""

    id: str
    resource: Resource
    amount: int
    description: str | None = None
    region_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """What a project may have; with ``user_id`` what that user may have of what is the project's."""

    id: str
    project_id: str
    user_id: str | None
    resource: Resource
    amount: int
    description: str | None = None
    region_id: str | None = None


def _registered(row: sa.Row[Any]) -> RegisteredLimit:
    return RegisteredLimit(row.id, Resource(row.resource, row.resource_name), row.amount, row.description, row.region_id)


def _limit(row: sa.Row[Any]) -> Limit:
    resource = Resource(row.resource, row.resource_name)
    return Limit(row.id, row.project_id, row.user_id or None, resource, row.amount, row.description, row.region_id)


# ---------------------------------------------------------------------------------------------------- what holds


@dataclasses.dataclass(frozen=True, slots=True)
class InForce:
    """The limits that somebody is judged by, by their resources' keys."""

    project: Mapping[str, int]
    user: Mapping[str, int]
    resources: Mapping[str, Resource]


_DEFAULT, _PROJECT, _USER = range(3)
_WHOSE = sa.case((limits.c.user_id == "", _PROJECT), else_=_USER)
_IN_FORCE = sa.union_all(
    sa.select(registered_limits.c.resource, registered_limits.c.resource_name, registered_limits.c.amount, sa.literal(_DEFAULT)),
    sa.select(limits.c.resource, limits.c.resource_name, limits.c.amount, _WHOSE).where(
        limits.c.project_id == sa.bindparam("project_id"), limits.c.user_id.in_(["", sa.bindparam("user_id")])
    ),
)


def in_force(tx: sa.Connection, project_id: str, user_id: str = "") -> InForce:
    """A project's own limits before the registered ones, and those of a user in it. In one query."""
    rows = sorted(tx.execute(_IN_FORCE, {"project_id": project_id, "user_id": user_id}), key=lambda row: row[3])
    return InForce(
        project={key: amount for key, _, amount, whose in rows if whose != _USER},
        user={key: amount for key, _, amount, whose in rows if whose == _USER},
        resources={key: Resource(key, name) for key, name, _, _ in rows},
    )


# ---------------------------------------------------------------------------------------------------- registered limits


def registered(tx: sa.Connection) -> list[RegisteredLimit]:
    """All of them, by resource."""
    return [_registered(row) for row in tx.execute(sa.select(registered_limits).order_by(registered_limits.c.resource))]


def get_registered(tx: sa.Connection, limit_id: str) -> RegisteredLimit:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(registered_limits).where(registered_limits.c.id == limit_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find registered limit for id: {limit_id[:80]}.")
    return _registered(row)


def _row(limit: RegisteredLimit | Limit) -> dict[str, Any]:
    row = dataclasses.asdict(limit) | {"resource": limit.resource.key, "resource_name": limit.resource.name}
    return row | ({"user_id": limit.user_id or ""} if isinstance(limit, Limit) else {})


def register(tx: sa.Connection, limit: RegisteredLimit) -> None:
    """Raises `AlreadyExists` where the resource has one."""
    try:
        tx.execute(sa.insert(registered_limits).values(_row(limit)))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is a registered limit of {limit.resource.name} already.") from error


def change_registered(tx: sa.Connection, limit: RegisteredLimit) -> None:
    """Make the one of this id what is given. Raises `NotFound`, `AlreadyExists`."""
    try:
        query = sa.update(registered_limits).where(registered_limits.c.id == limit.id).values(_row(limit))
        changed = tx.execute(query).rowcount
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is a registered limit of {limit.resource.name} already.") from error
    if not changed:
        raise NotFound(f"Could not find registered limit for id: {limit.id[:80]}.")


def unregister(tx: sa.Connection, limit_id: str) -> None:
    """Raises `NotFound`."""
    if not tx.execute(sa.delete(registered_limits).where(registered_limits.c.id == limit_id)).rowcount:
        raise NotFound(f"Could not find registered limit for id: {limit_id[:80]}.")


def set_default(tx: sa.Connection, resource: Resource, amount: int) -> None:
    """Register a limit, or change the one that the resource has."""
    same = registered_limits.c.resource == resource.key
    if not tx.execute(sa.update(registered_limits).where(same).values(amount=amount)).rowcount:
        register(tx, RegisteredLimit(ids.new_identity_id(), resource, amount))


# ---------------------------------------------------------------------------------------------------- limits of projects


def page(tx: sa.Connection, project_id: str | None = None) -> list[Limit]:
    """Those of a project and of its users, or all."""
    query = sa.select(limits).order_by(limits.c.project_id, limits.c.user_id, limits.c.resource)
    return [_limit(row) for row in tx.execute(query if project_id is None else query.where(limits.c.project_id == project_id))]


def get(tx: sa.Connection, limit_id: str, project_id: str | None = None) -> Limit:
    """One limit; with `project_id` only if it is that project's. Raises `NotFound`."""
    row = tx.execute(sa.select(limits).where(limits.c.id == limit_id)).one_or_none()
    if row is None or project_id not in (None, row.project_id):
        raise NotFound(f"Could not find limit for id: {limit_id[:80]}.")
    return _limit(row)


def add(tx: sa.Connection, limit: Limit) -> None:
    """Raises `AlreadyExists` where the project, or the user in it, has one of that resource."""
    try:
        tx.execute(sa.insert(limits).values(_row(limit)))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"The project, or the user in it, has a limit of {limit.resource.name} already.") from error


def change(tx: sa.Connection, limit_id: str, changes: Mapping[str, Any]) -> Limit:
    """Set `amount` or `description`. Raises `NotFound`."""
    if changes:
        tx.execute(sa.update(limits).where(limits.c.id == limit_id).values(**changes))
    return get(tx, limit_id)


def delete(tx: sa.Connection, limit_id: str) -> None:
    """Raises `NotFound`."""
    if not tx.execute(sa.delete(limits).where(limits.c.id == limit_id)).rowcount:
        raise NotFound(f"Could not find limit for id: {limit_id[:80]}.")


def _of(project_id: str, user_id: str | None) -> sa.ColumnElement[bool]:
    return (limits.c.project_id == project_id) & (limits.c.user_id == (user_id or ""))


def set_limits(tx: sa.Connection, project_id: str, user_id: str | None, wanted: Iterable[tuple[Resource, int]]) -> None:
    """Give a project, or a user in it, these limits; those of other resources stay."""
    for resource, amount in wanted:
        same = _of(project_id, user_id) & (limits.c.resource == resource.key)
        if not tx.execute(sa.update(limits).where(same).values(amount=amount)).rowcount:
            add(tx, Limit(ids.new_identity_id(), project_id, user_id, resource, amount))


def revert(tx: sa.Connection, project_id: str, user_id: str | None) -> None:
    """Take away a project's own limits, or those of one user in it."""
    tx.execute(sa.delete(limits).where(_of(project_id, user_id)))


def forget_projects(tx: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Take away all limits of these projects and of their users."""
    tx.execute(sa.delete(limits).where(limits.c.project_id.in_(sa.select(projects.c.id).where(which))))


def forget_users(tx: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Take away the limits of these users in whatever project."""
    tx.execute(sa.delete(limits).where(limits.c.user_id.in_(sa.select(users.c.id).where(which))))
