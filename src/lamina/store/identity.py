"""Projects, users, roles, who has which role where, and tokens.

There is one domain, ``default``; a role is held on a project or on the system. Tokens are opaque and kept as SHA-256
only, so that who reads the database cannot act for anybody.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import AlreadyExists, NotFound
from lamina.store import application_credentials, passwords
from lamina.store.application_credentials import Credential
from lamina.store.tables.identity import projects, role_assignments, roles, tokens, users

DOMAIN_ID = "default"
DOMAIN_NAME = "Default"
#: where a role is held that is not held on a project
SYSTEM = "system"

#: role -> the role that it brings along (Keystone's bootstrap: admin implies manager implies member implies reader)
IMPLIES: Mapping[str, str] = {"admin": "manager", "manager": "member", "member": "reader"}
BOOTSTRAP_ROLES = ("admin", "manager", "member", "reader", "service")


@dataclasses.dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str
    description: str
    enabled: bool


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A user, without the password's hash."""

    id: str
    name: str
    description: str
    email: str | None
    enabled: bool
    default_project_id: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    id: str
    name: str
    description: str


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """``target`` is a project's id or `SYSTEM`; ``target_name`` is the project's name, or None for the system."""

    user_id: str
    user_name: str
    role_id: str
    role_name: str
    target: str
    target_name: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token that is good now, and whose it is. Times are seconds since the epoch."""

    hash: str
    audit_id: str
    user: User
    #: None for an unscoped token
    target: str | None
    #: None for a system-scoped or unscoped token
    project: Project | None
    methods: tuple[str, ...]
    issued_at: float
    expires_at: float
    #: names of the roles held on the target, the implied ones included
    roles: frozenset[str]
    #: the application credential that it was got by
    credential: Credential | None = None


def with_implied(names: Iterable[str]) -> frozenset[str]:
    """The roles and every role they bring along."""
    found: set[str] = set()
    for name in names:
        step: str | None = name
        while step is not None and step not in found:
            found.add(step)
            step = IMPLIES.get(step)
    return frozenset(found)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_id() -> str:
    """An id in Keystone's form: a uuid without dashes."""
    return uuid.uuid4().hex


def derived_id(*parts: str) -> str:
    """An id in Keystone's form that is the same whenever it is asked for, for what is not kept in a table."""
    return uuid.uuid5(ids.LAMINA_NAMESPACE, "/".join(parts)).hex


# ---------------------------------------------------------------------------------------------------- bootstrap


def bootstrap(tx: sa.Connection, admin_password: str, demo_password: str, now: float) -> None:
    """Make what ``keystone-manage bootstrap`` makes, and the project and user ``demo``; what is there is left as it is.

    Tokens that ran out before `now` are thrown away. Passwords are set only for users made here.
    """
    tx.execute(sa.delete(tokens).where(tokens.c.expires_at <= now))
    held = {name: _ensure(tx, roles, name, id=derived_id("role", name)) for name in BOOTSTRAP_ROLES}
    for name, password, role in (("admin", admin_password, "admin"), ("demo", demo_password, "member")):
        project_id = _ensure(tx, projects, name, id=new_id(), description=f"The project {name}, made at the first start.")
        known = tx.scalar(sa.select(users.c.id).where(users.c.name == name))
        if known is None:
            known = new_id()
            tx.execute(
                sa.insert(users).values(id=known, name=name, password_hash=passwords.hashed(password), default_project_id=project_id)
            )
            assign(tx, known, held[role], project_id)
            if role == "admin":
                assign(tx, known, held[role], SYSTEM)


def _ensure(tx: sa.Connection, table: sa.Table, name: str, **values: Any) -> str:
    known: str | None = tx.scalar(sa.select(table.c.id).where(table.c.name == name))
    if known is not None:
        return known
    tx.execute(sa.insert(table).values(name=name, **values))
    made: str = values["id"]
    return made


# ---------------------------------------------------------------------------------------------------- tokens

_PROJECT_COLUMNS = [c.label(f"project_{c.name}") for c in projects.c]
_USER_COLUMNS = [users.c.id, users.c.name, users.c.description, users.c.email, users.c.enabled, users.c.default_project_id]
_BY_HASH = (
    sa.select(tokens, *(c.label(f"user_{c.name}") for c in _USER_COLUMNS if c.name != "id"), *_PROJECT_COLUMNS, roles.c.name.label("role"))
    .join(users, users.c.id == tokens.c.user_id)
    .outerjoin(projects, projects.c.id == tokens.c.target)
    .outerjoin(role_assignments, sa.and_(role_assignments.c.user_id == tokens.c.user_id, role_assignments.c.target == tokens.c.target))
    .outerjoin(roles, roles.c.id == role_assignments.c.role_id)
    .where(tokens.c.hash == sa.bindparam("hash"))
)


def find_token(tx: sa.Connection, hash_: str, now: float) -> Token | None:
    """The token of that hash if it is good at `now`: not run out or revoked, its user and project enabled, a role held still."""
    found = tx.execute(_BY_HASH, {"hash": hash_}).all()
    if not found:
        return None
    row = found[0]
    names = [r.role for r in found if r.role is not None]
    on_project = row.target is not None and row.target != SYSTEM
    if row.expires_at <= now or not row.user_enabled or (row.target is not None and not names) or (on_project and not row.project_enabled):
        return None
    credential = None
    if row.application_credential_id is not None:
        try:
            credential = application_credentials.get(tx, row.application_credential_id)
        except NotFound:
            return None
        # what the user may do there still, of what the credential was made for
        names = sorted(with_implied(names) & set(credential.roles.values()))
        if not names or not credential.is_good(now):
            return None
    return Token(
        credential=credential,
        hash=row.hash,
        audit_id=row.audit_id,
        user=User(row.user_id, row.user_name, row.user_description, row.user_email, row.user_enabled, row.user_default_project_id),
        target=row.target,
        project=Project(row.project_id, row.project_name, row.project_description, row.project_enabled) if on_project else None,
        methods=tuple(row.methods.split(",")),
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        roles=with_implied(names),
    )


def add_token(
    tx: sa.Connection,
    user_id: str,
    target: str | None,
    methods: Iterable[str],
    now: float,
    expires_at: float,
    *,
    credential_id: str | None = None,
) -> str:
    """Make a token and answer it in clear, the only time. Also throws away the ones that ran out."""
    tx.execute(sa.delete(tokens).where(tokens.c.expires_at <= now))
    token = secrets.token_urlsafe(32)
    tx.execute(
        sa.insert(tokens).values(
            hash=token_hash(token),
            audit_id=secrets.token_urlsafe(16),
            user_id=user_id,
            target=target,
            methods=",".join(methods),
            issued_at=now,
            expires_at=expires_at,
            application_credential_id=credential_id,
        )
    )
    return token


def revoke(tx: sa.Connection, hash_: str) -> None:
    tx.execute(sa.delete(tokens).where(tokens.c.hash == hash_))


# ---------------------------------------------------------------------------------------------------- projects


def list_projects(tx: sa.Connection, *, name: str | None = None, enabled: bool | None = None, held_by: str | None = None) -> list[Project]:
    """Projects by name; `held_by` keeps those on which that user has a role."""
    query = sa.select(projects).order_by(projects.c.name)
    if name is not None:
        query = query.where(projects.c.name == name)
    if enabled is not None:
        query = query.where(projects.c.enabled == enabled)
    if held_by is not None:
        query = query.where(projects.c.id.in_(sa.select(role_assignments.c.target).where(role_assignments.c.user_id == held_by)))
    return [Project(**row._mapping) for row in tx.execute(query)]


def get_project(tx: sa.Connection, project_id: str) -> Project:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(projects).where(projects.c.id == project_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find project: {project_id}.")
    return Project(**row._mapping)


def add_project(tx: sa.Connection, project: Project) -> None:
    """Raises `AlreadyExists` where the name is taken."""
    with _name_taken("project", project.name):
        tx.execute(sa.insert(projects).values(**dataclasses.asdict(project)))


def change_project(tx: sa.Connection, project_id: str, changes: Mapping[str, Any]) -> Project:
    """Raises `NotFound`, or `AlreadyExists` where the new name is taken."""
    get_project(tx, project_id)
    if changes:
        with _name_taken("project", changes.get("name")):
            tx.execute(sa.update(projects).where(projects.c.id == project_id).values(**changes))
    return get_project(tx, project_id)


def delete_project(tx: sa.Connection, project_id: str) -> None:
    """Takes the roles on it and the tokens for it along. Raises `NotFound`."""
    get_project(tx, project_id)
    tx.execute(sa.delete(role_assignments).where(role_assignments.c.target == project_id))
    tx.execute(sa.delete(tokens).where(tokens.c.target == project_id))
    tx.execute(sa.update(users).where(users.c.default_project_id == project_id).values(default_project_id=None))
    tx.execute(sa.delete(projects).where(projects.c.id == project_id))


# ---------------------------------------------------------------------------------------------------- users


def list_users(tx: sa.Connection, *, name: str | None = None, enabled: bool | None = None) -> list[User]:
    query = sa.select(*_USER_COLUMNS).order_by(users.c.name)
    if name is not None:
        query = query.where(users.c.name == name)
    if enabled is not None:
        query = query.where(users.c.enabled == enabled)
    return [User(**row._mapping) for row in tx.execute(query)]


def get_user(tx: sa.Connection, user_id: str) -> User:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(*_USER_COLUMNS).where(users.c.id == user_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find user: {user_id}.")
    return User(**row._mapping)


def password_of(tx: sa.Connection, *, user_id: str | None = None, name: str | None = None) -> tuple[User | None, str | None]:
    """A user by id or by name with the hash of the password; both None where there is no such user."""
    where = users.c.id == user_id if user_id is not None else users.c.name == name
    row = tx.execute(sa.select(*_USER_COLUMNS, users.c.password_hash).where(where)).one_or_none()
    if row is None:
        return None, None
    *facts, kept = row
    return User(*facts), kept


def add_user(tx: sa.Connection, user: User, password_hash: str | None) -> None:
    """Raises `AlreadyExists` where the name is taken, `NotFound` where the default project is not there."""
    if user.default_project_id is not None:
        get_project(tx, user.default_project_id)
    with _name_taken("user", user.name):
        tx.execute(sa.insert(users).values(password_hash=password_hash, **dataclasses.asdict(user)))


def change_user(tx: sa.Connection, user_id: str, changes: Mapping[str, Any]) -> User:
    """Set columns, ``password_hash`` among them; a new password or a disabled user ends every token of theirs.

    Raises `NotFound`, or `AlreadyExists` where the new name is taken.
    """
    get_user(tx, user_id)
    if changes.get("default_project_id") is not None:
        get_project(tx, changes["default_project_id"])
    if changes:
        with _name_taken("user", changes.get("name")):
            tx.execute(sa.update(users).where(users.c.id == user_id).values(**changes))
    if "password_hash" in changes or changes.get("enabled") is False:
        tx.execute(sa.delete(tokens).where(tokens.c.user_id == user_id))
    return get_user(tx, user_id)


def delete_user(tx: sa.Connection, user_id: str) -> None:
    """Takes the user's roles and tokens along. Raises `NotFound`."""
    get_user(tx, user_id)
    tx.execute(sa.delete(users).where(users.c.id == user_id))


@contextlib.contextmanager
def _name_taken(what: str, name: str | None) -> Iterator[None]:
    """The database keeps names unique; this says so in words."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is a {what} named {name} already.") from error


# ---------------------------------------------------------------------------------------------------- roles


def list_roles(tx: sa.Connection, *, name: str | None = None) -> list[Role]:
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


def roles_on(tx: sa.Connection, user_id: str, target: str) -> list[Role]:
    """The roles that the user was given there, without the implied ones."""
    query = sa.select(roles).join(role_assignments, role_assignments.c.role_id == roles.c.id).order_by(roles.c.name)
    found = tx.execute(query.where(role_assignments.c.user_id == user_id, role_assignments.c.target == target))
    return [Role(**row._mapping) for row in found]


def list_assignments(
    tx: sa.Connection, *, user_id: str | None = None, role_id: str | None = None, target: str | None = None
) -> list[Assignment]:
    query = (
        sa.select(
            role_assignments.c.user_id,
            users.c.name.label("user_name"),
            role_assignments.c.role_id,
            roles.c.name.label("role_name"),
            role_assignments.c.target,
            projects.c.name.label("target_name"),
        )
        .join(users, users.c.id == role_assignments.c.user_id)
        .join(roles, roles.c.id == role_assignments.c.role_id)
        .outerjoin(projects, projects.c.id == role_assignments.c.target)
        .order_by(role_assignments.c.target, users.c.name, roles.c.name)
    )
    for column, wanted in (
        (role_assignments.c.user_id, user_id),
        (role_assignments.c.role_id, role_id),
        (role_assignments.c.target, target),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    return [Assignment(**row._mapping) for row in tx.execute(query)]


def assign(tx: sa.Connection, user_id: str, role_id: str, target: str) -> None:
    """Give a role; giving it twice changes nothing. Raises `NotFound` naming what is not there."""
    _must_exist(tx, user_id, role_id, target)
    if role_id not in {role.id for role in roles_on(tx, user_id, target)}:
        tx.execute(sa.insert(role_assignments).values(user_id=user_id, role_id=role_id, target=target))


def unassign(tx: sa.Connection, user_id: str, role_id: str, target: str) -> None:
    """Take a role away. Raises `NotFound` where the user does not have it there."""
    _must_exist(tx, user_id, role_id, target)
    given = role_assignments.c
    gone = tx.execute(sa.delete(role_assignments).where(given.user_id == user_id, given.role_id == role_id, given.target == target))
    if not gone.rowcount:
        raise NotFound(f"Could not find role assignment with role: {role_id}, user: {user_id}.")


def _must_exist(tx: sa.Connection, user_id: str, role_id: str, target: str) -> None:
    get_user(tx, user_id)
    get_role(tx, role_id)
    if target != SYSTEM:
        get_project(tx, target)
