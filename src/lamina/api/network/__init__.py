"""The Network API, version 2.0, of a cloud without networks: what clients ask before they boot a server is answered truly.

Servers are made without ports here, so every list is empty, nothing is found by id, and making something is refused with
a sentence. Source: Networking API v2.0 reference; error shape: neutron/api/api_common.py.
"""

from __future__ import annotations

from typing import Any

from lamina.api.routing import MEMBER, READER, Reply, Request, Room, Route, Version
from lamina.model.errors import Forbidden, LaminaError, NotFound, NotImplementedHere

#: collection -> its singular
NOUNS = {
    "extensions": "extension",
    "networks": "network",
    "subnets": "subnet",
    "subnetpools": "subnetpool",
    "ports": "port",
    "routers": "router",
    "floatingips": "floatingip",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "address-scopes": "address_scope",
    "agents": "agent",
    "availability_zones": "availability_zone",
}
#: what a project has a quota of; nothing can be made, so the quota of everything is none
QUOTAS = ("floatingip", "network", "port", "rbac_policy", "router", "security_group", "security_group_rule", "subnet", "subnetpool")


def fault(error: LaminaError, request_id: str, version: Version) -> Reply:
    """``{"NeutronError": {"type", "message", "detail"}}``."""
    return Reply(error.status, {"NeutronError": {"type": type(error).__name__, "message": error.message, "detail": ""}})


def versions(request: Request) -> Reply:
    links = [{"rel": "self", "href": f"{request.plane.settings.public_url}/network/v2.0/"}]
    return Reply(200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]})


def resources(request: Request) -> Reply:
    """GET /network/v2.0: where the collections are."""
    base = f"{request.plane.settings.public_url}/network/v2.0"
    listed: list[dict[str, Any]] = [
        {"name": singular, "collection": noun, "links": [{"rel": "self", "href": f"{base}/{noun}"}]} for noun, singular in NOUNS.items()
    ]
    return Reply(200, {"resources": listed})


def _collection(noun: str, singular: str) -> tuple[Route, ...]:
    def index(request: Request) -> Reply:
        return Reply(200, {noun.replace("-", "_"): []})

    def show(request: Request) -> Reply:
        raise NotFound(f"{singular} {request.path['id']} could not be found.")

    def refuse(request: Request) -> Reply:
        raise NotImplementedHere(f"A {singular} cannot be made here: Lamina's servers have no networks.")

    return (
        Route("GET", f"/{noun}", index, f"get_{singular}", READER),
        Route("POST", f"/{noun}", refuse, f"create_{singular}", MEMBER),
        Route("GET", f"/{noun}/{{id}}", show, f"get_{singular}", READER),
        Route("PUT", f"/{noun}/{{id}}", show, f"update_{singular}", MEMBER),
        Route("DELETE", f"/{noun}/{{id}}", show, f"delete_{singular}", MEMBER),
    )


def quotas(request: Request) -> Reply:
    """GET /quotas: projects whose quota was changed, which is none."""
    return Reply(200, {"quotas": []})


def quota(request: Request) -> Reply:
    """GET /quotas/{project_id}."""
    _must_be_own(request)
    return Reply(200, {"quota": dict.fromkeys(QUOTAS, 0)})


def quota_details(request: Request) -> Reply:
    """GET /quotas/{project_id}/details.json."""
    _must_be_own(request)
    return Reply(200, {"quota": {name: {"limit": 0, "used": 0, "reserved": 0} for name in QUOTAS}})


def refuse_quota(request: Request) -> Reply:
    """PUT and DELETE /quotas/{project_id}."""
    raise NotImplementedHere("A network quota cannot be changed here: Lamina's servers have no networks.")


def _must_be_own(request: Request) -> None:
    if not request.context.is_admin and request.path["project_id"] != request.context.project_id:
        raise Forbidden("Only an admin may see another project's quota.")


_DOCUMENT = (
    Route("GET", "", versions, "network_versions", "", public=True),
    Route("GET", "/", versions, "network_versions", "", public=True),
)

VERSIONS = Room(name="network-versions", prefix="/network", routes=_DOCUMENT, fault=fault)

ROOM = Room(
    name="network",
    prefix="/network/v2.0",
    routes=(
        Route("GET", "", resources, "get_resources", READER),
        Route("GET", "/", resources, "get_resources", READER),
        *(route for noun, singular in NOUNS.items() for route in _collection(noun, singular)),
        Route("GET", "/quotas", quotas, "get_quotas", READER),
        Route("GET", "/quotas/{project_id}", quota, "get_quota", READER),
        Route("GET", "/quotas/{project_id}/details.json", quota_details, "get_quota", READER),
        Route("PUT", "/quotas/{project_id}", refuse_quota, "update_quota", MEMBER),
        Route("DELETE", "/quotas/{project_id}", refuse_quota, "delete_quota", MEMBER),
    ),
    fault=fault,
)
