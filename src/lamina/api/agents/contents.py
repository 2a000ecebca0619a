"""Contents of images on their way to hosts, and of disks on their way from one host to another by way of the depot.

A host gets what its servers need, and nothing else.
"""

from __future__ import annotations

from lamina.api.routing import Reply, Request
from lamina.model import ids
from lamina.model.errors import LaminaError, NotFound
from lamina.store import images, servers

#: SHA-512 of the content, in hexadecimal
DIGEST = "Lamina-SHA512"


def image(request: Request) -> Reply:
    """An image that a server on this host begins with."""
    image_id = ids.parse_uuid(request.path["image"], "image")
    with request.plane.db.read() as tx:
        if not servers.needs_image(tx, request.context.host, image_id):
            raise NotFound(f"No server on host {request.context.host} needs an image {image_id}.")
        found = images.get(tx, image_id)
    path = request.plane.settings.images / found.id
    if found.status != "active" or found.sha512 is None or not path.exists():
        raise NotFound(f"Image {image_id} has no content.")
    return Reply(200, headers={DIGEST: found.sha512}, file=path)


def _of_this_host(request: Request) -> str:
    """The id of the server in the path, which is on this host or on its way there or away. Raises `NotFound`."""
    server_id = ids.parse_uuid(request.path["server"], "server")
    with request.plane.db.read() as tx:
        if not servers.touches(tx, request.context.host, server_id):
            raise NotFound(f"No server {server_id} is on host {request.context.host}, or moves there or away.")
    return server_id


def admit_disk(request: Request) -> None:
    """Before the content is taken in."""
    _of_this_host(request)


def bring_disk(request: Request) -> Reply:
    """Put a server's disk into the depot."""
    if request.upload is None:
        raise LaminaError("A disk came without a spooled body.")
    depot = request.plane.settings.depot
    depot.mkdir(mode=0o700, exist_ok=True)
    request.upload.replace(depot / _of_this_host(request))
    return Reply(204)


def fetch_disk(request: Request) -> Reply:
    """Take a server's disk from the depot."""
    path = request.plane.settings.depot / _of_this_host(request)
    if not path.exists():
        raise NotFound("The depot has no disk of this server.")
    return Reply(200, file=path)
