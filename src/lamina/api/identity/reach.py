"""How far a token reaches in the Identity API: one for a domain within it, whatever a policy file says; any other everywhere.

Who has a role on a domain reads (reader) or manages (manager) what is in it. What he may not do there is become more than that
(source: Keystone's "domain manager" persona): he gives and takes the roles `GIVEN_IN_DOMAINS` only, on the domain and on its
projects, and lays no hand on users, and puts nobody into groups, that have anything else. What is in other domains answers
him as what does not exist.
"""

from __future__ import annotations

import sqlalchemy as sa

from lamina.api.routing import Request
from lamina.model.errors import BadRequest, Forbidden, NotFound
from lamina.store import groups, identity, role_assignments
from lamina.store.domains import DOMAIN_ID
from lamina.store.groups import Group
from lamina.store.identity import Project, User
from lamina.store.role_assignments import Holder

GIVEN_IN_DOMAINS = frozenset({"manager", "member", "reader"})
#: no domain's id: a filter by it finds nothing
_NO_DOMAIN = ""


def asked_domain(request: Request, *names: str) -> str | None:
    """By which domain a list is filtered, as the query parameters of these names say, and within the token's reach."""
    wanted = {request.value(name) for name in names} - {None, ""}
    if request.context.domain_id is not None:
        wanted.add(request.context.domain_id)
    if len(wanted) > 1:
        return _NO_DOMAIN
    return next(iter(wanted), None)


def domain_of_new(request: Request, wanted: str | None) -> str:
    """Where something new belongs: where it is said to, or else in the token's domain, or the default one. Raises `Forbidden`."""
    own = request.context.domain_id
    if wanted is not None and own not in (None, wanted):
        raise Forbidden("A token for a domain makes nothing outside of it.")
    return wanted or own or DOMAIN_ID


def must_reach(request: Request, what: str, id_: str, domain_id: str) -> None:
    """Raises `NotFound`, in the words for what does not exist."""
    if request.context.domain_id not in (None, domain_id):
        raise NotFound(f"Could not find {what}: {id_}.")


def user(request: Request, tx: sa.Connection, user_id: str) -> User:
    """A user within the token's reach. Raises `NotFound`, alike for what is not there and what is in another domain."""
    found = identity.get_user(tx, user_id)
    must_reach(request, "user", found.id, found.domain_id)
    return found


def group(request: Request, tx: sa.Connection, group_id: str) -> Group:
    """A group within the token's reach. Raises `NotFound` as `user` does."""
    found = groups.get_group(tx, group_id)
    must_reach(request, "group", found.id, found.domain_id)
    return found


def project(request: Request, tx: sa.Connection, project_id: str) -> Project:
    """A project within the token's reach. Raises `NotFound` as `user` does."""
    found = identity.get_project(tx, project_id)
    must_reach(request, "project", found.id, found.domain_id)
    return found


def must_stay(domain_id: str, wanted: object, what: str) -> None:
    """Raises `BadRequest` where something would be moved to another domain."""
    if isinstance(wanted, str) and wanted != domain_id:
        raise BadRequest(f"domain_id: a {what} stays in its domain")


def must_be_own(request: Request, what: str, own: str | None, asked: str) -> None:
    """Admins and readers of a domain see others, everybody himself. Raises `Forbidden`, alike for what exists and what does not."""
    context = request.context
    if not (context.is_admin or "reader" in context.domain_roles or own == asked):
        raise Forbidden(f"You are not authorized to see or change this {what}; only an admin and its owner are.")


def must_not_have_more(tx: sa.Connection, request: Request, holder: Holder, holder_id: str) -> None:
    """Raises `Forbidden` where a user or group has what a manager of the domain could not give."""
    domain_id = request.context.domain_id
    if domain_id is None:
        return
    if holder is Holder.USER:
        held = role_assignments.list_effective(tx, user_id=holder_id)
    else:
        held = role_assignments.list_assignments(tx, group_id=holder_id)
    if any(one.within != domain_id or one.role_name not in GIVEN_IN_DOMAINS for one in held):
        raise Forbidden(f"This {holder} has roles that are not the domain's to give; only an admin of the cloud may do that.")


def must_be_given_in_domains(request: Request, role_name: str) -> None:
    """Raises `Forbidden` for a role that managers of domains do not give."""
    if request.context.domain_id is not None and role_name not in GIVEN_IN_DOMAINS:
        raise Forbidden(f"Within a domain the roles {', '.join(sorted(GIVEN_IN_DOMAINS))} are given and taken; this is another.")
