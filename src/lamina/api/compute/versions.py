"""Version documents, open to everybody: how clients find out what is spoken here."""

from __future__ import annotations

from typing import Any

from lamina.api.compute.answers import MICROVERSIONS, PREFIX
from lamina.api.routing import Reply, Request, Route


def _document(request: Request) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": str(MICROVERSIONS.most),
        "min_version": str(MICROVERSIONS.least),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{request.plane.settings.public_url}{PREFIX}/"}],
    }


def every(request: Request) -> Reply:
    return Reply(200, {"versions": [_document(request)]})


def one(request: Request) -> Reply:
    kinds = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
    return Reply(200, {"version": _document(request) | {"media-types": kinds}})


ALL = (
    Route("GET", "", every, "compute_versions", "@", public=True),
    Route("GET", "/", every, "compute_versions", "@", public=True),
)
ONE = (
    Route("GET", "", one, "compute_version", "@", public=True),
    Route("GET", "/", one, "compute_version", "@", public=True),
)
