"""Contents of images over HTTP: taken in and given out. What is done with them is `lamina.operations.image_contents`'s."""

from __future__ import annotations

from lamina.api.image import access
from lamina.api.routing import MEMBER, READER, Reply, Request, Route
from lamina.model.errors import BadRequest, Conflict, LaminaError, UnsupportedMedia
from lamina.operations import image_contents
from lamina.store import images
from lamina.store.images import Image


def _awaiting_content(request: Request) -> tuple[Image, str]:
    """The image in the path, which waits for its content, and the format it is declared to have. Raises what is against it."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/octet-stream":
        raise UnsupportedMedia("The content of an image is sent as application/octet-stream.")
    with request.plane.db.read() as tx:
        declared = access.changeable(tx, request)
    _must_be_queued(declared)
    if declared.disk_format is None or declared.container_format is None:
        raise BadRequest("Properties disk_format, container_format must be set prior to saving data.")
    return declared, declared.disk_format


def admit_upload(request: Request) -> None:
    """Before the content is taken in: nobody fills the disk with what will not be kept."""
    _awaiting_content(request)


def upload(request: Request) -> Reply:
    """PUT /images/{image_id}/file."""
    plane, spooled = request.plane, request.upload
    if spooled is None:
        raise LaminaError("An upload came without a spooled body.")
    declared, disk_format = _awaiting_content(request)
    facts = image_contents.inspect(spooled, disk_format)
    image_contents.to_disk(spooled)
    with plane.db.write() as tx:
        now_declared = access.changeable(tx, request)
        if now_declared.disk_format != declared.disk_format:
            raise Conflict("The image's disk_format was changed while its content was being sent; send it again.")
        images.activate(
            tx,
            declared.id,
            size=facts.size,
            virtual_size=facts.virtual_size,
            checksum=facts.md5,
            sha512=facts.sha512,
            now=plane.clock.now(),
        )
        spooled.replace(plane.settings.images / declared.id)
        image_contents.to_disk(plane.settings.images)
    return Reply(204)


def download(request: Request) -> Reply:
    """GET /images/{image_id}/file."""
    with request.plane.db.read() as tx:
        found = access.visible(tx, request)
    if found.status != "active":
        return Reply(204)
    return Reply(200, headers={"Content-MD5": found.checksum or ""}, file=request.plane.settings.images / found.id)


def _must_be_queued(image: Image) -> None:
    if image.status != "queued":
        raise Conflict(f"Image {image.id} has its content already, and content is never changed.")


ROUTES = (
    Route(
        "PUT",
        "/images/{image_id}/file",
        upload,
        "upload_image",
        MEMBER,
        upload=True,
        admit=admit_upload,
        gives=(204,),
        refuses=(415,),
    ),
    Route("GET", "/images/{image_id}/file", download, "download_image", READER, gives=(200, 204)),
)
