"""The Image API, version 2: a small Glance (source: Image API v2 reference, releases to v2.7).

The catalog names ``/image`` and clients discover ``/image/v2`` below it, as with Glance.
"""

from __future__ import annotations

from lamina.api.image import content, images, schemas
from lamina.api.image.answers import fault
from lamina.api.routing import Reply, Request, Room, Route


def versions(request: Request) -> Reply:
    links = [{"rel": "self", "href": f"{request.plane.settings.public_url}/image/v2/"}]
    offered = [{"id": f"v2.{minor}", "status": "CURRENT" if minor == 7 else "SUPPORTED", "links": links} for minor in range(7, -1, -1)]
    return Reply(300, {"versions": offered})


_VERSION_ROUTES = (
    Route("GET", "", versions, "image_versions", "", public=True, gives=(300,)),
    Route("GET", "/", versions, "image_versions", "", public=True, gives=(300,)),
)

VERSIONS = Room(name="image-versions", prefix="/image", routes=_VERSION_ROUTES, fault=fault)

ROOM = Room(
    name="image",
    prefix="/image/v2",
    routes=(*_VERSION_ROUTES, *images.ROUTES, *content.ROUTES, *schemas.ROUTES),
    fault=fault,
)
