"""The Network API, version 2.0: the networks that hosts say they have, and the ports of servers.

Networks are made where hosts are set up, ports come and go with servers; addresses are handed out by whatever serves a
network. So both are listed truly, every other list is empty, and making something is refused with a sentence.
Source: Networking API v2.0 reference.
"""

from __future__ import annotations

from typing import Any

from lamina.api.network import networks, ports
from lamina.api.network.answers import PREFIX, fault, listed
from lamina.api.routing import MEMBER, READER, Handler, Reply, Request, Room, Route
from lamina.model.errors import Forbidden, NotFound, NotImplementedHere
from lamina.store import ports as port_rows
from lamina.store.tables.compute import ports as rows

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
#: what a project has a quota of: -1 where nothing is limited, 0 where nothing can be made
QUOTAS = {
    "floatingip": 0,
    "network": 0,
    "port": -1,
    "rbac_policy": 0,
    "router": 0,
    "security_group": 0,
    "security_group_rule": 0,
    "subnet": 0,
    "subnetpool": 0,
}
WHY = "networks are what hosts say they have, ports come and go with servers, and there is nothing else"


def versions(request: Request) -> Reply:
    links = [{"rel": "self", "href": f"{request.plane.settings.public_url}{PREFIX}/"}]
    return Reply(200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]})


def resources(request: Request) -> Reply:
    """GET /network/v2.0: where the collections are."""
    base = f"{request.plane.settings.public_url}{PREFIX}"
    named: list[dict[str, Any]] = [
        {"name": singular, "collection": noun, "links": [{"rel": "self", "href": f"{base}/{noun}"}]} for noun, singular in NOUNS.items()
    ]
    return Reply(200, {"resources": named})


def _empty(noun: str) -> Handler:
    def index(request: Request) -> Reply:
        return listed(request, noun.replace("-", "_"), ())

    return index


def _missing(singular: str) -> Handler:
    def show(request: Request) -> Reply:
        raise NotFound(f"{singular.capitalize()} {request.path['id'][:80]} could not be found.")

    return show


def _collection(noun: str, singular: str) -> tuple[Route, ...]:
    def refuse(request: Request) -> Reply:
        raise NotImplementedHere(f"A {singular} cannot be made here: {WHY}.")

    index, show, change = _TOLD.get(noun, (_empty(noun), _missing(singular), _missing(singular)))
    gives, changes = ((200,), (501,)) if noun in _TOLD else ((), ())
    narrowed = ("device_id",) if noun == "ports" else ()
    return (
        Route("GET", f"/{noun}", index, f"get_{singular}", READER, query=("fields", "limit", "marker", *narrowed)),
        Route("POST", f"/{noun}", refuse, f"create_{singular}", MEMBER, gives=(), refuses=(501,)),
        Route("GET", f"/{noun}/{{id}}", show, f"get_{singular}", READER, gives=gives, query=("fields", *narrowed)),
        Route("PUT", f"/{noun}/{{id}}", change, f"update_{singular}", MEMBER, gives=(), refuses=changes),
        Route("DELETE", f"/{noun}/{{id}}", change, f"delete_{singular}", MEMBER, gives=(), refuses=changes),
    )


#: collection -> what lists it, shows one and answers to a change
_TOLD: dict[str, tuple[Handler, Handler, Handler]] = {
    "networks": (networks.index, networks.show, networks.refuse_change),
    "ports": (ports.index, ports.show, ports.refuse_change),
}


def quotas(request: Request) -> Reply:
    """GET /quotas: projects whose quota was changed, which is none."""
    return Reply(200, {"quotas": []})


def quota(request: Request) -> Reply:
    """GET /quotas/{project_id}."""
    _must_be_own(request)
    return Reply(200, {"quota": QUOTAS})


def quota_details(request: Request) -> Reply:
    """GET /quotas/{project_id}/details.json."""
    _must_be_own(request)
    with request.plane.db.read() as tx:
        used = {"port": len(port_rows.select(tx, rows.c.project_id == request.path["project_id"]))}
    details = {name: {"limit": limit, "used": used.get(name, 0), "reserved": 0} for name, limit in QUOTAS.items()}
    return Reply(200, {"quota": details})


def refuse_quota(request: Request) -> Reply:
    """PUT and DELETE /quotas/{project_id}."""
    raise NotImplementedHere(f"A network quota cannot be changed here: {WHY}.")


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
    prefix=PREFIX,
    routes=(
        Route("GET", "", resources, "get_resources", READER),
        Route("GET", "/", resources, "get_resources", READER),
        *(route for noun, singular in NOUNS.items() for route in _collection(noun, singular)),
        Route("GET", "/quotas", quotas, "get_quotas", READER),
        Route("GET", "/quotas/{project_id}", quota, "get_quota", READER),
        Route("GET", "/quotas/{project_id}/details.json", quota_details, "get_quota", READER),
        Route("PUT", "/quotas/{project_id}", refuse_quota, "update_quota", MEMBER, gives=(), refuses=(501,)),
        Route("DELETE", "/quotas/{project_id}", refuse_quota, "delete_quota", MEMBER, gives=(), refuses=(501,)),
    ),
    fault=fault,
)
