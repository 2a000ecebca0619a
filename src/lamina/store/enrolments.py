"""Queries over join tokens and enrolled hosts."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import ConcurrentUpdate, NotFound
from lamina.store.tables.hosts import enrolments, join_tokens


@dataclasses.dataclass(frozen=True, slots=True)
class TokenRow:
    """Permission to enrol one host. Times are seconds since the epoch."""

    id: str
    #: SHA-256 of the secret
    hash: str
    #: the only host that may use it; None for any
    host: str | None
    created_at: float
    expires_at: float
    used_at: float | None = None
    used_by: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Enrolment:
    """A host that may dial in, and the one key that speaks for it. Times are seconds since the epoch."""

    host: str
    #: SHA-256 of the public key
    key: str
    token_id: str
    #: serial number and end of the newest certificate
    serial: str
    expires_at: float
    enrolled_at: float
    revoked_at: float | None = None


def add_token(tx: sa.Connection, token: TokenRow) -> None:
    tx.execute(sa.insert(join_tokens).values(**dataclasses.asdict(token)))


def list_tokens(tx: sa.Connection) -> list[TokenRow]:
    return [_token(row) for row in tx.execute(sa.select(join_tokens).order_by(join_tokens.c.created_at, join_tokens.c.id))]


def find_token(tx: sa.Connection, hash_: str) -> TokenRow | None:
    row = tx.execute(sa.select(join_tokens).where(join_tokens.c.hash == hash_)).one_or_none()
    return _token(row) if row else None


def use_token(tx: sa.Connection, token_id: str, host: str, now: float) -> None:
    """Raises `ConcurrentUpdate` where somebody else has used it or taken it away."""
    unused = (join_tokens.c.id == token_id) & join_tokens.c.used_at.is_(None)
    if tx.execute(sa.update(join_tokens).where(unused).values(used_at=now, used_by=host)).rowcount != 1:
        raise ConcurrentUpdate("The join token was used by somebody else at this moment.")


def delete_token(tx: sa.Connection, token_id: str) -> None:
    """Raises `NotFound`."""
    if tx.execute(sa.delete(join_tokens).where(join_tokens.c.id == token_id)).rowcount != 1:
        raise NotFound(f"Join token {token_id[:255]} could not be found.")


def forget_tokens(tx: sa.Connection, before: float) -> None:
    """Those that ran out before then."""
    tx.execute(sa.delete(join_tokens).where(join_tokens.c.expires_at < before))


def enrolled(tx: sa.Connection) -> list[Enrolment]:
    """Every host that may dial in."""
    query = sa.select(enrolments).where(enrolments.c.revoked_at.is_(None)).order_by(enrolments.c.host)
    return [_enrolment(row) for row in tx.execute(query)]


def find(tx: sa.Connection, host: str) -> Enrolment | None:
    """A host's enrolment, revoked or not."""
    row = tx.execute(sa.select(enrolments).where(enrolments.c.host == host)).one_or_none()
    return _enrolment(row) if row else None


def put(tx: sa.Connection, enrolment: Enrolment) -> None:
    """Insert, or replace what is there for the host."""
    values = dataclasses.asdict(enrolment)
    if tx.execute(sa.update(enrolments).where(enrolments.c.host == enrolment.host).values(**values)).rowcount == 0:
        tx.execute(sa.insert(enrolments).values(**values))


def revoke(tx: sa.Connection, host: str, now: float) -> None:
    """From now on nothing speaks for the host."""
    tx.execute(sa.update(enrolments).where(enrolments.c.host == host, enrolments.c.revoked_at.is_(None)).values(revoked_at=now))


def _token(row: sa.Row[Any]) -> TokenRow:
    return TokenRow(**row._mapping)


def _enrolment(row: sa.Row[Any]) -> Enrolment:
    return Enrolment(**row._mapping)
