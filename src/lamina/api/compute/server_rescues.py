"""What a caller may say to rescue a server (Compute API reference, "Rescue Server (rescue Action)")."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from lamina.api.compute.server_requests import find_image
from lamina.api.compute.servers import caller_of
from lamina.api.routing import Reply, Request
from lamina.model import decoding
from lamina.model.errors import BadRequest
from lamina.model.servers import Action, Server
from lamina.operations import rescue as operation


class Rescue(msgspec.Struct, forbid_unknown_fields=True):
    admin_pass: Annotated[str, msgspec.Meta(max_length=255)] | None = msgspec.field(default=None, name="adminPass")
    image: str | None = msgspec.field(default=None, name="rescue_image_ref")


def rescue(request: Request, server: Server, value: Any) -> Reply:
    """Raises `BadRequest`, `InvalidState`. The password is taken without effect, as in Nova with ``enable_instance_password=false``."""
    try:
        body = decoding.from_plain({} if value is None else value, Rescue)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for rescue: {error}") from error
    server.must_allow(Action.RESCUE)
    wanted = body.image or server.image_id
    if wanted is None:
        raise BadRequest("rescue.rescue_image_ref: the server was not made from an image, so one has to be named")
    with request.plane.db.read() as tx:
        image_id = find_image(tx, request, wanted, server.flavor)
    operation.rescue(request.plane, caller_of(request), server.id, image_id)
    return Reply(200, {})
