"""The Identity API, version 3: a small Keystone (source: Identity API v3 reference, releases to v3.14)."""

from __future__ import annotations

from typing import Any

from lamina.api.identity import answers, application_credentials, catalog, domains, grants, groups, limits, projects, roles, tokens, users
from lamina.api.identity.faults import fault
from lamina.api.routing import Reply, Request, Room, Route


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": answers.base(request.plane.settings) + "/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def versions(request: Request) -> Reply:
    return Reply(300, {"versions": {"values": [_version(request)]}})


def version(request: Request) -> Reply:
    return Reply(200, {"version": _version(request)})


VERSIONS = Room(
    name="identity-versions",
    prefix="/identity",
    routes=(
        Route("GET", "", versions, "identity:versions", "", public=True, gives=(300,)),
        Route("GET", "/", versions, "identity:versions", "", public=True, gives=(300,)),
    ),
    fault=fault,
)

ROOM = Room(
    name="identity",
    prefix="/identity/v3",
    routes=(
        Route("GET", "", version, "identity:version", "", public=True),
        Route("GET", "/", version, "identity:version", "", public=True),
        *tokens.ROUTES,
        *catalog.ROUTES,
        *domains.ROUTES,
        *projects.ROUTES,
        *users.ROUTES,
        *groups.ROUTES,
        *application_credentials.ROUTES,
        *roles.ROUTES,
        *grants.ROUTES,
        *limits.ROUTES,
    ),
    fault=fault,
)
