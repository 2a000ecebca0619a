"""Application credentials: what a program proves itself by in the name of a user, for one project and with some of the user's roles.

The secret is kept as argon2id only. A credential is worth nothing once its user has none of its roles on the project any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, ConcurrentUpdate, NotFound
from lamina.store.tables.identity import application_credential_roles, application_credentials, roles, tokens


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """Times are seconds since the epoch. ``roles`` maps ids to names."""

    id: str
    user_id: str
    project_id: str
    name: str
    description: str | None
    #: whether it may be used to make and delete credentials
    unrestricted: bool
    expires_at: float | None
    created_at: float
    roles: dict[str, str] = dataclasses.field(default_factory=dict)

    def is_good(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


_COLUMNS = [application_credentials.c[field.name] for field in dataclasses.fields(Credential) if field.name != "roles"]


def add(tx: sa.Connection, credential: Credential, secret_hash: str) -> None:
    """Raises `AlreadyExists` where the user has one of that name, and `ConcurrentUpdate` where one of its roles is no more."""
    values = {column.name: getattr(credential, column.name) for column in _COLUMNS}
    try:
        tx.execute(sa.insert(application_credentials).values(secret_hash=secret_hash, **values))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is an application credential named {credential.name} already.") from error
    held = [{"credential_id": credential.id, "role_id": role_id} for role_id in credential.roles]
    try:
        tx.execute(sa.insert(application_credential_roles), held)
    except sa.exc.IntegrityError as error:
        raise ConcurrentUpdate("One of the roles was deleted at this moment; try again.") from error


def of_user(tx: sa.Connection, user_id: str, *, name: str | None = None) -> list[Credential]:
    """By name."""
    query = sa.select(*_COLUMNS).where(application_credentials.c.user_id == user_id).order_by(application_credentials.c.name)
    if name is not None:
        query = query.where(application_credentials.c.name == name)
    return _with_roles(tx, [Credential(**row._mapping) for row in tx.execute(query)])


def get(tx: sa.Connection, credential_id: str) -> Credential:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(*_COLUMNS).where(application_credentials.c.id == credential_id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find application credential: {credential_id}.")
    return _with_roles(tx, [Credential(**row._mapping)])[0]


def secret_of(
    tx: sa.Connection, *, credential_id: str | None = None, user_id: str | None = None, name: str | None = None
) -> tuple[str, str] | None:
    """The id and the hash of the secret, by the id or by the user and the name; None where there is no such credential."""
    known = application_credentials.c
    where = known.id == credential_id if credential_id is not None else (known.user_id == user_id) & (known.name == name)
    row = tx.execute(sa.select(known.id, known.secret_hash).where(where)).one_or_none()
    return (row.id, row.secret_hash) if row is not None else None


def delete(tx: sa.Connection, credential_id: str) -> None:
    """The tokens got by it end with it. Raises `NotFound`."""
    get(tx, credential_id)
    tx.execute(sa.delete(tokens).where(tokens.c.application_credential_id == credential_id))
    tx.execute(sa.delete(application_credentials).where(application_credentials.c.id == credential_id))


def _with_roles(tx: sa.Connection, found: Iterable[Credential]) -> list[Credential]:
    credentials = list(found)
    query = (
        sa.select(application_credential_roles.c.credential_id, roles.c.id, roles.c.name)
        .join(roles, roles.c.id == application_credential_roles.c.role_id)
        .where(application_credential_roles.c.credential_id.in_([one.id for one in credentials]))
        .order_by(roles.c.name)
    )
    held: dict[str, dict[str, str]] = {}
    for credential_id, role_id, name in tx.execute(query):
        held.setdefault(credential_id, {})[role_id] = name
    return [dataclasses.replace(one, roles=held.get(one.id, {})) for one in credentials]
