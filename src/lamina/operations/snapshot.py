"""Snapshot and backup: a server's disk becomes an image, and the server goes on as it is.

Theory. Nothing of the server is changed, so the way back is to forget the image. The disk of a running server is copied as it is
at one moment, as a power cut would leave it. A backup takes the oldest of its kind away once it is whole, not before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sqlalchemy as sa

from lamina.model.errors import InvalidState
from lamina.model.hosts import DiskContent
from lamina.model.servers import Action, TaskState
from lamina.operations import disk_images, image_contents
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.store import images, servers
from lamina.store.images import Image


@dataclasses.dataclass(frozen=True, slots=True)
class Rotation:
    """Of backups of this type so many are kept."""

    type: str
    kept: int


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    image_id: str
    rotation: Rotation | None = None


SnapshotWork = Work[ControlPlane, Params]


def request(
    plane: ControlPlane, caller: Caller, server_id: str, name: str, properties: Mapping[str, str], rotation: Rotation | None = None
) -> str:
    """Begin to make an image of a server's disk. Returns the image's id. Raises `NotFound`, `InvalidState`."""
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(Action.CREATE_IMAGE if rotation is None else Action.CREATE_BACKUP)
        if server.host is None:
            raise InvalidState(f"Cannot '{rule.action}' instance {server_id}: it has never been placed on a host")
        said = {"image_type": "backup", "backup_type": rotation.type} if rotation is not None else {}
        image_id = disk_images.announce(tx, server, name, dict(properties) | said, now)
        servers.update(tx, server_id, now, task_state=rule.task)
        params = Params(server.host, image_id, rotation)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=rule.action)
    plane.runner.wake(saga_id)
    return image_id


def _bring(work: SnapshotWork) -> DiskContent:
    return disk_images.bring(work, "disk_brought", work.params.host)


def _brought(work: SnapshotWork, tx: sa.Connection, _content: DiskContent) -> None:
    servers.update(tx, work.subject, work.plane.clock.now(), task_state=TaskState.IMAGE_UPLOADING)


def _store(work: SnapshotWork) -> disk_images.Kept:
    return disk_images.store(work, work.params.image_id, work.output(BROUGHT))


def _stored(work: SnapshotWork, tx: sa.Connection, kept: disk_images.Kept) -> None:
    disk_images.stored(work, tx, work.params.image_id, kept)


def _unstore(work: SnapshotWork) -> None:
    image_contents.remove(work.plane, work.params.image_id)


def _unstored(work: SnapshotWork, tx: sa.Connection, _nothing: None) -> None:
    """Until all is turned back, and for good where that is given up, the image is half made."""
    images.empty(tx, work.params.image_id)


def _end(work: SnapshotWork, tx: sa.Connection) -> list[str]:
    """Ids of the backups that are one too many."""
    servers.update(tx, work.subject, work.plane.clock.now(), task_state=None)
    rotation = work.params.rotation
    if rotation is None:
        return []
    alike = {"instance_uuid": work.subject, "backup_type": rotation.type}

    def is_alike(image: Image) -> bool:
        return alike.items() <= image.properties.items() and not image.protected

    owner = servers.get(tx, work.subject, deleted=True).project_id
    among = {"status": ["active"], "owner": [owner]}
    old = images.page(tx, project_id=owner, visibility="private", among=among, also=is_alike, limit=10_000)[rotation.kept :]
    for image in old:
        images.delete(tx, image.id)
    return [image.id for image in old]


def _remove_old(work: SnapshotWork) -> None:
    for image_id in work.output(ENDED):
        image_contents.remove(work.plane, image_id)


def _undone(work: SnapshotWork, tx: sa.Connection, error: SagaError) -> None:
    """Without the image; the server is as it was."""
    now = work.plane.clock.now()
    disk_images.forget(work, tx, work.params.image_id)
    servers.update(tx, work.subject, now, task_state=None, fault=on_hosts.fault_of(error, now))


BROUGHT: Effect[ControlPlane, Params, DiskContent] = Effect(
    "disk_brought", _bring, _brought, disk_images.clear_depot, output=DiskContent
)
ENDED: Change[ControlPlane, Params, list[str]] = Change("ended", _end, output=list[str])
KIND: Kind[ControlPlane, Params] = Kind(
    name="snapshot",
    params=Params,
    steps=(
        BROUGHT,
        Effect("image_stored", _store, _stored, _unstore, _unstored),
        Effect("depot_cleared", disk_images.clear_depot),
        ENDED,
        Effect("old_removed", _remove_old, irrevocable=True),
    ),
    undone=_undone,
)
