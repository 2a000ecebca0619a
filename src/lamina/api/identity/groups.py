"""Groups and who is in them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers, bodies, reach
from lamina.api.routing import ANY_USER, DOMAIN_MANAGER, DOMAIN_READER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import NotFound
from lamina.store import groups, identity
from lamina.store.groups import Group
from lamina.store.role_assignments import Holder


class NewGroup(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.Name
    description: bodies.Text | None = None
    domain_id: bodies.Id | None = None


class NewGroupBody(msgspec.Struct):
    group: NewGroup


class GroupChanges(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.Name | UnsetType = UNSET
    description: bodies.Text | UnsetType | None = UNSET
    domain_id: bodies.Id | UnsetType = UNSET


class GroupChangesBody(msgspec.Struct):
    group: GroupChanges


def _group(request: Request, tx: sa.Connection) -> Group:
    return reach.group(request, tx, request.path["group_id"])


def _user(request: Request, tx: sa.Connection) -> identity.User:
    return reach.user(request, tx, request.path["user_id"])


def index(request: Request) -> Reply:
    """GET /groups."""
    within = reach.asked_domain(request, "domain_id")
    with request.plane.db.read() as tx:
        found = groups.list_groups(tx, domain_id=within, name=request.value("name"))
    return answers.listing(request, "groups", (answers.group(request.plane.settings, g) for g in found))


def show(request: Request) -> Reply:
    """GET /groups/{group_id}."""
    with request.plane.db.read() as tx:
        found = _group(request, tx)
    return Reply(200, {"group": answers.group(request.plane.settings, found)})


def create(request: Request) -> Reply:
    """POST /groups."""
    wanted = request.json(NewGroupBody).group
    made = Group(ids.new_identity_id(), wanted.name, wanted.description or "", reach.domain_of_new(request, wanted.domain_id))
    with request.plane.db.write() as tx:
        groups.add_group(tx, made)
    return Reply(201, {"group": answers.group(request.plane.settings, made)})


def change(request: Request) -> Reply:
    """PATCH /groups/{group_id}."""
    wanted = request.json(GroupChangesBody).group
    with request.plane.db.write() as tx:
        found = _group(request, tx)
        reach.must_stay(found.domain_id, wanted.domain_id, "group")
        changed = groups.change_group(tx, found.id, bodies.changes(wanted, "name", "description"))
    return Reply(200, {"group": answers.group(request.plane.settings, changed)})


def delete(request: Request) -> Reply:
    """DELETE /groups/{group_id}: whoever was in it has its roles no longer."""
    with request.plane.db.write() as tx:
        groups.delete_group(tx, _group(request, tx).id)
    return Reply(204)


def members(request: Request) -> Reply:
    """GET /groups/{group_id}/users."""
    with request.plane.db.read() as tx:
        found = groups.members(tx, _group(request, tx).id)
    seen = (user for user in found if request.context.domain_id in (None, user.domain_id))
    return answers.listing(request, "users", (answers.user(request.plane.settings, u) for u in seen))


def check(request: Request) -> Reply:
    """GET and HEAD /groups/{group_id}/users/{user_id}."""
    with request.plane.db.read() as tx:
        group, user = _group(request, tx), _user(request, tx)
        if not groups.is_member(tx, group.id, user.id):
            raise NotFound(f"User {user.id} is not in group {group.id}.")
    return Reply(204)


def put_in(request: Request) -> Reply:
    """PUT /groups/{group_id}/users/{user_id}."""
    with request.plane.db.write() as tx:
        group, user = _group(request, tx), _user(request, tx)
        reach.must_not_have_more(tx, request, Holder.GROUP, group.id)
        groups.put_in(tx, group.id, user.id)
    return Reply(204)


def take_out(request: Request) -> Reply:
    """DELETE /groups/{group_id}/users/{user_id}: the user has the group's roles no longer, with whatever token."""
    with request.plane.db.write() as tx:
        groups.take_out(tx, _group(request, tx).id, _user(request, tx).id)
    return Reply(204)


def of_user(request: Request) -> Reply:
    """GET /users/{user_id}/groups."""
    user_id, own = request.path["user_id"], request.context.user_id
    reach.must_be_own(request, "user", own, user_id)
    with request.plane.db.read() as tx:
        within = None
        if user_id != own:
            within = request.context.domain_id
            _user(request, tx)
        found = groups.list_groups(tx, with_user=user_id, name=request.value("name"), domain_id=within)
    return answers.listing(request, "groups", (answers.group(request.plane.settings, g) for g in found))


_ONE = "/groups/{group_id}/users/{user_id}"
ROUTES = (
    Route("GET", "/groups", index, "identity:list_groups", DOMAIN_READER, query=("domain_id", "name")),
    Route("POST", "/groups", create, "identity:create_group", DOMAIN_MANAGER, takes=(NewGroupBody,), gives=(201,), refuses=(404,)),
    Route("GET", "/groups/{group_id}", show, "identity:get_group", DOMAIN_READER),
    Route("PATCH", "/groups/{group_id}", change, "identity:update_group", DOMAIN_MANAGER, takes=(GroupChangesBody,)),
    Route("DELETE", "/groups/{group_id}", delete, "identity:delete_group", DOMAIN_MANAGER, gives=(204,)),
    Route("GET", "/groups/{group_id}/users", members, "identity:list_users_in_group", DOMAIN_READER),
    Route("GET", _ONE, check, "identity:check_user_in_group", DOMAIN_READER, gives=(204,)),
    Route("PUT", _ONE, put_in, "identity:add_user_to_group", DOMAIN_MANAGER, gives=(204,)),
    Route("DELETE", _ONE, take_out, "identity:remove_user_from_group", DOMAIN_MANAGER, gives=(204,)),
    Route("GET", "/users/{user_id}/groups", of_user, "identity:list_groups_for_user", ANY_USER, query=("name",)),
)
