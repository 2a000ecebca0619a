"""Contents of images: taken in, looked into, given out.

A row that says ``active`` always has its file: the file is moved to its place inside the transaction that says so, and
removed after the transaction that forgets it. A crash in between leaves a file that no row names; `sweep` removes it.

What a guest's disk format can make a host do is known too well (backing files and data files that name the host's own:
CVE-2024-32498, CVE-2022-47951, CVE-2024-40767), so the content must be what it is declared to be, and harmless.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from pathlib import Path

from oslo_utils.imageutils import format_inspector

from lamina.api.image import access
from lamina.api.routing import MEMBER, READER, Reply, Request, Route
from lamina.model.errors import BadRequest, Conflict, LaminaError, UnsupportedMedia
from lamina.operations.control_plane import ControlPlane
from lamina.store import images
from lamina.store.images import Image

_CHUNK = 1 << 20
#: seconds that a content may be on its way without a row that names it
ON_ITS_WAY = 86400.0
_MOST_SIZE = 2**63 - 1

#: declared format -> what the content may be found to be; a partition table (gpt) is an ordinary thing on a raw disk or a hybrid ISO
_FOUND_AS = {
    **{name: frozenset({name}) for name in ("qcow2", "vhd", "vhdx", "vmdk", "vdi")},
    "raw": frozenset({"raw", "gpt"}),
    "iso": frozenset({"iso", "gpt"}),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What a content was found to be. Sizes in bytes, digests in hexadecimal."""

    size: int
    virtual_size: int
    md5: str
    sha512: str


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
    facts = inspect(spooled, disk_format)
    _to_disk(spooled)
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
        _to_disk(plane.settings.images)
    return Reply(204)


def download(request: Request) -> Reply:
    """GET /images/{image_id}/file."""
    with request.plane.db.read() as tx:
        found = access.visible(tx, request)
    if found.status != "active":
        return Reply(204)
    return Reply(200, headers={"Content-MD5": found.checksum or ""}, file=request.plane.settings.images / found.id)


def inspect(path: Path, declared: str) -> Facts:
    """Read a content once: its digests, and what it really is. Raises `BadRequest` where it is not `declared` or not safe."""
    # MD5 is what old clients compare; it protects nothing
    md5, sha512, size = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0
    with path.open("rb") as file:
        inspected = format_inspector.InspectWrapper(file)
        while chunk := inspected.read(_CHUNK):
            size += len(chunk)
            md5.update(chunk)
            sha512.update(chunk)
        inspected.close()
    found = {str(one): one for one in inspected.formats or ()}
    if not found or not found.keys() <= _FOUND_AS[declared]:
        raise BadRequest(f"The content is not {declared}: it was found to be {' and '.join(sorted(found)) or 'nothing known'}.")
    main = found.get(declared) or next(iter(found.values()))
    try:
        for one in found.values():
            one.safety_check()
        virtual_size = main.virtual_size
    except Exception as error:  # the inspectors read hostile bytes; whatever they stumble over, the content is refused
        raise BadRequest(f"The {declared} content was refused by the safety check: {error}") from error
    if not 0 <= virtual_size <= _MOST_SIZE:
        raise BadRequest(f"The {declared} content claims a disk of {virtual_size} bytes, which no disk has.")
    return Facts(size, virtual_size, md5.hexdigest(), sha512.hexdigest())


def remove(plane: ControlPlane, image_id: str) -> None:
    """Take the content away after its row is gone."""
    (plane.settings.images / image_id).unlink(missing_ok=True)


def sweep(plane: ControlPlane) -> None:
    """Make the folder ready at the start of the process, before anything is served: files that no row names are removed."""
    plane.settings.images.mkdir(mode=0o700, parents=True, exist_ok=True)
    # where others run, what no row names yet may be on its way
    newest = math.inf if plane.settings.shared is None else plane.clock.now() - ON_ITS_WAY
    with plane.db.read() as tx:
        kept = images.with_content(tx)
    for path in plane.settings.images.iterdir():
        if path.name not in kept and path.stat().st_mtime < newest:
            path.unlink(missing_ok=True)


def _must_be_queued(image: Image) -> None:
    if image.status != "queued":
        raise Conflict(f"Image {image.id} has its content already, and content is never changed.")


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


ROUTES = (
    Route("PUT", "/images/{image_id}/file", upload, "upload_image", MEMBER, upload=True, admit=admit_upload),
    Route("GET", "/images/{image_id}/file", download, "download_image", READER),
)
