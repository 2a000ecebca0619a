"""Allocations of consumers. Source: Placement API reference, "Allocations"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from lamina.api.placement import bodies
from lamina.api.placement.answers import MOST_LISTED, at_least, body, reply, route
from lamina.api.placement.providers import of_path
from lamina.api.routing import Reply, Request
from lamina.model import ids
from lamina.model.errors import BadRequest, ConcurrentUpdate, InUse, NotFound
from lamina.store import allocations, hosts, providers
from lamina.store.allocations import Consumer, Replacement
from lamina.store.resource_names import RESOURCE_CLASSES
from lamina.store.tables.hosts import vgpus
from lamina.store.tables.placement import providers as providers_table

#: a provider changed by somebody else between reading and writing is tried again this often, as Placement does
ATTEMPTS = 10


def show(request: Request) -> Reply:
    """GET /allocations/{consumer_uuid}; a consumer that holds nothing is one with no allocations."""
    with request.plane.db.read() as tx:
        found = allocations.of_consumer(tx, _consumer_id(request))
        held = providers.load(tx, providers_table.c.id.in_(list(found.allocations))) if found is not None else []
    if found is None or not held:  # those it held may be gone by now, and its allocations with them
        return reply(request, {"allocations": {}})
    plain: dict[str, Any] = {
        "allocations": {p.id: {"generation": p.generation, "resources": found.allocations[p.id]} for p in held},
    }
    if at_least(request, 12):
        plain |= {"project_id": found.project_id, "user_id": found.user_id}
    if at_least(request, 28):
        plain["consumer_generation"] = found.generation
    if at_least(request, 38):
        plain["consumer_type"] = found.type
    return reply(request, plain, modified=max(p.updated_at for p in held))


def _consumer_id(request: Request) -> str:
    return request.path["consumer_uuid"].lower()


def show_provider(request: Request) -> Reply:
    """GET /resource_providers/{uuid}/allocations."""
    with request.plane.db.read() as tx:
        provider = of_path(tx, request)
        found = allocations.of_provider(tx, provider.id)

    def shown(consumer: Consumer) -> dict[str, Any]:
        plain: dict[str, Any] = {"resources": consumer.allocations[provider.id]}
        if at_least(request, 28):
            plain["consumer_generation"] = consumer.generation
        return plain

    plain = {"resource_provider_generation": provider.generation, "allocations": {c.id: shown(c) for c in found}}
    return reply(request, plain, modified=provider.updated_at)


def replace(request: Request) -> Reply:
    """PUT /allocations/{consumer_uuid}: everything that one consumer holds."""
    if not ids.is_uuid(request.path["consumer_uuid"]):
        raise BadRequest(f"Malformed consumer_uuid: {request.path['consumer_uuid'][:80]}")
    consumer_id = ids.parse_uuid(request.path["consumer_uuid"])
    if at_least(request, 12):
        said = body(request, bodies.Allocations)
        wanted = bodies.replacement(request, consumer_id, said)
        if not wanted.allocations and not at_least(request, 28):
            raise BadRequest("JSON does not validate: allocations: {} does not have enough properties")
        return _write(request, lambda _tx: [wanted])
    listed = body(request, bodies.OwnedAllocations) if at_least(request, 8) else body(request, bodies.OldAllocations)
    return _write(request, lambda tx: [bodies.old(consumer_id, listed, allocations.of_consumer(tx, consumer_id))])


def replace_many(request: Request) -> Reply:
    """POST /allocations: everything that several consumers hold, all or nothing."""
    said = body(request, dict[str, bodies.Allocations])
    if not 1 <= len(said) <= MOST_LISTED:
        raise BadRequest(f"JSON does not validate: 1 to {MOST_LISTED} consumers, not {len(said)}")
    wanted = [
        bodies.replacement(request, ids.parse_uuid(consumer_id, "JSON does not validate: a consumer"), one)
        for consumer_id, one in said.items()
    ]
    if len({one.consumer_id for one in wanted}) < len(wanted):
        raise BadRequest("JSON does not validate: a consumer is given twice")
    return _write(request, lambda _tx: wanted)


def _write(request: Request, wanted: Callable[[sa.Connection], Sequence[Replacement]]) -> Reply:
    for attempt in range(ATTEMPTS):
        try:
            with request.plane.db.write() as tx:
                replacements = wanted(tx)
                must_know(tx, replacements)
                allocations.replace_many(tx, replacements, now=request.plane.clock.now())
                must_pay_for_vgpus(tx, [one.consumer_id for one in replacements])
            break
        except ConcurrentUpdate:
            if attempt == ATTEMPTS - 1:
                raise
    return Reply(204)


def must_know(tx: sa.Connection, replacements: Sequence[Replacement]) -> None:
    """Raises `BadRequest` for a resource class that nobody created."""
    named = {name for one in replacements for of_class in one.allocations.values() for name in of_class}
    unknown = RESOURCE_CLASSES.unknown(tx, named)
    if unknown:
        raise BadRequest(f"Unable to allocate inventory for consumer: No such resource class {unknown[0]}.")


def must_pay_for_vgpus(tx: sa.Connection, consumer_ids: Sequence[str]) -> None:
    """Nobody gives up what vGPUs that stand on a host are paid for with: their server has to go first. Raises `InUse`."""
    paying = allocations.find(tx, consumer_ids)
    for vgpu in hosts.select_vgpus(tx, vgpus.c.consumer_id.in_(consumer_ids)):
        if vgpu.consumer_id not in paying:
            raise InUse(f"Consumer {vgpu.consumer_id} has vGPUs on host {vgpu.host}; delete server {vgpu.server_id} to give them back.")


def delete(request: Request) -> Reply:
    """DELETE /allocations/{consumer_uuid}."""
    consumer_id = _consumer_id(request)
    with request.plane.db.write() as tx:
        if not allocations.remove(tx, consumer_id):
            raise NotFound(f"No allocations for consumer '{consumer_id}'")
        must_pay_for_vgpus(tx, [consumer_id])
    return Reply(204)


ROUTES = (
    route("POST", "/allocations", replace_many, "allocations:manage", since=13, takes=(dict[str, bodies.Allocations],), gives=(204,)),
    route("GET", "/allocations/{consumer_uuid}", show, "allocations:list"),
    route(
        "PUT",
        "/allocations/{consumer_uuid}",
        replace,
        "allocations:update",
        takes=(bodies.Allocations, bodies.OldAllocations, bodies.OwnedAllocations),
        gives=(204,),
    ),
    route("DELETE", "/allocations/{consumer_uuid}", delete, "allocations:delete", gives=(204,)),
    route("GET", "/resource_providers/{uuid}/allocations", show_provider, "resource_providers:allocations:list"),
)
