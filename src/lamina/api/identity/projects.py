"""Projects, the one domain they are in, and which of them a caller may use."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers
from lamina.api.routing import ADMIN, ANY_USER, READER, Reply, Request, Route
from lamina.model.errors import NotFound
from lamina.store import identity
from lamina.store.identity import DOMAIN_ID, Project

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=answers.NAME)]
_Text = Annotated[str, msgspec.Meta(max_length=65535, pattern=answers.TEXT)]
_Nothing = Annotated[dict[str, Any], msgspec.Meta(max_length=0)]
_NoTags = Annotated[list[str], msgspec.Meta(max_length=0)]


class NewProject(msgspec.Struct, forbid_unknown_fields=True):
    """A project to make. What Lamina has no notion of (trees, tags, options) may be said if it says nothing."""

    name: _Name
    description: _Text | None = None
    enabled: bool = True
    domain_id: Literal["default"] | None = None
    parent_id: Literal["default"] | None = None
    is_domain: Literal[False] = False
    tags: _NoTags | None = None
    options: _Nothing | None = None


class NewProjectBody(msgspec.Struct):
    project: NewProject


class ProjectChanges(msgspec.Struct, forbid_unknown_fields=True):
    name: _Name | UnsetType = UNSET
    description: _Text | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    domain_id: Literal["default"] | UnsetType = UNSET
    is_domain: Literal[False] | UnsetType = UNSET
    tags: _NoTags | UnsetType = UNSET
    options: _Nothing | UnsetType = UNSET


class ProjectChangesBody(msgspec.Struct):
    project: ProjectChanges


def index(request: Request) -> Reply:
    """GET /projects."""
    if answers.elsewhere(request) or answers.flag(request, "is_domain"):
        return answers.listing(request, "projects", ())
    with request.plane.db.read() as tx:
        found = identity.list_projects(tx, name=request.value("name"), enabled=answers.flag(request, "enabled"))
    return answers.listing(request, "projects", (answers.project(request.plane.settings, p) for p in found))


def show(request: Request) -> Reply:
    """GET /projects/{project_id}."""
    project_id = request.path["project_id"]
    answers.must_be_own(request, "project", request.context.project_id, project_id)
    with request.plane.db.read() as tx:
        found = identity.get_project(tx, project_id)
    return Reply(200, {"project": answers.project(request.plane.settings, found)})


def create(request: Request) -> Reply:
    """POST /projects."""
    wanted = request.json(NewProjectBody).project
    made = Project(identity.new_id(), wanted.name, wanted.description or "", wanted.enabled)
    with request.plane.db.write() as tx:
        identity.add_project(tx, made)
    return Reply(201, {"project": answers.project(request.plane.settings, made)})


def change(request: Request) -> Reply:
    """PATCH /projects/{project_id}."""
    wanted = request.json(ProjectChangesBody).project
    said = {name: getattr(wanted, name) for name in ("name", "description", "enabled")}
    changes = {name: value for name, value in said.items() if value is not UNSET}
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    with request.plane.db.write() as tx:
        changed = identity.change_project(tx, request.path["project_id"], changes)
    return Reply(200, {"project": answers.project(request.plane.settings, changed)})


def delete(request: Request) -> Reply:
    """DELETE /projects/{project_id}."""
    with request.plane.db.write() as tx:
        identity.delete_project(tx, request.path["project_id"])
    return Reply(204)


def mine(request: Request) -> Reply:
    """GET /auth/projects: where the caller could scope a token to."""
    with request.plane.db.read() as tx:
        found = identity.list_projects(tx, enabled=True, held_by=request.context.user_id)
    return answers.listing(request, "projects", (answers.project(request.plane.settings, p) for p in found))


def of_user(request: Request) -> Reply:
    """GET /users/{user_id}/projects."""
    user_id = request.path["user_id"]
    answers.must_be_own(request, "user", request.context.user_id, user_id)
    with request.plane.db.read() as tx:
        identity.get_user(tx, user_id)
        found = identity.list_projects(tx, held_by=user_id)
    return answers.listing(request, "projects", (answers.project(request.plane.settings, p) for p in found))


def domains(request: Request) -> Reply:
    """GET /domains."""
    only = answers.domain(request.plane.settings)
    shown = request.value("name") in (None, only["name"]) and answers.flag(request, "enabled") in (None, True)
    return answers.listing(request, "domains", [only] if shown else [])


def domain(request: Request) -> Reply:
    """GET /domains/{domain_id}."""
    if request.path["domain_id"] != DOMAIN_ID:
        raise NotFound(f"Could not find domain: {request.path['domain_id']}.")
    return Reply(200, {"domain": answers.domain(request.plane.settings)})


def no_domains(request: Request) -> Reply:
    """GET /auth/domains: nobody has a role on the domain itself."""
    return answers.listing(request, "domains", ())


ROUTES = (
    Route("GET", "/projects", index, "identity:list_projects", ADMIN),
    Route("POST", "/projects", create, "identity:create_project", ADMIN),
    Route("GET", "/projects/{project_id}", show, "identity:get_project", ANY_USER),
    Route("PATCH", "/projects/{project_id}", change, "identity:update_project", ADMIN),
    Route("DELETE", "/projects/{project_id}", delete, "identity:delete_project", ADMIN),
    Route("GET", "/auth/projects", mine, "identity:get_auth_projects", ANY_USER),
    Route("GET", "/auth/domains", no_domains, "identity:get_auth_domains", ANY_USER),
    Route("GET", "/users/{user_id}/projects", of_user, "identity:list_user_projects", ANY_USER),
    Route("GET", "/domains", domains, "identity:list_domains", ADMIN),
    Route("GET", "/domains/{domain_id}", domain, "identity:get_domain", READER),
)
