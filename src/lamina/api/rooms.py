"""Every room of the application, and the one at the door: health and a list of what is served."""

from __future__ import annotations

from lamina.api import compute, fleet, identity, image, network, placement
from lamina.api.routing import Reply, Request, Room, Route, Version
from lamina.model.errors import LaminaError


def health(request: Request) -> Reply:
    """200 while requests are answered and the database is."""
    with request.plane.db.read() as tx:
        tx.exec_driver_sql("SELECT 1")
    return Reply(200, {"status": "ok"})


def index(request: Request) -> Reply:
    """Where each API is."""
    url = request.plane.settings.public_url
    return Reply(200, {"apis": {room.name: url + room.prefix for room in ROOMS if room.prefix and not room.name.endswith("-versions")}})


def fault(error: LaminaError, request_id: str, _version: Version) -> Reply:
    return Reply(error.status, {"error": {"code": error.code, "message": error.message, "request_id": request_id}})


DOOR = Room(
    name="door",
    prefix="",
    routes=(
        Route("GET", "/", index, "door:index", "@", public=True),
        Route("GET", "/healthz", health, "door:health", "@", public=True),
    ),
    fault=fault,
)

ROOMS: tuple[Room, ...] = (
    identity.ROOM,
    identity.VERSIONS,
    compute.ROOM,
    compute.VERSIONS,
    placement.ROOM,
    image.ROOM,
    image.VERSIONS,
    network.ROOM,
    network.VERSIONS,
    fleet.ROOM,
    DOOR,
)
