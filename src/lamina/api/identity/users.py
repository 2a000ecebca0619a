"""Users and their passwords."""

from __future__ import annotations

import hmac
from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers, bodies, proofs, reach
from lamina.api.routing import ANY_USER, DOMAIN_MANAGER, DOMAIN_READER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import Conflict, Forbidden, Unauthorized
from lamina.store import identity, passwords
from lamina.store.identity import User
from lamina.store.role_assignments import Holder

_Short = Annotated[str, msgspec.Meta(max_length=255, pattern=answers.TEXT)]
_Password = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=answers.TEXT)]


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """A user to make; without a password nobody can log in as it until one is set."""

    name: bodies.LongName
    password: _Password | None = None
    description: bodies.Text | None = None
    email: _Short | None = None
    enabled: bool = True
    default_project_id: bodies.Id | None = None
    domain_id: bodies.Id | None = None
    options: bodies.Nothing | None = None


class NewUserBody(msgspec.Struct):
    user: NewUser


class UserChanges(msgspec.Struct, forbid_unknown_fields=True):
    name: bodies.LongName | UnsetType = UNSET
    password: _Password | UnsetType | None = UNSET
    description: bodies.Text | UnsetType | None = UNSET
    email: _Short | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    default_project_id: bodies.Id | UnsetType | None = UNSET
    domain_id: bodies.Id | UnsetType = UNSET
    options: bodies.Nothing | UnsetType = UNSET


class UserChangesBody(msgspec.Struct):
    user: UserChanges


class NewPassword(msgspec.Struct):
    password: _Password
    original_password: _Password


class NewPasswordBody(msgspec.Struct):
    user: NewPassword


def index(request: Request) -> Reply:
    """GET /users."""
    within, name = reach.asked_domain(request, "domain_id"), request.value("name")
    with request.plane.db.read() as tx:
        found = identity.list_users(tx, name=name, domain_id=within, enabled=answers.flag(request, "enabled"))
    return answers.listing(request, "users", (answers.user(request.plane.settings, u) for u in found))


def show(request: Request) -> Reply:
    """GET /users/{user_id}."""
    user_id, own = request.path["user_id"], request.context.user_id
    reach.must_be_own(request, "user", own, user_id)
    with request.plane.db.read() as tx:
        found = identity.get_user(tx, user_id)
    if user_id != own:
        reach.must_reach(request, "user", found.id, found.domain_id)
    return Reply(200, {"user": answers.user(request.plane.settings, found)})


def create(request: Request) -> Reply:
    """POST /users."""
    wanted = request.json(NewUserBody).user
    made = User(
        id=ids.new_identity_id(),
        name=wanted.name,
        description=wanted.description or "",
        email=wanted.email,
        enabled=wanted.enabled,
        default_project_id=wanted.default_project_id,
        domain_id=reach.domain_of_new(request, wanted.domain_id),
    )
    kept = passwords.hashed(wanted.password) if wanted.password is not None else None
    with request.plane.db.write() as tx:
        _default_project_must_be_reached(request, tx, wanted.default_project_id)
        identity.add_user(tx, made, kept)
    return Reply(201, {"user": answers.user(request.plane.settings, made)})


def _default_project_must_be_reached(request: Request, tx: sa.Connection, project_id: object) -> None:
    """Raises `NotFound`: which projects there are in other domains is not found out by naming them."""
    if isinstance(project_id, str):
        reach.project(request, tx, project_id)


def _theirs(request: Request, tx: sa.Connection) -> User:
    """The user in the path, whom the caller may change. Raises `NotFound` and `Forbidden`."""
    found = reach.user(request, tx, request.path["user_id"])
    reach.must_not_have_more(tx, request, Holder.USER, found.id)
    return found


def change(request: Request) -> Reply:
    """PATCH /users/{user_id}."""
    wanted = request.json(UserChangesBody).user
    changes = bodies.changes(wanted, "name", "description", "email", "enabled", "default_project_id")
    if wanted.password is not UNSET:
        changes["password_hash"] = passwords.hashed(wanted.password) if wanted.password is not None else None
    with request.plane.db.write() as tx:
        found = _theirs(request, tx)
        reach.must_stay(found.domain_id, wanted.domain_id, "user")
        _default_project_must_be_reached(request, tx, wanted.default_project_id)
        changed = identity.change_user(tx, found.id, changes)
    return Reply(200, {"user": answers.user(request.plane.settings, changed)})


def delete(request: Request) -> Reply:
    """DELETE /users/{user_id}."""
    with request.plane.db.write() as tx:
        identity.delete_user(tx, _theirs(request, tx).id)
    return Reply(204)


def change_password(request: Request) -> Reply:
    """POST /users/{user_id}/password: one's own, with the old one; every token of the user ends."""
    user_id = request.path["user_id"]
    if request.context.user_id != user_id:
        raise Forbidden("Only the user may change a password in this way; an admin sets it with PATCH.")
    wanted = request.json(NewPasswordBody).user
    with request.plane.db.read() as tx:
        _, kept = identity.password_of(tx, user_id=user_id)
    if not proofs.is_right(request, user_id, kept, wanted.original_password) or kept is None:
        raise Unauthorized("The original password is not right.")
    fresh = passwords.hashed(wanted.password)
    with request.plane.db.write() as tx:
        _, still = identity.password_of(tx, user_id=user_id)
        if still is None or not hmac.compare_digest(still, kept):
            raise Conflict("The password was changed meanwhile; try again with the new one.")
        identity.change_user(tx, user_id, {"password_hash": fresh})
    return Reply(204)


ROUTES = (
    Route("GET", "/users", index, "identity:list_users", DOMAIN_READER, query=("domain_id", "enabled", "name")),
    Route("POST", "/users", create, "identity:create_user", DOMAIN_MANAGER, takes=(NewUserBody,), gives=(201,), refuses=(404,)),
    Route("GET", "/users/{user_id}", show, "identity:get_user", ANY_USER),
    Route("PATCH", "/users/{user_id}", change, "identity:update_user", DOMAIN_MANAGER, takes=(UserChangesBody,)),
    Route("DELETE", "/users/{user_id}", delete, "identity:delete_user", DOMAIN_MANAGER, gives=(204,)),
    Route(
        "POST",
        "/users/{user_id}/password",
        change_password,
        "identity:change_password",
        ANY_USER,
        takes=(NewPasswordBody,),
        gives=(204,),
    ),
)
