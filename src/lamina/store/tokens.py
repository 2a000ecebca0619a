"""Tokens: opaque, and kept as SHA-256 only, so that who reads the database cannot act for anybody.

What a token is worth is looked up whenever it is shown: its user, its scope, their domains, and the roles that there are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import NotFound
from lamina.store import application_credentials
from lamina.store.application_credentials import Credential
from lamina.store.domains import Domain
from lamina.store.identity import PROJECT_COLUMNS, USER_COLUMNS, Project, User
from lamina.store.role_assignments import SYSTEM, is_held
from lamina.store.roles import with_implied
from lamina.store.tables.identity import domains, projects, roles, tokens, users


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token that is good now, and whose it is. Times are seconds since the epoch."""

    hash: str
    audit_id: str
    user: User
    user_domain: Domain
    #: None for an unscoped token
    target: str | None
    #: both None where the target is no project
    project: Project | None
    project_domain: Domain | None
    #: None where the target is no domain
    domain: Domain | None
    methods: tuple[str, ...]
    issued_at: float
    expires_at: float
    #: names of the roles held on the target, the implied ones included
    roles: frozenset[str]
    #: name -> id of those that were given
    role_ids: Mapping[str, str]
    #: the application credential that it was got by
    credential: Credential | None = None


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


_USER_DOMAIN, _PROJECT_DOMAIN, _TARGET_DOMAIN = (domains.alias(name) for name in ("user_domain", "project_domain", "target_domain"))


def _labelled(prefix: str, columns: Iterable[sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    return [column.label(f"{prefix}_{column.key}") for column in columns]


def _unlabelled(prefix: str, columns: Iterable[sa.ColumnElement[Any]], row: sa.Row[Any]) -> dict[str, Any]:
    return {str(column.key): row._mapping[f"{prefix}_{column.key}"] for column in columns}


_BY_HASH = (
    sa.select(
        *_labelled("token", tokens.c),
        *_labelled("user", USER_COLUMNS),
        *_labelled("userdomain", _USER_DOMAIN.c),
        *_labelled("project", PROJECT_COLUMNS),
        *_labelled("projectdomain", _PROJECT_DOMAIN.c),
        *_labelled("domain", _TARGET_DOMAIN.c),
        *_labelled("role", (roles.c.id, roles.c.name)),
    )
    .join(users, users.c.id == tokens.c.user_id)
    .join(_USER_DOMAIN, _USER_DOMAIN.c.id == users.c.domain_id)
    .outerjoin(projects, projects.c.id == tokens.c.target)
    .outerjoin(_PROJECT_DOMAIN, _PROJECT_DOMAIN.c.id == projects.c.domain_id)
    .outerjoin(_TARGET_DOMAIN, _TARGET_DOMAIN.c.id == tokens.c.target)
    .outerjoin(roles, is_held(tokens.c.user_id, roles.c.id, tokens.c.target))
    .where(tokens.c.hash == sa.bindparam("hash"))
)


def find_token(tx: sa.Connection, hash_: str, now: float) -> Token | None:
    """The token of that hash if it is good at `now`: not run out or revoked, its user, its scope and their domains enabled, a role
    held there still.
    """
    found = tx.execute(_BY_HASH, {"hash": hash_}).all()
    if not found:
        return None
    row = found[0]
    held = {each.role_name: each.role_id for each in found if each.role_name is not None}
    enabled = row.user_enabled and row.userdomain_enabled
    if row.token_expires_at <= now or not enabled or not _is_good_scope(row, held):
        return None
    credential = None
    if row.token_application_credential_id is not None:
        credential = _credential(tx, row.token_application_credential_id, now)
        if credential is None:
            return None
        # what the user may do there still, of what the credential was made for
        still = with_implied(held) & set(credential.roles.values())
        held = {name: role_id for role_id, name in credential.roles.items() if name in still}
        if not held:
            return None
    return Token(
        credential=credential,
        hash=row.token_hash,
        audit_id=row.token_audit_id,
        user=User(**_unlabelled("user", USER_COLUMNS, row)),
        user_domain=Domain(**_unlabelled("userdomain", domains.c, row)),
        target=row.token_target,
        project=Project(**_unlabelled("project", PROJECT_COLUMNS, row)) if row.project_id is not None else None,
        project_domain=Domain(**_unlabelled("projectdomain", domains.c, row)) if row.project_id is not None else None,
        domain=Domain(**_unlabelled("domain", domains.c, row)) if row.domain_id is not None else None,
        methods=tuple(row.token_methods.split(",")),
        issued_at=row.token_issued_at,
        expires_at=row.token_expires_at,
        roles=with_implied(held),
        role_ids=held,
    )


def _is_good_scope(row: sa.Row[Any], held: Mapping[str, str]) -> bool:
    if row.token_target is None:
        return True
    if not held:
        return False
    if row.project_id is not None:
        return bool(row.project_enabled and row.projectdomain_enabled)
    return row.token_target == SYSTEM or bool(row.domain_enabled)


def _credential(tx: sa.Connection, credential_id: str, now: float) -> Credential | None:
    try:
        found = application_credentials.get(tx, credential_id)
    except NotFound:
        return None
    return found if found.is_good(now) else None


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
