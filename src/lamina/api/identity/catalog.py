"""The catalog: which APIs there are and where. It follows from the settings and is kept in no table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from lamina.api.identity import answers
from lamina.api.routing import ADMIN, ANY_USER, Reply, Request, Route
from lamina.model.errors import Forbidden, NotFound
from lamina.model.settings import Settings
from lamina.store.identity import derived_id

INTERFACES = ("public", "internal", "admin")


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    type: str
    name: str
    #: below the public URL. The Image API is named without its version, which clients discover below it; glance does the same.
    path: str

    @property
    def id(self) -> str:
        return derived_id("service", self.type)

    def endpoint_id(self, interface: str) -> str:
        return derived_id("endpoint", self.type, interface)


SERVICES = (
    Service("compute", "nova", "/compute/v2.1"),
    Service("fleet", "lamina-fleet", "/fleet/v1"),
    Service("identity", "keystone", "/identity/v3"),
    Service("image", "glance", "/image"),
    Service("network", "neutron", "/network"),
    Service("placement", "placement", "/placement"),
)


def catalog(settings: Settings) -> list[dict[str, Any]]:
    """The catalog as a token's body carries it."""
    return [
        {
            "id": service.id,
            "type": service.type,
            "name": service.name,
            "endpoints": [
                {
                    "id": service.endpoint_id(interface),
                    "interface": interface,
                    "region": settings.region,
                    "region_id": settings.region,
                    "url": settings.public_url + service.path,
                }
                for interface in INTERFACES
            ],
        }
        for service in SERVICES
    ]


def show_catalog(request: Request) -> Reply:
    context = request.context
    if context.project_id is None and context.domain_id is None and not context.system:
        raise Forbidden("An unscoped token has no catalog; ask for a token with a project, a domain or the system as its scope.")
    return answers.listing(request, "catalog", catalog(request.plane.settings))


def _services(settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "id": service.id,
            "type": service.type,
            "name": service.name,
            "description": "",
            "enabled": True,
            "links": {"self": f"{answers.base(settings)}/services/{service.id}"},
        }
        for service in SERVICES
    ]


def _endpoints(settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "id": service.endpoint_id(interface),
            "service_id": service.id,
            "interface": interface,
            "region": settings.region,
            "region_id": settings.region,
            "url": settings.public_url + service.path,
            "enabled": True,
            "links": {"self": f"{answers.base(settings)}/endpoints/{service.endpoint_id(interface)}"},
        }
        for service in SERVICES
        for interface in INTERFACES
    ]


def _regions(settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "id": settings.region,
            "description": "",
            "parent_region_id": None,
            "links": {"self": f"{answers.base(settings)}/regions/{settings.region}"},
        }
    ]


def _collection(
    noun: str, everything: Callable[[Settings], list[dict[str, Any]]], filters: tuple[str, ...], check: str
) -> tuple[Route, Route]:
    """The list and the show of one of the catalog's nouns."""

    def index(request: Request) -> Reply:
        wanted = {name: request.value(name) for name in filters}
        found = everything(request.plane.settings)
        return answers.listing(request, f"{noun}s", (v for v in found if all(w in (None, v[name]) for name, w in wanted.items())))

    def show(request: Request) -> Reply:
        for value in everything(request.plane.settings):
            if value["id"] == request.path["id"]:
                return Reply(200, {noun: value})
        raise NotFound(f"Could not find {noun}: {request.path['id']}.")

    return (
        Route("GET", f"/{noun}s", index, f"identity:list_{noun}s", check, query=filters),
        Route("GET", f"/{noun}s/{{id}}", show, f"identity:get_{noun}", check),
    )


ROUTES = (
    Route("GET", "/auth/catalog", show_catalog, "identity:get_auth_catalog", ANY_USER),
    *_collection("service", _services, ("type", "name"), ADMIN),
    *_collection("endpoint", _endpoints, ("service_id", "interface", "region_id"), ADMIN),
    *_collection("region", _regions, ("parent_region_id",), ANY_USER),
)
