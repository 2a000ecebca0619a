"""Usages of a provider, and of a project over all providers. Source: Placement API reference, "Usages"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lamina.api.placement import queries
from lamina.api.placement.answers import at_least, reply, route
from lamina.api.placement.providers import of_path
from lamina.api.routing import Reply, Request
from lamina.model import resources
from lamina.model.errors import BadRequest
from lamina.store import allocations
from lamina.store.allocations import UNKNOWN, Usage

ALL = "all"


def show_provider(request: Request) -> Reply:
    """GET /resource_providers/{uuid}/usages."""
    with request.plane.db.read() as tx:
        provider = of_path(tx, request)
    plain = {"resource_provider_generation": provider.generation, "usages": dict(provider.used)}
    return reply(request, plain, modified=provider.updated_at)


def index(request: Request) -> Reply:
    """GET /usages: what a project's consumers hold, from 1.38 on by the type of consumer."""
    by_type = at_least(request, 38)
    queries.must_know(request, ["project_id", "user_id", *(["consumer_type"] if by_type else [])])
    project_id = _owner(request, "project_id")
    if project_id is None:
        raise BadRequest("Invalid query string parameters: 'project_id' is a required property")
    user_id, kind = _owner(request, "user_id"), queries.single(request, "consumer_type")
    if kind is not None and kind not in (ALL, UNKNOWN):
        resources.parse_resource_class(kind)
    with request.plane.db.read() as tx:
        found = allocations.usages(tx, project_id, user_id, None if kind == ALL else kind)
    if not by_type:
        return reply(request, {"usages": _together(found.values())["amounts"]})
    if kind == ALL and found:
        together = _together(found.values())
        return reply(request, {"usages": {ALL: {"consumer_count": together["consumers"], **together["amounts"]}}})
    return reply(request, {"usages": {held_by: {"consumer_count": one.consumers, **one.amounts} for held_by, one in found.items()}})


def _owner(request: Request, name: str) -> str | None:
    value = queries.single(request, name)
    if value is not None and not 1 <= len(value) <= 255:
        keyword = "maxLength" if value else "minLength"
        raise BadRequest(f"Invalid query string parameters: {name} has 1 to 255 characters. Failed validating '{keyword}'")
    return value


def _together(several: Iterable[Usage]) -> dict[str, Any]:
    consumers, amounts = 0, dict[str, int]()
    for one in several:
        consumers += one.consumers
        for name, amount in one.amounts.items():
            amounts[name] = amounts.get(name, 0) + amount
    return {"consumers": consumers, "amounts": amounts}


ROUTES = (
    route("GET", "/resource_providers/{uuid}/usages", show_provider, "resource_providers:usages"),
    route("GET", "/usages", index, "usages", since=9, query=("consumer_type",)),
)
