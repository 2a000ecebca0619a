"""Projects and users, each in one domain."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import NotFound
from lamina.store import domains, limits
from lamina.store.domains import DOMAIN_ID
from lamina.store.names_in_domains import columns, key, shown, taken
from lamina.store.tables.identity import domains as domains_table
from lamina.store.tables.identity import group_members, group_role_assignments, projects, role_assignments, tokens, users


@dataclasses.dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str
    description: str
    enabled: bool
    domain_id: str = DOMAIN_ID


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A user, without the password's hash."""

    id: str
    name: str
    description: str
    email: str | None
    enabled: bool
    default_project_id: str | None
    domain_id: str = DOMAIN_ID


PROJECT_COLUMNS = tuple(
    shown(projects).label("name") if field.name == "name" else projects.c[field.name] for field in dataclasses.fields(Project)
)
USER_COLUMNS = tuple(shown(users).label("name") if field.name == "name" else users.c[field.name] for field in dataclasses.fields(User))


def derived_id(*parts: str) -> str:
    """An id in Keystone's form that is the same whenever it is asked for, for what is not kept in a table."""
    return uuid.uuid5(ids.LAMINA_NAMESPACE, "/".join(parts)).hex


# ---------------------------------------------------------------------------------------------------- projects


def list_projects(
    tx: sa.Connection,
    *,
    project_id: str | None = None,
    name: str | None = None,
    domain_id: str | None = None,
    enabled: bool | None = None,
    held_by: str | None = None,
) -> list[Project]:
    """Projects by name; `held_by` keeps those on which that user has a role, of his own or by a group."""
    query = sa.select(*PROJECT_COLUMNS).order_by(shown(projects), projects.c.id)
    for column, wanted in (
        (projects.c.id, project_id),
        (shown(projects), name),
        (projects.c.domain_id, domain_id),
        (projects.c.enabled, enabled),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if held_by is not None:
        own = sa.select(role_assignments.c.target).where(role_assignments.c.user_id == held_by)
        through = sa.select(group_role_assignments.c.target).join(
            group_members, group_members.c.group_id == group_role_assignments.c.group_id
        )
        query = query.where(projects.c.id.in_(sa.union_all(own, through.where(group_members.c.user_id == held_by))))
    return [Project(**row._mapping) for row in tx.execute(query)]


def usable_projects(tx: sa.Connection, user_id: str) -> list[Project]:
    """Those that the user could have a token for, by name: enabled, their domain too, and a role held there."""
    usable = {domain.id for domain in domains.list_domains(tx, enabled=True)}
    return [project for project in list_projects(tx, enabled=True, held_by=user_id) if project.domain_id in usable]


def get_project(tx: sa.Connection, project_id: str) -> Project:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(*PROJECT_COLUMNS).where(projects.c.id == project_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find project: {project_id}.")
    return Project(**row._mapping)


def add_project(tx: sa.Connection, project: Project) -> None:
    """Raises `AlreadyExists` where the domain has one of that name, `NotFound` where there is no such domain."""
    domains.hold(tx, project.domain_id)
    with taken("project", project.name):
        tx.execute(sa.insert(projects).values(dataclasses.asdict(project) | columns(project.domain_id, project.name)))


def change_project(tx: sa.Connection, project_id: str, changes: Mapping[str, Any]) -> Project:
    """A project that is disabled ends the tokens for it. Raises `NotFound`, or `AlreadyExists` where the new name is taken."""
    found = get_project(tx, project_id)
    if changes:
        named = columns(found.domain_id, changes["name"]) if "name" in changes else {}
        with taken("project", changes.get("name")):
            tx.execute(sa.update(projects).where(projects.c.id == project_id).values({**changes, **named}))
    if changes.get("enabled") is False:
        tx.execute(sa.delete(tokens).where(tokens.c.target == project_id))
    return get_project(tx, project_id)


def delete_project(tx: sa.Connection, project_id: str) -> None:
    """Takes the roles on it, the tokens for it and its limits along. Raises `NotFound`."""
    get_project(tx, project_id)
    limits.forget_projects(tx, projects.c.id == project_id)
    for resting in (role_assignments, group_role_assignments, tokens):
        tx.execute(sa.delete(resting).where(resting.c.target == project_id))
    tx.execute(sa.update(users).where(users.c.default_project_id == project_id).values(default_project_id=None))
    tx.execute(sa.delete(projects).where(projects.c.id == project_id))


# ---------------------------------------------------------------------------------------------------- users


def list_users(
    tx: sa.Connection,
    *,
    name: str | None = None,
    domain_id: str | None = None,
    enabled: bool | None = None,
    in_group: str | None = None,
) -> list[User]:
    """By name."""
    query = sa.select(*USER_COLUMNS).order_by(shown(users), users.c.id)
    for column, wanted in ((shown(users), name), (users.c.domain_id, domain_id), (users.c.enabled, enabled)):
        if wanted is not None:
            query = query.where(column == wanted)
    if in_group is not None:
        query = query.where(users.c.id.in_(sa.select(group_members.c.user_id).where(group_members.c.group_id == in_group)))
    return [User(**row._mapping) for row in tx.execute(query)]


def get_user(tx: sa.Connection, user_id: str) -> User:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(*USER_COLUMNS).where(users.c.id == user_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find user: {user_id}.")
    return User(**row._mapping)


def password_of(
    tx: sa.Connection, *, user_id: str | None = None, name: str | None = None, domain_id: str = DOMAIN_ID
) -> tuple[User | None, str | None]:
    """A user by id, or by name in a domain, with the hash of the password; both None for nobody, and for who is in a disabled domain."""
    in_domain = sa.and_(users.c.domain_id == domain_id, users.c.name == key(domain_id, name or ""))
    query = sa.select(*USER_COLUMNS, users.c.password_hash).join(domains_table, domains_table.c.id == users.c.domain_id)
    row = tx.execute(query.where(domains_table.c.enabled, users.c.id == user_id if user_id is not None else in_domain)).one_or_none()
    if row is None:
        return None, None
    *facts, kept = row
    return User(*facts), kept


def add_user(tx: sa.Connection, user: User, password_hash: str | None) -> None:
    """Raises `AlreadyExists` where the domain has one of that name, `NotFound` where it or the default project is not there."""
    if user.default_project_id is not None:
        get_project(tx, user.default_project_id)
    domains.hold(tx, user.domain_id)
    values = dataclasses.asdict(user) | columns(user.domain_id, user.name)
    with taken("user", user.name):
        tx.execute(sa.insert(users).values(password_hash=password_hash, **values))


def change_user(tx: sa.Connection, user_id: str, changes: Mapping[str, Any]) -> User:
    """Set columns, ``password_hash`` among them; a new password or a disabled user ends every token of theirs.

    Raises `NotFound`, or `AlreadyExists` where the new name is taken.
    """
    found = get_user(tx, user_id)
    if changes.get("default_project_id") is not None:
        get_project(tx, changes["default_project_id"])
    if changes:
        named = columns(found.domain_id, changes["name"]) if "name" in changes else {}
        with taken("user", changes.get("name")):
            tx.execute(sa.update(users).where(users.c.id == user_id).values({**changes, **named}))
    if "password_hash" in changes or changes.get("enabled") is False:
        tx.execute(sa.delete(tokens).where(tokens.c.user_id == user_id))
    return get_user(tx, user_id)


def delete_user(tx: sa.Connection, user_id: str) -> None:
    """Takes the user's roles, places in groups, tokens and limits along. Raises `NotFound`."""
    get_user(tx, user_id)
    limits.forget_users(tx, users.c.id == user_id)
    tx.execute(sa.delete(users).where(users.c.id == user_id))
