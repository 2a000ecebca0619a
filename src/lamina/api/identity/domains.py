"""Domains, which projects, users and groups are in."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers, bodies, reach
from lamina.api.routing import ADMIN, ANY_USER, DOMAIN_READER, READER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import NotFound
from lamina.store import domains, identity, role_assignments
from lamina.store.domains import Domain


class NewDomain(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.Name
    description: bodies.Text | None = None
    enabled: bool = True
    tags: bodies.NoTags | None = None
    options: bodies.Nothing | None = None


class NewDomainBody(msgspec.Struct):
    domain: NewDomain


class DomainChanges(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.Name | UnsetType = UNSET
    description: bodies.Text | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    tags: bodies.NoTags | UnsetType = UNSET
    options: bodies.Nothing | UnsetType = UNSET


class DomainChangesBody(msgspec.Struct):
    domain: DomainChanges


def index(request: Request) -> Reply:
    """GET /domains."""
    within, name = reach.asked_domain(request), request.value("name")
    with request.plane.db.read() as tx:
        found = domains.list_domains(tx, domain_id=within, name=name, enabled=answers.flag(request, "enabled"))
    return answers.listing(request, "domains", (answers.domain(request.plane.settings, d) for d in found))


def show(request: Request) -> Reply:
    """GET /domains/{domain_id}: any for who is of the system, for others the one that their token is for, or their project is in."""
    domain_id, context = request.path["domain_id"], request.context
    with request.plane.db.read() as tx:
        own = context.domain_id
        if own is None and context.project_id is not None:
            own = identity.get_project(tx, context.project_id).domain_id
        if not (context.is_admin or context.system) and own != domain_id:
            raise NotFound(f"Could not find domain: {domain_id}.")
        found = domains.get_domain(tx, domain_id)
    return Reply(200, {"domain": answers.domain(request.plane.settings, found)})


def create(request: Request) -> Reply:
    """POST /domains."""
    wanted = request.json(NewDomainBody).domain
    made = Domain(ids.new_identity_id(), wanted.name, wanted.description or "", wanted.enabled)
    with request.plane.db.write() as tx:
        domains.add_domain(tx, made)
    return Reply(201, {"domain": answers.domain(request.plane.settings, made)})


def change(request: Request) -> Reply:
    """PATCH /domains/{domain_id}."""
    wanted = request.json(DomainChangesBody).domain
    with request.plane.db.write() as tx:
        changed = domains.change_domain(tx, request.path["domain_id"], bodies.changes(wanted, "name", "description", "enabled"))
    return Reply(200, {"domain": answers.domain(request.plane.settings, changed)})


def delete(request: Request) -> Reply:
    """DELETE /domains/{domain_id}: one that is disabled, with all that is in it."""
    with request.plane.db.write() as tx:
        domains.delete_domain(tx, request.path["domain_id"])
    return Reply(204)


def mine(request: Request) -> Reply:
    """GET /auth/domains: which the caller could have a token for."""
    with request.plane.db.read() as tx:
        found = role_assignments.held_domains(tx, request.context.user_id)
    return answers.listing(request, "domains", (answers.domain(request.plane.settings, d) for d in found))


ROUTES = (
    Route("GET", "/domains", index, "identity:list_domains", DOMAIN_READER, query=("enabled", "name")),
    Route("POST", "/domains", create, "identity:create_domain", ADMIN, takes=(NewDomainBody,), gives=(201,)),
    Route("GET", "/domains/{domain_id}", show, "identity:get_domain", f"{READER} or rule:domain_reader"),
    Route("PATCH", "/domains/{domain_id}", change, "identity:update_domain", ADMIN, takes=(DomainChangesBody,)),
    Route("DELETE", "/domains/{domain_id}", delete, "identity:delete_domain", ADMIN, gives=(204,)),
    Route("GET", "/auth/domains", mine, "identity:get_auth_domains", ANY_USER),
)
