"""Projects, and which of them a caller may use."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers, bodies, reach
from lamina.api.routing import ANY_USER, DOMAIN_MANAGER, DOMAIN_READER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import BadRequest
from lamina.store import identity
from lamina.store.identity import Project


class NewProject(msgspec.Struct, forbid_unknown_fields=True):
    """A project to make. What Lamina has no notion of (trees, tags, options) may be said if it says nothing."""

    name: bodies.Name
    description: bodies.Text | None = None
    enabled: bool = True
    domain_id: bodies.Id | None = None
    parent_id: bodies.Id | None = None
    is_domain: Literal[False] = False
    tags: bodies.NoTags | None = None
    options: bodies.Nothing | None = None


class NewProjectBody(msgspec.Struct):
    project: NewProject


class ProjectChanges(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.Name | UnsetType = UNSET
    description: bodies.Text | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    domain_id: bodies.Id | UnsetType = UNSET
    is_domain: Literal[False] | UnsetType = UNSET
    tags: bodies.NoTags | UnsetType = UNSET
    options: bodies.Nothing | UnsetType = UNSET


class ProjectChangesBody(msgspec.Struct):
    project: ProjectChanges


def index(request: Request) -> Reply:
    """GET /projects."""
    if answers.flag(request, "is_domain"):
        return answers.listing(request, "projects", ())
    # the parent of every project is its domain
    within, name = reach.asked_domain(request, "domain_id", "parent_id"), request.value("name")
    with request.plane.db.read() as tx:
        found = identity.list_projects(tx, name=name, domain_id=within, enabled=answers.flag(request, "enabled"))
    return answers.listing(request, "projects", (answers.project(request.plane.settings, p) for p in found))


def _project(request: Request, tx: sa.Connection) -> Project:
    return reach.project(request, tx, request.path["project_id"])


def show(request: Request) -> Reply:
    """GET /projects/{project_id}."""
    reach.must_be_own(request, "project", request.context.project_id, request.path["project_id"])
    with request.plane.db.read() as tx:
        found = _project(request, tx)
    return Reply(200, {"project": answers.project(request.plane.settings, found)})


def create(request: Request) -> Reply:
    """POST /projects."""
    wanted = request.json(NewProjectBody).project
    domain_id = reach.domain_of_new(request, wanted.domain_id or wanted.parent_id)
    if wanted.parent_id not in (None, domain_id):
        raise BadRequest("parent_id: a project is right below its domain; there are no trees of projects here")
    made = Project(ids.new_identity_id(), wanted.name, wanted.description or "", wanted.enabled, domain_id)
    with request.plane.db.write() as tx:
        identity.add_project(tx, made)
    return Reply(201, {"project": answers.project(request.plane.settings, made)})


def change(request: Request) -> Reply:
    """PATCH /projects/{project_id}."""
    wanted = request.json(ProjectChangesBody).project
    with request.plane.db.write() as tx:
        found = _project(request, tx)
        reach.must_stay(found.domain_id, wanted.domain_id, "project")
        changed = identity.change_project(tx, found.id, bodies.changes(wanted, "name", "description", "enabled"))
    return Reply(200, {"project": answers.project(request.plane.settings, changed)})


def delete(request: Request) -> Reply:
    """DELETE /projects/{project_id}."""
    with request.plane.db.write() as tx:
        identity.delete_project(tx, _project(request, tx).id)
    return Reply(204)


def mine(request: Request) -> Reply:
    """GET /auth/projects: where the caller could scope a token to."""
    with request.plane.db.read() as tx:
        found = identity.usable_projects(tx, request.context.user_id)
    return answers.listing(request, "projects", (answers.project(request.plane.settings, p) for p in found))


def of_user(request: Request) -> Reply:
    """GET /users/{user_id}/projects: those that the user has a role on, of his own or by a group."""
    user_id, own, within = request.path["user_id"], request.context.user_id, None
    reach.must_be_own(request, "user", own, user_id)
    with request.plane.db.read() as tx:
        user = identity.get_user(tx, user_id)
        if user_id != own:
            within = request.context.domain_id
            reach.must_reach(request, "user", user.id, user.domain_id)
        found = identity.list_projects(tx, held_by=user_id, domain_id=within)
    return answers.listing(request, "projects", (answers.project(request.plane.settings, p) for p in found))


_LISTED_BY = ("domain_id", "enabled", "is_domain", "name", "parent_id")
ROUTES = (
    Route("GET", "/projects", index, "identity:list_projects", DOMAIN_READER, query=_LISTED_BY),
    Route("POST", "/projects", create, "identity:create_project", DOMAIN_MANAGER, takes=(NewProjectBody,), gives=(201,), refuses=(404,)),
    Route("GET", "/projects/{project_id}", show, "identity:get_project", ANY_USER),
    Route("PATCH", "/projects/{project_id}", change, "identity:update_project", DOMAIN_MANAGER, takes=(ProjectChangesBody,)),
    Route("DELETE", "/projects/{project_id}", delete, "identity:delete_project", DOMAIN_MANAGER, gives=(204,)),
    Route("GET", "/auth/projects", mine, "identity:get_auth_projects", ANY_USER),
    Route("GET", "/users/{user_id}/projects", of_user, "identity:list_user_projects", ANY_USER),
)
