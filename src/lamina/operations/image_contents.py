"""Contents of images: looked into, put to their place, taken away.

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
from typing import BinaryIO

from oslo_utils.imageutils import format_inspector

from lamina.model.errors import BadRequest
from lamina.operations.control_plane import ControlPlane
from lamina.store import images

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


def inspect(path: Path, declared: str) -> Facts:
    """Read a content once: its digests, and what it really is. Raises `BadRequest` where it is not `declared` or not safe."""
    with path.open("rb") as file:
        return read_through(file, declared)


def read_through(file: BinaryIO, declared: str) -> Facts:
    """The facts of what is read to its end; see `inspect`."""
    # MD5 is what old clients compare; it protects nothing
    md5, sha512, size = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0
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


def to_disk(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
