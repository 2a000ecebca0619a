"""Shelve: a server gives its host back, its vGPUs among it, and keeps its disk as an image.

Theory. Until the image is whole nothing of the server is given up, and a failure brings it back to what it was, without the memory
of one that was halted. Then what it had on the host is removed, which cannot be taken back, and last it stops paying. There is no
state in between, as Nova has it with a time to offload of 0: what is shelved holds nothing.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.errors import InvalidState
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DiskContent, DomainReport, PowerAction, PowerState
from lamina.model.servers import Action, TaskState, VmState
from lamina.operations import comparison, disk_images, image_contents
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim
from lamina.store import hosts, images, servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    image_id: str
    #: whether the server is to run where it cannot be shelved
    running: bool


ShelveWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to shelve a server. Raises `NotFound`, `InvalidState`."""
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(Action.SHELVE)
        if server.host is None:
            raise InvalidState(f"Cannot '{rule.action}' instance {server_id}: it has never been placed on a host")
        image_id = disk_images.announce(tx, server, f"{server.name}-shelved"[-255:], {}, now)
        servers.update(tx, server_id, now, task_state=rule.task)
        params = Params(server.host, image_id, server.vm_state in (VmState.ACTIVE, VmState.PAUSED))
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=rule.action)
    plane.runner.wake(saga_id)


def _stop(work: ShelveWork) -> DomainReport:
    work.host = work.params.host
    return work.plane.hosts.of(work.params.host).set_power(work.call("stopped"), work.subject, PowerAction.OFF)


def _stopped(work: ShelveWork, tx: sa.Connection, domain: DomainReport) -> None:
    now = work.plane.clock.now()
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.PRESENT)
    servers.update(tx, work.subject, now, task_state=TaskState.SHELVING_IMAGE_UPLOADING, power_state=domain.power_state)


def _start(work: ShelveWork) -> on_hosts.Outcome:
    params, flavor = work.params, on_hosts.server_of(work).flavor
    return on_hosts.bring_back(work, "stopped", params.host, flavor, work.subject, running=params.running)


def _started(work: ShelveWork, tx: sa.Connection, back: on_hosts.Outcome) -> None:
    """One that was suspended is so still where the host would not let its memory go, and then its domain has no vGPUs."""
    vm_state = comparison.state_shown(VmState.STOPPED, back.domain.power_state)
    held = VgpuState.PRESENT if vm_state is VmState.SUSPENDED else VgpuState.ATTACHED
    on_hosts.record_vgpus(tx, back.vgpus, held)
    hosts.set_vgpus_state(tx, work.subject, work.subject, held)
    servers.update(tx, work.subject, work.plane.clock.now(), vm_state=vm_state, power_state=back.domain.power_state)


def _bring(work: ShelveWork) -> DiskContent:
    return disk_images.bring(work, "disk_brought", work.params.host)


def _store(work: ShelveWork) -> disk_images.Kept:
    return disk_images.store(work, work.params.image_id, work.output(BROUGHT))


def _stored(work: ShelveWork, tx: sa.Connection, kept: disk_images.Kept) -> None:
    disk_images.stored(work, tx, work.params.image_id, kept)
    servers.update(tx, work.subject, work.plane.clock.now(), task_state=TaskState.SHELVING_OFFLOADING)


def _unstore(work: ShelveWork) -> None:
    image_contents.remove(work.plane, work.params.image_id)


def _unstored(work: ShelveWork, tx: sa.Connection, _nothing: None) -> None:
    """Until all is turned back, and for good where that is given up, the image is half made."""
    images.empty(tx, work.params.image_id)


def _remove(work: ShelveWork) -> None:
    records = on_hosts.vgpus_of(work, work.subject)
    on_hosts.remove_domain(work, "removed_from_host", work.params.host)
    on_hosts.release_vgpus(work, "removed_from_host", work.params.host, records)


def _shelved(work: ShelveWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    claim.release(tx, work.subject, now=now)
    servers.update(
        tx,
        work.subject,
        now,
        vm_state=VmState.SHELVED_OFFLOADED,
        task_state=None,
        power_state=PowerState.SHUTDOWN,
        host=None,
        shelved_image_id=work.params.image_id,
        fault=None,
    )


def _undone(work: ShelveWork, tx: sa.Connection, error: SagaError) -> None:
    """The server is where it was; why it is, its fault tells."""
    now = work.plane.clock.now()
    disk_images.forget(work, tx, work.params.image_id)
    servers.update(tx, work.subject, now, task_state=None, fault=on_hosts.fault_of(error, now))


BROUGHT: Effect[ControlPlane, Params, DiskContent] = Effect("disk_brought", _bring, undo=disk_images.clear_depot, output=DiskContent)
KIND: Kind[ControlPlane, Params] = Kind(
    name="shelve",
    params=Params,
    steps=(
        Effect("stopped", _stop, _stopped, _start, _started),
        BROUGHT,
        Effect("image_stored", _store, _stored, _unstore, _unstored),
        Effect("depot_cleared", disk_images.clear_depot),
        Effect("removed_from_host", _remove, irrevocable=True),
        Change("shelved", _shelved),
    ),
    undone=_undone,
)
