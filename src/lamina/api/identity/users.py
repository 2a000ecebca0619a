"""Users and their passwords."""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers, proofs
from lamina.api.routing import ADMIN, ANY_USER, Reply, Request, Route
from lamina.model.errors import Conflict, Forbidden, Unauthorized
from lamina.store import identity, passwords
from lamina.store.identity import User

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=answers.NAME)]
_Text = Annotated[str, msgspec.Meta(max_length=65535, pattern=answers.TEXT)]
_Short = Annotated[str, msgspec.Meta(max_length=255, pattern=answers.TEXT)]
_Id = Annotated[str, msgspec.Meta(max_length=64, pattern=answers.TEXT)]
_Password = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=answers.TEXT)]
_Nothing = Annotated[dict[str, Any], msgspec.Meta(max_length=0)]


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """A user to make; without a password nobody can log in as it until one is set."""

    name: _Name
    password: _Password | None = None
    description: _Text | None = None
    email: _Short | None = None
    enabled: bool = True
    default_project_id: _Id | None = None
    domain_id: Literal["default"] | None = None
    options: _Nothing | None = None


class NewUserBody(msgspec.Struct):
    user: NewUser


class UserChanges(msgspec.Struct, forbid_unknown_fields=True):
    name: _Name | UnsetType = UNSET
    password: _Password | UnsetType | None = UNSET
    description: _Text | UnsetType | None = UNSET
    email: _Short | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    default_project_id: _Id | UnsetType | None = UNSET
    domain_id: Literal["default"] | UnsetType = UNSET
    options: _Nothing | UnsetType = UNSET


class UserChangesBody(msgspec.Struct):
    user: UserChanges


class NewPassword(msgspec.Struct):
    password: _Password
    original_password: _Password


class NewPasswordBody(msgspec.Struct):
    user: NewPassword


def index(request: Request) -> Reply:
    """GET /users."""
    if answers.elsewhere(request):
        return answers.listing(request, "users", ())
    with request.plane.db.read() as tx:
        found = identity.list_users(tx, name=request.value("name"), enabled=answers.flag(request, "enabled"))
    return answers.listing(request, "users", (answers.user(request.plane.settings, u) for u in found))


def show(request: Request) -> Reply:
    """GET /users/{user_id}."""
    user_id = request.path["user_id"]
    answers.must_be_own(request, "user", request.context.user_id, user_id)
    with request.plane.db.read() as tx:
        found = identity.get_user(tx, user_id)
    return Reply(200, {"user": answers.user(request.plane.settings, found)})


def create(request: Request) -> Reply:
    """POST /users."""
    wanted = request.json(NewUserBody).user
    made = User(identity.new_id(), wanted.name, wanted.description or "", wanted.email, wanted.enabled, wanted.default_project_id)
    kept = passwords.hashed(wanted.password) if wanted.password is not None else None
    with request.plane.db.write() as tx:
        identity.add_user(tx, made, kept)
    return Reply(201, {"user": answers.user(request.plane.settings, made)})


def change(request: Request) -> Reply:
    """PATCH /users/{user_id}."""
    wanted = request.json(UserChangesBody).user
    said = {name: getattr(wanted, name) for name in ("name", "description", "email", "enabled", "default_project_id")}
    changes = {name: value for name, value in said.items() if value is not UNSET}
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    if wanted.password is not UNSET:
        changes["password_hash"] = passwords.hashed(wanted.password) if wanted.password is not None else None
    with request.plane.db.write() as tx:
        changed = identity.change_user(tx, request.path["user_id"], changes)
    return Reply(200, {"user": answers.user(request.plane.settings, changed)})


def delete(request: Request) -> Reply:
    """DELETE /users/{user_id}."""
    with request.plane.db.write() as tx:
        identity.delete_user(tx, request.path["user_id"])
    return Reply(204)


def change_password(request: Request) -> Reply:
    """POST /users/{user_id}/password: one's own, with the old one; every token of the user ends."""
    user_id = request.path["user_id"]
    if request.context.user_id != user_id:
        raise Forbidden("Only the user may change a password in this way; an admin sets it with PATCH.")
    wanted = request.json(NewPasswordBody).user
    with request.plane.db.read() as tx:
        _, kept = identity.password_of(tx, user_id=user_id)
    if not proofs.is_right(request.plane, user_id, kept, wanted.original_password) or kept is None:
        raise Unauthorized("The original password is not right.")
    fresh = passwords.hashed(wanted.password)
    with request.plane.db.write() as tx:
        _, still = identity.password_of(tx, user_id=user_id)
        if still is None or not hmac.compare_digest(still, kept):
            raise Conflict("The password was changed meanwhile; try again with the new one.")
        identity.change_user(tx, user_id, {"password_hash": fresh})
    return Reply(204)


ROUTES = (
    Route("GET", "/users", index, "identity:list_users", ADMIN),
    Route("POST", "/users", create, "identity:create_user", ADMIN),
    Route("GET", "/users/{user_id}", show, "identity:get_user", ANY_USER),
    Route("PATCH", "/users/{user_id}", change, "identity:update_user", ADMIN),
    Route("DELETE", "/users/{user_id}", delete, "identity:delete_user", ADMIN),
    Route("POST", "/users/{user_id}/password", change_password, "identity:change_password", ANY_USER),
)
