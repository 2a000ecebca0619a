"""Application credentials (source: Identity API v3 reference, "Application Credentials"). They are always a user's own affair.

Access rules, which would bound a credential to some calls, are not served: one that asks for them is refused, not made without.
"""

from __future__ import annotations

import datetime
import secrets
from typing import Annotated, Any

import msgspec

from lamina.api.identity import answers
from lamina.api.routing import ANY_USER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import BadRequest, Forbidden, NotFound, NotImplementedHere
from lamina.store import application_credentials as store
from lamina.store import passwords, roles
from lamina.store.application_credentials import Credential

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=answers.NAME)]
_Text = Annotated[str, msgspec.Meta(max_length=4096, pattern=answers.TEXT)]


class RoleRef(msgspec.Struct, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None


class NewCredential(msgspec.Struct, forbid_unknown_fields=True):
    name: _Name
    secret: Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=answers.TEXT)] | None = None
    description: _Text | None = None
    expires_at: str | None = None
    roles: Annotated[list[RoleRef], msgspec.Meta(max_length=100)] = []
    unrestricted: bool = False
    access_rules: list[dict[str, Any]] = []
    project_id: str | None = None


class NewCredentialBody(msgspec.Struct):
    application_credential: NewCredential


def _own(request: Request) -> str:
    """The user in the path, who is the caller. Raises `Forbidden`, alike for users that there are and that there are not."""
    user_id = request.path["user_id"]
    if request.context.user_id != user_id:
        raise Forbidden("Application credentials are seen, made and deleted by their own user only.")
    return user_id


def _must_be_unrestricted(request: Request) -> None:
    """A credential that leaked must not live on in others. Raises `Forbidden`."""
    if request.context.restricted:
        raise Forbidden("A restricted application credential makes and deletes no application credentials.")


def _shown(request: Request, one: Credential) -> dict[str, Any]:
    base = answers.base(request.plane.settings)
    return {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "project_id": one.project_id,
        "roles": [{"id": role_id, "name": name, "domain_id": None} for role_id, name in one.roles.items()],
        "expires_at": answers.moment(one.expires_at) if one.expires_at is not None else None,
        "unrestricted": one.unrestricted,
        "system": None,
        "links": {"self": f"{base}/users/{one.user_id}/application_credentials/{one.id}"},
    }


def index(request: Request) -> Reply:
    """GET /users/{user_id}/application_credentials."""
    user_id = _own(request)
    with request.plane.db.read() as tx:
        found = store.of_user(tx, user_id, name=request.value("name"))
    return answers.listing(request, "application_credentials", (_shown(request, one) for one in found))


def _asked_for(request: Request) -> Credential:
    user_id = _own(request)
    with request.plane.db.read() as tx:
        found = store.get(tx, request.path["credential_id"])
    if found.user_id != user_id:
        raise NotFound(f"Could not find application credential: {request.path['credential_id']}.")
    return found


def show(request: Request) -> Reply:
    """GET /users/{user_id}/application_credentials/{credential_id}."""
    return Reply(200, {"application_credential": _shown(request, _asked_for(request))})


def create(request: Request) -> Reply:
    """POST /users/{user_id}/application_credentials: the one answer that has the secret."""
    user_id = _own(request)
    _must_be_unrestricted(request)
    wanted = request.json(NewCredentialBody).application_credential
    project_id = request.context.project_id
    if project_id is None:
        raise BadRequest("An application credential is for a project: ask with a token that has one as its scope.")
    if wanted.project_id not in (None, project_id):
        raise BadRequest("project_id: a credential is made for the project of the token that asks for it")
    if wanted.access_rules:
        raise NotImplementedHere("access_rules: a credential cannot be bound to some calls here")
    now, secret = request.plane.clock.now(), wanted.secret or secrets.token_urlsafe(64)
    made = Credential(
        id=ids.new_identity_id(),
        user_id=user_id,
        project_id=project_id,
        name=wanted.name,
        description=wanted.description,
        unrestricted=wanted.unrestricted,
        expires_at=_moment(wanted.expires_at, now) if wanted.expires_at is not None else None,
        created_at=now,
        roles=_roles(request, wanted.roles),
    )
    hashed = passwords.hashed(secret)
    with request.plane.db.write() as tx:
        store.add(tx, made, hashed)
    return Reply(201, {"application_credential": _shown(request, made) | {"secret": secret}})


def _roles(request: Request, wanted: list[RoleRef]) -> dict[str, str]:
    """Those named, or all that the token has. Raises `BadRequest` for one that the token does not have, and where it has none."""
    with request.plane.db.read() as tx:
        held = {role.id: role.name for role in roles.list_roles(tx) if role.name in request.context.roles}
    if not held:
        raise BadRequest("roles: the roles of the token are there no more")
    if not wanted:
        return held
    by_name = {name: role_id for role_id, name in held.items()}
    chosen: dict[str, str] = {}
    for ref in wanted:
        role_id = ref.id if ref.id is not None else by_name.get(ref.name or "")
        if role_id not in held:
            raise BadRequest("roles: a credential has no role that its user does not have on the project")
        chosen[role_id] = held[role_id]
    return chosen


def _moment(text: str, now: float) -> float:
    """Raises `BadRequest` for what is no time, or is over."""
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"expires_at: {text[:80]!r} is no time; it looks like 2030-01-31T12:00:00.000000") from error
    at = (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=datetime.UTC)).timestamp()
    if at <= now:
        raise BadRequest("expires_at: it is over already")
    return at


def delete(request: Request) -> Reply:
    """DELETE /users/{user_id}/application_credentials/{credential_id}: the tokens got by it end too."""
    _must_be_unrestricted(request)
    found = _asked_for(request)
    with request.plane.db.write() as tx:
        store.delete(tx, found.id)
    return Reply(204)


_ALL, _ONE = "/users/{user_id}/application_credentials", "/users/{user_id}/application_credentials/{credential_id}"
ROUTES = (
    Route("GET", _ALL, index, "identity:list_application_credentials", ANY_USER, query=("name",)),
    Route(
        "POST",
        _ALL,
        create,
        "identity:create_application_credential",
        ANY_USER,
        takes=(NewCredentialBody,),
        gives=(201,),
        refuses=(501,),
    ),
    Route("GET", _ONE, show, "identity:get_application_credential", ANY_USER),
    Route("DELETE", _ONE, delete, "identity:delete_application_credential", ANY_USER, gives=(204,)),
)
