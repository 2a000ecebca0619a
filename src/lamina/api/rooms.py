"""Every room of the application, and the one at the door: health and a list of what is served."""

from __future__ import annotations

from lamina.api import agents, compute, fleet, identity, image, metrics, network, openapi, placement
from lamina.api.routing import Reply, Request, Room, Route, Version
from lamina.model.errors import LaminaError, NotFound
from lamina.model.settings import Settings


def health(request: Request) -> Reply:
    """200 while requests are answered and the database is."""
    with request.plane.db.read() as tx:
        tx.exec_driver_sql("SELECT 1")
    return Reply(200, {"status": "ok"})


def index(request: Request) -> Reply:
    """Where each API is."""
    settings = request.plane.settings
    rooms = (room for room in rooms_of(settings) if room.prefix and not room.name.endswith("-versions"))
    return Reply(200, {"apis": {room.name: settings.public_url + room.prefix for room in rooms}})


def openapi_document(request: Request) -> Reply:
    """What an API's calls are, as OpenAPI 3.1 has it. Raises `NotFound`."""
    name = request.path["api"]
    for room in (*rooms_of(request.plane.settings), agents.ROOM):
        if room.name == name:
            return Reply(200, openapi.document(room))
    raise NotFound(f"There is no API {name[:80]!r} here.")


def fault(error: LaminaError, request_id: str, _version: Version) -> Reply:
    return Reply(error.status, {"error": {"code": error.code, "message": error.message, "request_id": request_id}})


DOOR = Room(
    name="door",
    prefix="",
    routes=(
        Route("GET", "/", index, "door:index", "@", public=True),
        Route("GET", "/openapi/{api}", openapi_document, "door:openapi", "@", public=True),
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
    metrics.ROOM,
    DOOR,
)


def rooms_of(settings: Settings) -> tuple[Room, ...]:
    """The rooms that are served: where a real Keystone knows the users, there is no other Identity API beside it."""
    elsewhere = () if settings.keystone is None else (identity.ROOM, identity.VERSIONS)
    rooms = tuple(room for room in ROOMS if room not in elsewhere)
    return tuple(metrics.OPEN if room is metrics.ROOM and settings.open_metrics else room for room in rooms)
