"""Roles: those that Lamina comes with, and those that operators add for rules of their own."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers, bodies
from lamina.api.routing import ADMIN, DOMAIN_MANAGER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import BadRequest
from lamina.store import roles
from lamina.store.roles import IMPLIES, Role


class NewRole(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.LongName
    description: bodies.Text | None = None
    domain_id: bodies.Id | None = None
    options: bodies.Nothing | None = None


class NewRoleBody(msgspec.Struct):
    role: NewRole


class RoleChanges(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.LongName | UnsetType = UNSET
    description: bodies.Text | UnsetType | None = UNSET
    options: bodies.Nothing | UnsetType = UNSET


class RoleChangesBody(msgspec.Struct):
    role: RoleChanges


def index(request: Request) -> Reply:
    """GET /roles."""
    with request.plane.db.read() as tx:
        found = [] if request.value("domain_id") else roles.list_roles(tx, name=request.value("name"))
    return answers.listing(request, "roles", (answers.role(request.plane.settings, r) for r in found))


def show(request: Request) -> Reply:
    """GET /roles/{role_id}."""
    with request.plane.db.read() as tx:
        found = roles.get_role(tx, request.path["role_id"])
    return Reply(200, {"role": answers.role(request.plane.settings, found)})


def create(request: Request) -> Reply:
    """POST /roles: one that counts where a policy file names it, and nowhere else."""
    wanted = request.json(NewRoleBody).role
    if wanted.domain_id is not None:
        raise BadRequest("domain_id: roles are the same in every domain here")
    made = Role(ids.new_identity_id(), wanted.name, wanted.description or "")
    with request.plane.db.write() as tx:
        roles.add_role(tx, made)
    return Reply(201, {"role": answers.role(request.plane.settings, made)})


def change(request: Request) -> Reply:
    """PATCH /roles/{role_id}."""
    wanted = request.json(RoleChangesBody).role
    with request.plane.db.write() as tx:
        changed = roles.change_role(tx, request.path["role_id"], bodies.changes(wanted, "name", "description"))
    return Reply(200, {"role": answers.role(request.plane.settings, changed)})


def delete(request: Request) -> Reply:
    """DELETE /roles/{role_id}."""
    with request.plane.db.write() as tx:
        roles.delete_role(tx, request.path["role_id"])
    return Reply(204)


def inferences(request: Request) -> Reply:
    """GET /role_inferences: which role brings along which."""
    with request.plane.db.read() as tx:
        known = {role.name: {"id": role.id, "name": role.name} for role in roles.list_roles(tx)}
    rules = [{"prior_role": known[prior], "implies": [known[implied]]} for prior, implied in IMPLIES.items()]
    return Reply(200, {"role_inferences": rules})


ROUTES = (
    Route("GET", "/roles", index, "identity:list_roles", DOMAIN_MANAGER, query=("domain_id", "name")),
    Route("POST", "/roles", create, "identity:create_role", ADMIN, takes=(NewRoleBody,), gives=(201,)),
    Route("GET", "/roles/{role_id}", show, "identity:get_role", DOMAIN_MANAGER),
    Route("PATCH", "/roles/{role_id}", change, "identity:update_role", ADMIN, takes=(RoleChangesBody,)),
    Route("DELETE", "/roles/{role_id}", delete, "identity:delete_role", ADMIN, gives=(204,)),
    Route("GET", "/role_inferences", inferences, "identity:list_role_inference_rules", ADMIN),
)
