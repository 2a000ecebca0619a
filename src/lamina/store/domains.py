"""Domains: what projects, users and groups belong to. The one named ``Default`` is always there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, Forbidden, NotFound
from lamina.store import limits
from lamina.store.tables.identity import domains, group_role_assignments, projects, role_assignments, tokens, user_groups, users

DOMAIN_ID = "default"
DOMAIN_NAME = "Default"


@dataclasses.dataclass(frozen=True, slots=True)
class Domain:
    id: str
    name: str
    description: str
    enabled: bool


def list_domains(tx: sa.Connection, *, domain_id: str | None = None, name: str | None = None, enabled: bool | None = None) -> list[Domain]:
    """By name."""
    query = sa.select(domains).order_by(domains.c.name)
    for column, wanted in ((domains.c.id, domain_id), (domains.c.name, name), (domains.c.enabled, enabled)):
        if wanted is not None:
            query = query.where(column == wanted)
    return [Domain(**row._mapping) for row in tx.execute(query)]


def get_domain(tx: sa.Connection, domain_id: str) -> Domain:
    """Raises `NotFound`."""
    for found in list_domains(tx, domain_id=domain_id):
        return found
    raise NotFound(f"Could not find domain: {domain_id}.")


def hold(tx: sa.Connection, domain_id: str) -> None:
    """Keep the domain from being deleted until this transaction ends, for something new in it. Raises `NotFound`."""
    if not tx.execute(sa.update(domains).where(domains.c.id == domain_id).values(enabled=domains.c.enabled)).rowcount:
        raise NotFound(f"Could not find domain: {domain_id}.")


def add_domain(tx: sa.Connection, domain: Domain) -> None:
    """Raises `AlreadyExists` where the name is taken."""
    try:
        tx.execute(sa.insert(domains).values(**dataclasses.asdict(domain)))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is a domain named {domain.name} already.") from error


def change_domain(tx: sa.Connection, domain_id: str, changes: Mapping[str, Any]) -> Domain:
    """A domain that is disabled ends the tokens of its users, for its projects and for itself.

    Raises `NotFound`, `AlreadyExists` where the new name is taken, `Forbidden` for the default domain, which stays as it is.
    """
    get_domain(tx, domain_id)
    if domain_id == DOMAIN_ID and not changes.keys() <= {"description"}:
        raise Forbidden("The default domain keeps its name and stays enabled: the administrators of the cloud are in it.")
    if changes:
        try:
            tx.execute(sa.update(domains).where(domains.c.id == domain_id).values(**changes))
        except sa.exc.IntegrityError as error:
            raise AlreadyExists(f"There is a domain named {changes.get('name')} already.") from error
    if changes.get("enabled") is False:
        _end_tokens(tx, domain_id)
    return get_domain(tx, domain_id)


def _end_tokens(tx: sa.Connection, domain_id: str) -> None:
    of_users = sa.select(users.c.id).where(users.c.domain_id == domain_id)
    tx.execute(sa.delete(tokens).where(tokens.c.user_id.in_(of_users) | tokens.c.target.in_(_targets(domain_id))))


def _targets(domain_id: str) -> sa.CompoundSelect[Any]:
    """The domain and its projects: where a role can be held within it."""
    of_projects = sa.select(projects.c.id).where(projects.c.domain_id == domain_id)
    return sa.union_all(sa.select(domains.c.id).where(domains.c.id == domain_id), of_projects)


def delete_domain(tx: sa.Connection, domain_id: str) -> None:
    """Takes its projects, users and groups along, with their roles, tokens and limits.

    Raises `NotFound`, and `Forbidden` while the domain is enabled, as Keystone does: nobody deletes by a slip what is in use.
    """
    found = get_domain(tx, domain_id)
    if domain_id == DOMAIN_ID:
        raise Forbidden("The default domain cannot be deleted.")
    if (
        found.enabled
        or not tx.execute(sa.update(domains).where(domains.c.id == domain_id, sa.not_(domains.c.enabled)).values(enabled=False)).rowcount
    ):
        raise Forbidden("Cannot delete a domain that is enabled; disable it first.")
    _end_tokens(tx, domain_id)
    limits.forget_projects(tx, projects.c.domain_id == domain_id)
    limits.forget_users(tx, users.c.domain_id == domain_id)
    for given in (role_assignments, group_role_assignments):
        tx.execute(sa.delete(given).where(given.c.target.in_(_targets(domain_id))))
    of_projects = sa.select(projects.c.id).where(projects.c.domain_id == domain_id)
    tx.execute(sa.update(users).where(users.c.default_project_id.in_(of_projects)).values(default_project_id=None))
    for inhabited in (user_groups, users, projects, domains):
        where = inhabited.c.id if inhabited is domains else inhabited.c.domain_id
        tx.execute(sa.delete(inhabited).where(where == domain_id))
