"""POST /reshaper: inventories and the allocations of them move between providers in one step.

Source: Placement API reference, "Reshaper" (microversion 1.30).
"""

from __future__ import annotations

import msgspec

from lamina.api.placement import bodies, inventories
from lamina.api.placement.allocations import must_know, must_pay_for_vgpus
from lamina.api.placement.answers import MOST_LISTED, UnknownProvider, body, route
from lamina.api.routing import Reply, Request
from lamina.model import ids
from lamina.model.errors import BadRequest, NotFound
from lamina.store import allocations, providers


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    """Provider id -> all its inventories; consumer id -> all its allocations."""

    inventories: dict[str, inventories.Records]
    allocations: dict[str, bodies.Allocations]


def reshape(request: Request) -> Reply:
    said = body(request, Shape)
    if len(said.inventories) > MOST_LISTED or len(said.allocations) > MOST_LISTED:
        raise BadRequest(f"JSON does not validate: at most {MOST_LISTED} providers and consumers")
    wanted = {_id(key): (records, inventories.parsed(request, records)) for key, records in said.inventories.items()}
    replacements = [bodies.replacement(request, _id(key), one) for key, one in said.allocations.items()]
    now = request.plane.clock.now()
    with request.plane.db.write() as tx:
        must_know(tx, replacements)
        shapes = []
        for provider_id, (records, stock) in sorted(wanted.items()):
            try:
                provider = providers.get(tx, provider_id)
            except NotFound as error:
                raise UnknownProvider(f"Resource provider {provider_id} in inventories not found.") from error
            inventories.must_be_at(provider, records.resource_provider_generation)
            inventories.must_know(tx, provider, stock)
            shapes.append((provider, stock))
        allocations.reshape(tx, shapes, replacements, now=now)
        must_pay_for_vgpus(tx, [one.consumer_id for one in replacements])
    return Reply(204)


def _id(text: str) -> str:
    return ids.parse_uuid(text, "JSON does not validate")


ROUTES = (route("POST", "/reshaper", reshape, "reshaper:reshape", since=30, takes=(Shape,), gives=(204,)),)
