"""Keypairs: public keys by their user and name. A private key is never kept."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, BadRequest, NotFound
from lamina.store.paging import ordered
from lamina.store.tables.compute import keypairs


@dataclasses.dataclass(frozen=True, slots=True)
class Keypair:
    """``type`` is ``ssh`` or ``x509``; ``created_at`` is in seconds since the epoch."""

    user_id: str
    name: str
    type: str
    fingerprint: str
    public_key: str
    created_at: float


def add(tx: sa.Connection, keypair: Keypair) -> None:
    """Raises `AlreadyExists` where the user has one of that name."""
    try:
        tx.execute(sa.insert(keypairs).values(**dataclasses.asdict(keypair)))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"Key pair '{keypair.name}' already exists.") from error


def get(tx: sa.Connection, user_id: str, name: str) -> Keypair:
    """Raises `NotFound`."""
    row = tx.execute(sa.select(keypairs).where(keypairs.c.user_id == user_id, keypairs.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"Keypair {name} not found for user {user_id}")
    return Keypair(**row._mapping)


def page(tx: sa.Connection, user_id: str, *, marker: str | None = None, limit: int = 1000) -> list[Keypair]:
    """A user's keypairs by name, at most `limit` behind the one named `marker`. Raises `BadRequest` for an unknown marker."""
    if marker is not None and tx.scalar(sa.select(keypairs.c.name).where(keypairs.c.user_id == user_id, keypairs.c.name == marker)) is None:
        raise BadRequest(f"marker: there is no keypair {marker[:80]!r}")
    query = sa.select(keypairs).where(keypairs.c.user_id == user_id)
    query = ordered(query, [(keypairs.c.name, "asc")], None if marker is None else [marker]).limit(limit)
    return [Keypair(**row._mapping) for row in tx.execute(query)]


def delete(tx: sa.Connection, user_id: str, name: str) -> None:
    """Raises `NotFound`."""
    if not tx.execute(sa.delete(keypairs).where(keypairs.c.user_id == user_id, keypairs.c.name == name)).rowcount:
        raise NotFound(f"Keypair {name} not found for user {user_id}")
