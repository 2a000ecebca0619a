"""Inventories of a provider. Source: Placement API reference, "Resource provider inventories"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from lamina.api.application import MethodNotAllowed
from lamina.api.placement.answers import MOST_LISTED, at_least, body, reply, route
from lamina.api.placement.providers import of_path
from lamina.api.routing import Reply, Request
from lamina.model import resources
from lamina.model.errors import BadRequest, ConcurrentUpdate, Conflict, NotFound
from lamina.model.providers import MOST, MOST_RATIO, Inventory, Provider
from lamina.store import providers
from lamina.store.resource_names import RESOURCE_CLASSES

Count = Annotated[int, Meta(ge=1, le=MOST)]


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """One inventory in a body."""

    total: Count
    reserved: Annotated[int, Meta(ge=0, le=MOST)] = 0
    min_unit: Count = 1
    max_unit: Count = MOST
    step_size: Count = 1
    allocation_ratio: Annotated[float, Meta(le=MOST_RATIO)] = 1.0
    resource_provider_generation: int | None = None


class NewRecord(Record):
    resource_class: str = ""


class Records(msgspec.Struct, forbid_unknown_fields=True):
    resource_provider_generation: int
    inventories: Annotated[dict[str, Record], Meta(max_length=MOST_LISTED)]


def _parsed(request: Request, record: Record) -> Inventory:
    """Raises `BadRequest`; all of a provider may be reserved from 1.26 on."""
    reserved = min(record.reserved, record.total)
    try:
        inventory = Inventory(record.total, reserved, record.min_unit, record.max_unit, record.step_size, record.allocation_ratio)
    except BadRequest as error:
        raise BadRequest(f"JSON does not validate: {error.message}") from error
    whole = at_least(request, 26)
    if record.reserved > record.total - (not whole):
        verb = "create" if request.method == "POST" else "update"
        what = f"Unable to {verb} inventory for resource provider {request.path['uuid']}: the reserved value of {record.reserved}"
        raise BadRequest(f"{what} is {'greater than' if whole else 'greater than or equal to'} total, which is {record.total}")
    return inventory


def parsed(request: Request, records: Records) -> dict[str, Inventory]:
    """All inventories of a provider by their class. Raises `BadRequest`."""
    return {resources.parse_resource_class(name): _parsed(request, record) for name, record in records.inventories.items()}


def must_know(tx: sa.Connection, provider: Provider, names: Mapping[str, object]) -> None:
    """Raises `BadRequest` for a resource class that nobody created."""
    unknown = RESOURCE_CLASSES.unknown(tx, names)
    if unknown:
        raise BadRequest(f"Unknown resource class in inventory for resource provider {provider.id}: No such resource class {unknown[0]}.")


def must_be_at(provider: Provider, generation: int | None) -> None:
    """Raises `ConcurrentUpdate` where the caller decided on another generation of the provider."""
    if generation is not None and generation != provider.generation:
        raise ConcurrentUpdate(f"resource provider generation conflict: actual: {provider.generation}, given: {generation}")


def _all(request: Request, provider: Provider) -> Reply:
    shown = {name: dataclasses.asdict(inventory) for name, inventory in provider.inventories.items()}
    plain = {"resource_provider_generation": provider.generation, "inventories": shown}
    return reply(request, plain, modified=provider.updated_at)


def _one(request: Request, provider: Provider, name: str, *, status: int, location: str | None = None) -> Reply:
    plain: dict[str, Any] = dataclasses.asdict(provider.inventories[name])
    plain["resource_provider_generation"] = provider.generation
    return reply(request, plain, status=status, modified=provider.updated_at, location=location)


def index(request: Request) -> Reply:
    """GET /resource_providers/{uuid}/inventories."""
    with request.plane.db.read() as tx:
        return _all(request, of_path(tx, request))


def show(request: Request) -> Reply:
    """GET /resource_providers/{uuid}/inventories/{resource_class}."""
    with request.plane.db.read() as tx:
        found = of_path(tx, request)
    return _one(request, found, _class_of_path(request, found, "for"), status=200)


def _class_of_path(request: Request, provider: Provider, what: str) -> str:
    name = request.path["resource_class"]
    if name not in provider.inventories:
        raise NotFound(f"No inventory of class {name[:255]} {what} {provider.id}")
    return name


def create(request: Request) -> Reply:
    """POST /resource_providers/{uuid}/inventories: one more class."""
    new = body(request, NewRecord)
    name, inventory = resources.parse_resource_class(new.resource_class), _parsed(request, new)
    with request.plane.db.write() as tx:
        provider = of_path(tx, request)
        must_be_at(provider, new.resource_provider_generation)
        must_know(tx, provider, {name: None})
        if name in provider.inventories:
            raise Conflict(f"Update conflict: the resource provider {provider.id} has an inventory of {name} already.")
        made = _set(tx, request, provider, {**provider.inventories, name: inventory})
    return _one(request, made, name, status=201, location=f"/resource_providers/{provider.id}/inventories/{name}")


def _set(tx: sa.Connection, request: Request, provider: Provider, wanted: Mapping[str, Inventory]) -> Provider:
    providers.set_inventories(tx, provider, wanted, now=request.plane.clock.now())
    return providers.get(tx, provider.id)


def replace(request: Request) -> Reply:
    """PUT /resource_providers/{uuid}/inventories: exactly these classes."""
    wanted = body(request, Records)
    stock = parsed(request, wanted)
    with request.plane.db.write() as tx:
        provider = of_path(tx, request)
        must_be_at(provider, wanted.resource_provider_generation)
        must_know(tx, provider, wanted.inventories)
        return _all(request, _set(tx, request, provider, stock))


def change(request: Request) -> Reply:
    """PUT /resource_providers/{uuid}/inventories/{resource_class}: a class that is there already."""
    record = body(request, Record)
    if record.resource_provider_generation is None:
        raise BadRequest("JSON does not validate: 'resource_provider_generation' is a required property")
    name, inventory = request.path["resource_class"], _parsed(request, record)
    with request.plane.db.write() as tx:
        provider = of_path(tx, request)
        must_be_at(provider, record.resource_provider_generation)
        if name not in provider.inventories:
            raise BadRequest(f"No inventory record with resource class {name[:255]} for update of resource provider {provider.id}")
        made = _set(tx, request, provider, {**provider.inventories, name: inventory})
    return _one(request, made, name, status=200)


def clear(request: Request) -> Reply:
    """DELETE /resource_providers/{uuid}/inventories, from 1.5 on."""
    with request.plane.db.write() as tx:
        providers.set_inventories(tx, of_path(tx, request), {}, now=request.plane.clock.now())
    return Reply(204)


def _no_clear(_request: Request) -> Reply:
    raise MethodNotAllowed("The method DELETE is not allowed for this resource before microversion 1.5.")


def delete(request: Request) -> Reply:
    """DELETE /resource_providers/{uuid}/inventories/{resource_class}."""
    with request.plane.db.write() as tx:
        provider = of_path(tx, request)
        gone = _class_of_path(request, provider, "found for delete on resource provider")
        left = {name: inventory for name, inventory in provider.inventories.items() if name != gone}
        providers.set_inventories(tx, provider, left, now=request.plane.clock.now())
    return Reply(204)


_ALL = "/resource_providers/{uuid}/inventories"
_ONE = "/resource_providers/{uuid}/inventories/{resource_class}"
_RULE = "resource_providers:inventories"

ROUTES = (
    route("GET", _ALL, index, f"{_RULE}:list"),
    route("POST", _ALL, create, f"{_RULE}:create", takes=(NewRecord,), gives=(201,)),
    route("PUT", _ALL, replace, f"{_RULE}:update", takes=(Records,)),
    route("DELETE", _ALL, clear, f"{_RULE}:delete", since=5, gives=(204,)),
    route("DELETE", _ALL, _no_clear, f"{_RULE}:delete", until=4, gives=(), refuses=(405,)),
    route("GET", _ONE, show, f"{_RULE}:show"),
    route("PUT", _ONE, change, f"{_RULE}:update", takes=(Record,)),
    route("DELETE", _ONE, delete, f"{_RULE}:delete", gives=(204,)),
)
