"""Images made of a server's disk (Compute API reference, "createImage", "createBackup")."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from lamina.api.compute.server_requests import metadata_of, name_of
from lamina.api.compute.servers import caller_of
from lamina.api.routing import Reply, Request, Version
from lamina.model import decoding
from lamina.model.errors import BadRequest
from lamina.model.servers import Server
from lamina.operations import snapshot

#: from when on the image's id is in the body
WITH_BODY = Version(2, 45)


class CreateImage(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    metadata: dict[str, str] = {}


class CreateBackup(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    backup_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    rotation: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] | str
    metadata: dict[str, str] = {}


def create_image(request: Request, server: Server, value: Any) -> Reply:
    """Raises `BadRequest`, `InvalidState`."""
    try:
        body = decoding.from_plain(value, CreateImage)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for createImage: {error}") from error
    name, properties = name_of(body.name), metadata_of(body.metadata)
    return _told(request, snapshot.request(request.plane, caller_of(request), server.id, name, properties))


def create_backup(request: Request, server: Server, value: Any) -> Reply:
    """Raises `BadRequest`, `InvalidState`."""
    try:
        body = decoding.from_plain(value, CreateBackup)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for createBackup: {error}") from error
    said = str(body.rotation)
    if not (said.isascii() and said.isdecimal() and len(said) < 10):
        raise BadRequest(f"createBackup.rotation: {said[:80]!r} is no number of backups to keep")
    name, properties = name_of(body.name), metadata_of(body.metadata)
    rotation = snapshot.Rotation(body.backup_type, int(said))
    return _told(request, snapshot.request(request.plane, caller_of(request), server.id, name, properties, rotation))


def _told(request: Request, image_id: str) -> Reply:
    if request.version >= WITH_BODY:
        return Reply(202, {"image_id": image_id})
    return Reply(202, headers={"Location": f"{request.plane.settings.public_url}/image/v2/images/{image_id}"})
