"""A server's disk on its way into an image: the steps that snapshots and shelving share.

The host brings the disk to the depot, as on a move to another host, and the control plane keeps it as the image's content. The
image is there from the request on, in the status ``saving``, so that nobody else fills it; it is active once it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import BadRequest, HostError, NotFound
from lamina.model.hosts import DiskContent
from lamina.model.servers import Server
from lamina.operations import image_contents
from lamina.operations.control_plane import ControlPlane
from lamina.saga.steps import Work
from lamina.store import images
from lamina.store.images import Image

AnyWork = Work[ControlPlane, Any]


def announce(tx: sa.Connection, server: Server, name: str, properties: Mapping[str, str], now: float) -> str:
    """The image that is to be. Returns its id."""
    said = {"instance_uuid": server.id, "user_id": server.user_id, "image_type": "snapshot"}
    based = {"base_image_ref": server.image_id} if server.image_id is not None else {}
    image = Image(
        id=ids.new_uuid(),
        owner=server.project_id,
        created_at=now,
        updated_at=now,
        name=name,
        visibility="private",
        status="saving",
        container_format="bare",
        min_disk_gb=server.flavor.disk_gb,
        properties=said | based | dict(properties),
    )
    images.add(tx, image)
    return image.id


def bring(work: AnyWork, step: str, host: str) -> DiskContent:
    """Have the host bring the server's disk to the depot. Raises `HostError`, also for a server that has none."""
    work.host = host
    content = work.plane.hosts.of(host).send_disk(work.call(step), work.subject)
    if content is None:
        raise HostError(f"Server {work.subject} has no disk that could become an image.")
    return content


def clear_depot(work: AnyWork) -> None:
    (work.plane.settings.depot / work.subject).unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A disk as the content of an image."""

    disk_format: str
    facts: image_contents.Facts


def store(work: AnyWork, image_id: str, content: DiskContent) -> Kept:
    """Have what lies in the depot as the image's content too. Raises `HostError` where it is not what was sent."""
    waiting, place = work.plane.settings.depot / work.subject, work.plane.settings.images / image_id
    kept = _found(waiting)
    if (kept.facts.sha512, kept.facts.size) != (content.sha512, content.size):
        raise HostError(f"The disk of server {work.subject} did not arrive as it was sent.")
    place.unlink(missing_ok=True)
    os.link(waiting, place)
    image_contents.to_disk(place)
    image_contents.to_disk(place.parent)
    return kept


def _found(path: Path) -> Kept:
    """What hosts bring is qcow2; simulated ones have something else to show, which is taken for what it is."""
    try:
        return Kept("qcow2", image_contents.inspect(path, "qcow2"))
    except BadRequest:
        return Kept("raw", image_contents.inspect(path, "raw"))


def stored(work: AnyWork, tx: sa.Connection, image_id: str, kept: Kept) -> None:
    """The image is whole. Raises `NotFound` where somebody has deleted it meanwhile."""
    image, facts = images.get(tx, image_id, hold=True), kept.facts
    whole = dataclasses.replace(
        image,
        updated_at=work.plane.clock.now(),
        disk_format=kept.disk_format,
        size=facts.size,
        virtual_size=facts.virtual_size,
        checksum=facts.md5,
        sha512=facts.sha512,
    )
    images.fill(tx, whole)


def discard(work: AnyWork, image_id: str) -> None:
    """Nobody needs the image any more. May be repeated."""
    with work.plane.db.write() as tx, contextlib.suppress(NotFound):
        images.delete(tx, image_id)
    image_contents.remove(work.plane, image_id)


def forget(work: AnyWork, tx: sa.Connection, image_id: str) -> None:
    """The image is not to be. Its content goes first: a row without it is told of for no longer than this commit takes."""
    image_contents.remove(work.plane, image_id)
    with contextlib.suppress(NotFound):
        images.delete(tx, image_id)
