"""Aggregates of a provider. Source: Placement API reference, "Resource provider aggregates"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lamina.api.placement.answers import MOST_LISTED, at_least, body, reply, route
from lamina.api.placement.providers import of_path
from lamina.api.routing import Reply, Request
from lamina.model import ids
from lamina.model.errors import BadRequest, ConcurrentUpdate
from lamina.model.providers import Provider
from lamina.store import providers


class Aggregates(msgspec.Struct, forbid_unknown_fields=True):
    """From 1.19 on; before, the body is the list alone and no generation is looked at."""

    aggregates: list[str]
    resource_provider_generation: int


def _shown(request: Request, provider: Provider, aggregates: Sequence[str]) -> Reply:
    plain: dict[str, Any] = {"aggregates": aggregates}
    if at_least(request, 19):
        plain["resource_provider_generation"] = provider.generation
    return reply(request, plain, modified=provider.updated_at)


def show(request: Request) -> Reply:
    """GET /resource_providers/{uuid}/aggregates."""
    with request.plane.db.read() as tx:
        provider = of_path(tx, request)
    return _shown(request, provider, sorted(provider.aggregates))


def replace(request: Request) -> Reply:
    """PUT /resource_providers/{uuid}/aggregates."""
    with request.plane.db.read() as tx:
        of_path(tx, request)
    generation = None
    if at_least(request, 19):
        said = body(request, Aggregates)
        generation, listed = said.resource_provider_generation, said.aggregates
    else:
        listed = body(request, list[str])
    wanted = list(dict.fromkeys(_aggregate(text) for text in listed))
    if len(listed) > MOST_LISTED:
        raise BadRequest(f"JSON does not validate: aggregates: {len(listed)} are more than {MOST_LISTED}")
    if len(wanted) < len(listed):
        raise BadRequest("JSON does not validate: aggregates: an aggregate is given twice (has non-unique elements)")
    with request.plane.db.write() as tx:
        provider = of_path(tx, request)
        if generation is not None and generation != provider.generation:
            raise ConcurrentUpdate(
                f"The resource provider's generation already changed: actual {provider.generation}, given {generation}. "
                "Please read it again and retry."
            )
        providers.set_aggregates(tx, provider, frozenset(wanted), raise_generation=generation is not None, now=request.plane.clock.now())
        return _shown(request, of_path(tx, request), wanted)


def _aggregate(text: str) -> str:
    if not ids.is_uuid(text):
        raise BadRequest(f"JSON does not validate: {text[:80]!r} is not a 'uuid'")
    return ids.parse_uuid(text)


_PATH = "/resource_providers/{uuid}/aggregates"

ROUTES = (
    route("GET", _PATH, show, "resource_providers:aggregates:list", since=1),
    route("PUT", _PATH, replace, "resource_providers:aggregates:update", since=1, takes=(Aggregates, list[str])),
)
