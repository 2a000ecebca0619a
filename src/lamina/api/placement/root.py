"""GET /placement: which microversions there are."""

from __future__ import annotations

from lamina.api.placement.answers import MICROVERSIONS, reply
from lamina.api.routing import Reply, Request, Route


def show(request: Request) -> Reply:
    document = {
        "id": "v1.0",
        "max_version": str(MICROVERSIONS.most),
        "min_version": str(MICROVERSIONS.least),
        "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    }
    return reply(request, {"versions": [document]})


ROUTES = (
    Route("GET", "", show, "placement:root", "@", public=True),
    Route("GET", "/", show, "placement:root", "@", public=True),
)
