"""Unified limits (Identity API reference, "Unified Limits"): what every project may have, and what one project, or one user in it.

The enforcement model is ``flat``: projects are in no tree. The one service whose resources are limited is the Compute service.
Beyond Keystone: a limit with a ``user_id`` is for that user within the project; a limit needs no registered one above it, as
what has none is not limited; and each is in force from the commit that made it.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from lamina.api.identity import answers, bodies
from lamina.api.identity.catalog import SERVICES
from lamina.api.routing import ADMIN, ANY_USER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import BadRequest, Forbidden, NotFound
from lamina.model.limits import MEMBERS, MOST, Resource, parse_resource
from lamina.model.settings import Settings
from lamina.store import identity
from lamina.store import limits as store
from lamina.store.limits import Limit, RegisteredLimit

_SERVICE_ID = next(service.id for service in SERVICES if service.type == "compute")
_FILTERS = ("region_id", "resource_name", "service_id")
#: most limits of one request
MOST_AT_ONCE = 1000
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=answers.NAME)]
_Amount = Annotated[int, msgspec.Meta(ge=-1, le=MOST)]


class NewRegistered(msgspec.Struct, forbid_unknown_fields=True):
    service_id: str
    resource_name: _Name
    default_limit: _Amount
    region_id: str | None = None
    description: bodies.Text | None = None


class NewRegisteredBody(msgspec.Struct):
    registered_limits: Annotated[list[NewRegistered], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)]


class RegisteredChanges(msgspec.Struct, forbid_unknown_fields=True):
    service_id: str | UnsetType = UNSET
    resource_name: _Name | UnsetType = UNSET
    default_limit: _Amount | UnsetType = UNSET
    region_id: str | UnsetType | None = UNSET
    description: bodies.Text | UnsetType | None = UNSET


class RegisteredChangesBody(msgspec.Struct):
    registered_limit: RegisteredChanges


class New(msgspec.Struct, forbid_unknown_fields=True):
    service_id: str
    resource_name: _Name
    resource_limit: _Amount
    project_id: _Id | None = None
    domain_id: str | None = None
    #: Lamina's own
    user_id: _Id | None = None
    region_id: str | None = None
    description: bodies.Text | None = None


class NewBody(msgspec.Struct):
    limits: Annotated[list[New], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)]


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    resource_limit: _Amount | UnsetType = UNSET
    description: bodies.Text | UnsetType | None = UNSET


class ChangesBody(msgspec.Struct):
    limit: Changes


def _must_reach_everything(request: Request) -> None:
    """Limits are the whole cloud's affair, whatever a policy file says to a domain's managers. Raises `Forbidden`."""
    if request.context.domain_id is not None:
        raise Forbidden("A token for a domain sets no limits.")


def _must_be_compute(service_id: str) -> None:
    if service_id != _SERVICE_ID:
        raise BadRequest(f"service_id: the one service whose resources are limited is the compute service, {_SERVICE_ID}")


def _must_be_here(request: Request, region_id: str | None) -> None:
    region = request.plane.settings.region
    if region_id not in (None, region):
        raise BadRequest(f"region_id: the one region there is, is {region}")


def _common(settings: Settings, kind: str, limit: RegisteredLimit | Limit) -> dict[str, Any]:
    return {
        "id": limit.id,
        "service_id": _SERVICE_ID,
        "region_id": limit.region_id,
        "resource_name": limit.resource.name,
        "description": limit.description,
        "links": {"self": f"{answers.base(settings)}/{kind}/{limit.id}"},
    }


def _asked_for(request: Request, shown: dict[str, Any], *filters: str) -> bool:
    return all(request.value(name) in (None, shown.get(name)) for name in (*_FILTERS, *filters))


# ---------------------------------------------------------------------------------------------------- registered limits


def _registered(request: Request, limit: RegisteredLimit) -> dict[str, Any]:
    return _common(request.plane.settings, "registered_limits", limit) | {"default_limit": limit.amount}


def registered_index(request: Request) -> Reply:
    """GET /registered_limits."""
    with request.plane.db.read() as tx:
        found = [_registered(request, limit) for limit in store.registered(tx)]
    return answers.listing(request, "registered_limits", (shown for shown in found if _asked_for(request, shown)))


def register(request: Request) -> Reply:
    """POST /registered_limits: all of them or none."""
    _must_reach_everything(request)
    made = []
    for wanted in request.json(NewRegisteredBody).registered_limits:
        _must_be_compute(wanted.service_id)
        _must_be_here(request, wanted.region_id)
        resource = parse_resource(wanted.resource_name)
        made.append(RegisteredLimit(ids.new_identity_id(), resource, wanted.default_limit, wanted.description, wanted.region_id))
    with request.plane.db.write() as tx:
        for limit in made:
            store.register(tx, limit)
    return Reply(201, {"registered_limits": [_registered(request, limit) for limit in made]})


def registered_show(request: Request) -> Reply:
    """GET /registered_limits/{limit_id}."""
    with request.plane.db.read() as tx:
        return Reply(200, {"registered_limit": _registered(request, store.get_registered(tx, request.path["limit_id"]))})


def registered_change(request: Request) -> Reply:
    """PATCH /registered_limits/{limit_id}."""
    _must_reach_everything(request)
    wanted = request.json(RegisteredChangesBody).registered_limit
    if wanted.service_id is not UNSET:
        _must_be_compute(wanted.service_id)
    changes: dict[str, Any] = {"amount": wanted.default_limit, "description": wanted.description, "region_id": wanted.region_id}
    changes = {name: value for name, value in changes.items() if value is not UNSET}
    _must_be_here(request, changes.get("region_id"))
    if wanted.resource_name is not UNSET:
        changes["resource"] = parse_resource(wanted.resource_name)
    with request.plane.db.write() as tx:
        changed = dataclasses.replace(store.get_registered(tx, request.path["limit_id"]), **changes)
        store.change_registered(tx, changed)
    return Reply(200, {"registered_limit": _registered(request, changed)})


def unregister(request: Request) -> Reply:
    """DELETE /registered_limits/{limit_id}: projects without a limit of their own are not limited from then on."""
    _must_reach_everything(request)
    with request.plane.db.write() as tx:
        store.unregister(tx, request.path["limit_id"])
    return Reply(204)


# ---------------------------------------------------------------------------------------------------- limits of projects


def _limit(request: Request, limit: Limit) -> dict[str, Any]:
    shown = {"project_id": limit.project_id, "domain_id": None, "resource_limit": limit.amount}
    user = {} if limit.user_id is None else {"user_id": limit.user_id}
    return _common(request.plane.settings, "limits", limit) | shown | user


def _whose(request: Request) -> str | None:
    """The one project whose limits a caller sees, or None for an administrator, who sees all."""
    return None if request.context.is_admin else request.context.project_id or ""


def index(request: Request) -> Reply:
    """GET /limits: one's own project's; all of them for an administrator."""
    with request.plane.db.read() as tx:
        found = [_limit(request, limit) for limit in store.page(tx, _whose(request))]
    shown = (one for one in found if _asked_for(request, one, "project_id", "domain_id", "user_id"))
    return answers.listing(request, "limits", shown)


def create(request: Request) -> Reply:
    """POST /limits: all of them or none."""
    _must_reach_everything(request)
    wanted = request.json(NewBody).limits
    with request.plane.db.write() as tx:
        made = [_new(request, tx, one) for one in wanted]
        for limit in made:
            store.add(tx, limit)
    return Reply(201, {"limits": [_limit(request, limit) for limit in made]})


def _new(request: Request, tx: sa.Connection, wanted: New) -> Limit:
    _must_be_compute(wanted.service_id)
    _must_be_here(request, wanted.region_id)
    if wanted.domain_id is not None or wanted.project_id is None:
        raise BadRequest("project_id: a limit is for a project; the enforcement model is flat, and domains have none")
    resource = parse_resource(wanted.resource_name)
    _must_be_known(tx, wanted, resource)
    amount, told = wanted.resource_limit, wanted.description
    return Limit(ids.new_identity_id(), wanted.project_id, wanted.user_id, resource, amount, told, wanted.region_id)


def _must_be_known(tx: sa.Connection, wanted: New, resource: Resource) -> None:
    try:
        identity.get_project(tx, wanted.project_id or "")
        if wanted.user_id is not None:
            identity.get_user(tx, wanted.user_id)
    except NotFound as gone:
        raise BadRequest(gone.message) from gone
    if wanted.user_id is not None and resource.key == MEMBERS:
        raise BadRequest("user_id: a group's members are limited by its project, not by user")


def show(request: Request) -> Reply:
    """GET /limits/{limit_id}; another project's is as if it were not there."""
    with request.plane.db.read() as tx:
        return Reply(200, {"limit": _limit(request, store.get(tx, request.path["limit_id"], _whose(request)))})


def change(request: Request) -> Reply:
    """PATCH /limits/{limit_id}."""
    _must_reach_everything(request)
    wanted = request.json(ChangesBody).limit
    said = {"amount": wanted.resource_limit, "description": wanted.description}
    with request.plane.db.write() as tx:
        changed = store.change(tx, request.path["limit_id"], {name: value for name, value in said.items() if value is not UNSET})
    return Reply(200, {"limit": _limit(request, changed)})


def delete(request: Request) -> Reply:
    """DELETE /limits/{limit_id}."""
    _must_reach_everything(request)
    with request.plane.db.write() as tx:
        store.delete(tx, request.path["limit_id"])
    return Reply(204)


def model(_request: Request) -> Reply:
    """GET /limits/model."""
    told = "Limits are of projects by themselves, which are in no tree; each is counted and enforced alone."
    return Reply(200, {"model": {"name": "flat", "description": told}})


ROUTES = (
    Route("GET", "/registered_limits", registered_index, "identity:list_registered_limits", ANY_USER, query=_FILTERS),
    Route("POST", "/registered_limits", register, "identity:create_registered_limits", ADMIN, takes=(NewRegisteredBody,), gives=(201,)),
    Route("GET", "/registered_limits/{limit_id}", registered_show, "identity:get_registered_limit", ANY_USER),
    Route(
        "PATCH",
        "/registered_limits/{limit_id}",
        registered_change,
        "identity:update_registered_limit",
        ADMIN,
        takes=(RegisteredChangesBody,),
    ),
    Route("DELETE", "/registered_limits/{limit_id}", unregister, "identity:delete_registered_limit", ADMIN, gives=(204,)),
    Route("GET", "/limits/model", model, "identity:get_limit_model", ANY_USER),
    Route("GET", "/limits", index, "identity:list_limits", ANY_USER, query=(*_FILTERS, "domain_id", "project_id", "user_id")),
    Route("POST", "/limits", create, "identity:create_limits", ADMIN, takes=(NewBody,), gives=(201,)),
    Route("GET", "/limits/{limit_id}", show, "identity:get_limit", ANY_USER),
    Route("PATCH", "/limits/{limit_id}", change, "identity:update_limit", ADMIN, takes=(ChangesBody,)),
    Route("DELETE", "/limits/{limit_id}", delete, "identity:delete_limit", ADMIN, gives=(204,)),
)
