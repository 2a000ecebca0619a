"""Resource providers. Source: Placement API reference, "Resource Providers"."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType

from lamina.api.placement import queries
from lamina.api.placement.answers import at_least, body, path_to, reply, route
from lamina.api.routing import Reply, Request
from lamina.model import ids
from lamina.model.errors import BadRequest, NotFound
from lamina.model.providers import Provider
from lamina.store import providers
from lamina.store.providers import UNCHANGED, Filter

Name = Annotated[str, Meta(min_length=1, max_length=200)]

#: the parts of a provider with an address of their own, and the minor version that brought each
_PARTS = (("inventories", 0), ("usages", 0), ("aggregates", 1), ("traits", 6), ("allocations", 11))
#: query parameters and the minor version that brought each
_QUERY = (("name", 0), ("uuid", 0), ("member_of", 3), ("resources", 4), ("in_tree", 14), ("required", 18))


class NewProvider(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    uuid: str | UnsetType = UNSET
    parent_provider_uuid: str | UnsetType | None = UNSET


class ChangedProvider(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    parent_provider_uuid: str | UnsetType | None = UNSET


def shown(request: Request, provider: Provider) -> dict[str, Any]:
    """A provider as this microversion has it."""
    base = path_to(request, "resource_providers", provider.id)
    links = [{"rel": "self", "href": base}]
    links += [{"rel": part, "href": f"{base}/{part}"} for part, since in _PARTS if at_least(request, since)]
    plain: dict[str, Any] = {"uuid": provider.id, "name": provider.name, "generation": provider.generation, "links": links}
    if at_least(request, 14):
        plain |= {"parent_provider_uuid": provider.parent_id, "root_provider_uuid": provider.root_id}
    return plain


def index(request: Request) -> Reply:
    """GET /resource_providers."""
    queries.must_know(request, [name for name, since in _QUERY if at_least(request, since)])
    wanted = _filter(request)
    with request.plane.db.read() as tx:
        names = frozenset().union(wanted.forbidden, *wanted.required)
        queries.must_exist(tx, wanted.resources, names)
        found = providers.listed(tx, wanted)
    modified = max((p.updated_at for p in found), default=None)
    return reply(request, {"resource_providers": [shown(request, p) for p in found]}, modified=modified)


def _filter(request: Request) -> Filter:
    required, forbidden = queries.traits(request, "required")
    member_of, not_member_of = queries.aggregates(request, "member_of")
    provider_id, in_tree = queries.single(request, "uuid"), queries.single(request, "in_tree")
    amounts = queries.single(request, "resources")
    return Filter(
        id=None if provider_id is None else queries.uuid(provider_id, "uuid"),
        name=queries.single(request, "name"),
        in_tree=None if in_tree is None else queries.uuid(in_tree, "in_tree"),
        required=required,
        forbidden=forbidden,
        member_of=member_of,
        not_member_of=not_member_of,
        resources={} if amounts is None else queries.amounts(amounts),
    )


def create(request: Request) -> Reply:
    """POST /resource_providers: 201 without a body, from 1.20 200 with the provider."""
    new = body(request, NewProvider)
    parent_id = _parent(request, new.parent_provider_uuid)
    provider_id = ids.new_uuid() if isinstance(new.uuid, UnsetType) else _uuid(new.uuid)
    with request.plane.db.write() as tx:
        providers.create(
            tx, provider_id, new.name, parent_id=None if isinstance(parent_id, UnsetType) else parent_id, now=request.plane.clock.now()
        )
        made = providers.get(tx, provider_id)
    location = f"/resource_providers/{provider_id}"
    if at_least(request, 20):
        return reply(request, shown(request, made), modified=made.updated_at, location=location)
    return reply(request, status=201, location=location)


def _uuid(said: str) -> str:
    if not ids.is_uuid(said):
        raise BadRequest(f"JSON does not validate: {said[:80]!r} is not a 'uuid'. Failed validating 'format' in schema at 'uuid'")
    return ids.parse_uuid(said)


def _parent(request: Request, said: str | UnsetType | None) -> str | UnsetType | None:
    if isinstance(said, UnsetType):
        return UNSET
    if not at_least(request, 14):
        raise BadRequest("JSON does not validate: parent_provider_uuid: a provider has a parent from microversion 1.14 on")
    return None if said is None else ids.parse_uuid(said, "parent_provider_uuid")


def show(request: Request) -> Reply:
    """GET /resource_providers/{uuid}."""
    with request.plane.db.read() as tx:
        found = of_path(tx, request)
    return reply(request, shown(request, found), modified=found.updated_at)


def of_path(tx: sa.Connection, request: Request) -> Provider:
    """The provider that the request's address names. Raises `NotFound`."""
    return providers.get(tx, request.path["uuid"].lower())


def change(request: Request) -> Reply:
    """PUT /resource_providers/{uuid}."""
    wanted = body(request, ChangedProvider)
    parent_id = _parent(request, wanted.parent_provider_uuid)
    with request.plane.db.write() as tx:
        changed = providers.update(
            tx,
            of_path(tx, request).id,
            wanted.name,
            parent_id=UNCHANGED if isinstance(parent_id, UnsetType) else parent_id,
            may_move=at_least(request, 37),
            now=request.plane.clock.now(),
        )
    return reply(request, shown(request, changed), modified=changed.updated_at)


def delete(request: Request) -> Reply:
    """DELETE /resource_providers/{uuid}."""
    with request.plane.db.write() as tx:
        try:
            provider = of_path(tx, request)
        except NotFound as error:
            raise NotFound(f"{error.message} for delete") from error
        providers.delete(tx, provider.id)
    return Reply(204)


ROUTES = (
    route(
        "GET",
        "/resource_providers",
        index,
        "resource_providers:list",
        query=("in_tree", "member_of", "name", "required", "resources", "uuid"),
    ),
    route("POST", "/resource_providers", create, "resource_providers:create", takes=(NewProvider,), gives=(200, 201)),
    route("GET", "/resource_providers/{uuid}", show, "resource_providers:show"),
    route("PUT", "/resource_providers/{uuid}", change, "resource_providers:update", takes=(ChangedProvider,)),
    route("DELETE", "/resource_providers/{uuid}", delete, "resource_providers:delete", gives=(204,)),
)
