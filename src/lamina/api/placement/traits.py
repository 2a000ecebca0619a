"""Traits, and those of a provider. Source: Placement API reference, "Traits", "Resource provider traits"."""

from __future__ import annotations

from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from lamina.api.placement import queries
from lamina.api.placement.answers import MOST_LISTED, body, reply, route
from lamina.api.placement.providers import of_path
from lamina.api.routing import Reply, Request
from lamina.model import resources
from lamina.model.errors import BadRequest, ConcurrentUpdate, NotFound
from lamina.model.providers import Provider
from lamina.store import providers
from lamina.store.resource_names import TRAITS


class Traits(msgspec.Struct, forbid_unknown_fields=True):
    traits: Annotated[list[str], Meta(max_length=MOST_LISTED)]
    resource_provider_generation: int


def index(request: Request) -> Reply:
    """GET /traits, with ``name=in:A,B``, ``name=startswith:A`` and ``associated=true``."""
    queries.must_know(request, ["name", "associated"])
    name, associated = queries.single(request, "name"), queries.single(request, "associated")
    if associated is not None and associated.lower() not in ("true", "false"):
        raise BadRequest('The query parameter "associated" only accepts "true" or "false"')
    with request.plane.db.read() as tx:
        found = TRAITS.all(tx)
        held = TRAITS.held(tx) if associated is not None else frozenset()
    if associated is not None:
        found = [one for one in found if (one in held) is (associated.lower() == "true")]
    if name is not None:
        found = _named(found, name)
    return reply(request, {"traits": found})


def _named(found: list[str], name: str) -> list[str]:
    kind, colon, rest = name.partition(":")
    if colon and kind == "in":
        wanted = set(rest.split(","))
        return [one for one in found if one in wanted]
    if colon and kind == "startswith":
        return [one for one in found if one.startswith(rest)]
    raise BadRequest(
        "Badly formatted name parameter. Expected name query string parameter in form: "
        f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{name[:255]}"'
    )


def show(request: Request) -> Reply:
    """GET /traits/{name}: 204 where there is such a trait."""
    name = request.path["name"]
    with request.plane.db.read() as tx:
        if not TRAITS.exists(tx, name):
            raise NotFound(f"No such trait(s): {name[:255]}.")
    return reply(request, status=204)


def create(request: Request) -> Reply:
    """PUT /traits/{name}: 201 where the trait is new, 204 where it was there."""
    try:
        name = resources.parse_custom_trait(request.path["name"])
    except BadRequest as error:
        raise BadRequest(
            'The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "CUSTOM_" '
            'and use following characters: "A"-"Z", "0"-"9" and "_"'
        ) from error
    with request.plane.db.write() as tx:
        new = TRAITS.ensure(tx, name)
    return reply(request, status=201 if new else 204, location=f"/traits/{name}")


def delete(request: Request) -> Reply:
    """DELETE /traits/{name}."""
    with request.plane.db.write() as tx:
        TRAITS.delete(tx, request.path["name"])
    return Reply(204)


def _of_provider(request: Request, provider: Provider) -> Reply:
    plain = {"resource_provider_generation": provider.generation, "traits": sorted(provider.traits)}
    return reply(request, plain, modified=provider.updated_at)


def show_provider(request: Request) -> Reply:
    """GET /resource_providers/{uuid}/traits."""
    with request.plane.db.read() as tx:
        return _of_provider(request, of_path(tx, request))


def replace(request: Request) -> Reply:
    """PUT /resource_providers/{uuid}/traits: exactly these."""
    said = body(request, Traits)
    for name in said.traits:
        resources.parse_trait(name)
    with request.plane.db.write() as tx:
        provider = of_path(tx, request)
        if provider.generation != said.resource_provider_generation:
            raise ConcurrentUpdate("Resource provider's generation already changed. Please update the generation and try again.")
        unknown = TRAITS.unknown(tx, said.traits)
        if unknown:
            raise BadRequest(f"No such trait(s): {queries.named(unknown)}.")
        return _set(tx, request, provider, frozenset(said.traits))


def _set(tx: sa.Connection, request: Request, provider: Provider, wanted: frozenset[str]) -> Reply:
    if wanted != provider.traits:
        providers.set_traits(tx, provider, wanted, now=request.plane.clock.now())
    return _of_provider(request, of_path(tx, request))


def clear(request: Request) -> Reply:
    """DELETE /resource_providers/{uuid}/traits."""
    with request.plane.db.write() as tx:
        _set(tx, request, of_path(tx, request), frozenset())
    return Reply(204)


_PATH = "/resource_providers/{uuid}/traits"

ROUTES = (
    route("GET", "/traits", index, "traits:list", since=6, query=("associated", "name")),
    route("GET", "/traits/{name}", show, "traits:show", since=6, gives=(204,)),
    route("PUT", "/traits/{name}", create, "traits:update", since=6, gives=(201, 204)),
    route("DELETE", "/traits/{name}", delete, "traits:delete", since=6, gives=(204,)),
    route("GET", _PATH, show_provider, "resource_providers:traits:list", since=6),
    route("PUT", _PATH, replace, "resource_providers:traits:update", since=6, takes=(Traits,)),
    route("DELETE", _PATH, clear, "resource_providers:traits:delete", since=6, gives=(200, 204)),
)
