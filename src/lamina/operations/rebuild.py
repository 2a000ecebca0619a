"""Rebuild: a server's disk made anew from an image; its vGPUs, its ports, its allocation and its host stay.

Theory. Nothing is claimed and nothing given back, so there is no way to lose a vGPU. The domain is shut off, a new disk takes the
place of the old one in one move once it is whole, and the domain is started where it ran. What the caller changed of the server
is recorded with the request. A failure leaves the server off and in ERROR, as Nova does, with the old disk or the new one, never
a part of one; another rebuild, or a hard reboot, mends it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import InvalidState
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, PowerAction, PowerState
from lamina.model.servers import Action, TaskState, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Effect, Kind, SagaError, Work
from lamina.store import hosts, images, servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    #: a server that was stopped is left stopped
    running: bool


RebuildWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str, image_id: str | None, changes: Mapping[str, Any]) -> None:
    """Begin to rebuild from an image, or to a blank disk; `changes` are columns of the server. Raises `NotFound`, `InvalidState`."""
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(Action.REBUILD)
        if server.host is None:
            raise InvalidState(f"Cannot '{rule.action}' instance {server_id}: it has never been placed on a host")
        servers.update(tx, server_id, plane.clock.now(), task_state=rule.task, image_id=image_id, **changes)
        params = Params(server.host, server.vm_state is not VmState.STOPPED)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=rule.action)
    plane.runner.wake(saga_id)


def _stop(work: RebuildWork) -> DomainReport:
    """Made whole before it is switched off: a server in ERROR may have no domain, and its host may have lost its devices."""
    records = on_hosts.vgpus_of(work, work.subject)
    on_hosts.ensure_vgpus(work, "stopped", work.params.host, records)
    on_hosts.ensure_domain(work, "stopped", work.params.host, on_hosts.server_of(work).flavor, records, running=False)
    return work.plane.hosts.of(work.params.host).set_power(work.call("stopped"), work.subject, PowerAction.OFF)


def _stopped(work: RebuildWork, tx: sa.Connection, domain: DomainReport) -> None:
    servers.update(tx, work.subject, work.plane.clock.now(), task_state=TaskState.REBUILD_SPAWNING, power_state=domain.power_state)


def _switch_off(work: RebuildWork) -> PowerState:
    return on_hosts.power_if_possible(work, "stopped", work.params.host, PowerAction.OFF)


def _off(work: RebuildWork, tx: sa.Connection, seen: PowerState) -> None:
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=seen)


def _renew_disk(work: RebuildWork) -> None:
    server = on_hosts.server_of(work)
    spec = on_hosts.domain_spec(work, server.flavor, on_hosts.vgpus_of(work, work.subject), running=False)
    if server.image_id is not None:
        with work.plane.db.read() as tx:
            images.get(tx, server.image_id)  # without its image a server would come back with a blank disk
    work.host = work.params.host
    work.plane.hosts.of(work.params.host).renew_disk(work.call("disk_renewed"), spec)


def _run(work: RebuildWork) -> on_hosts.Outcome:
    """A server that is to run is first given its devices, which a host may have lost."""
    params, records = work.params, on_hosts.vgpus_of(work, work.subject)
    made = on_hosts.ensure_vgpus(work, "domain_as_before", params.host, records)
    flavor = on_hosts.server_of(work).flavor
    return on_hosts.Outcome(on_hosts.ensure_domain(work, "domain_as_before", params.host, flavor, records, running=params.running), made)


def _runs(work: RebuildWork, tx: sa.Connection, outcome: on_hosts.Outcome) -> None:
    now = work.plane.clock.now()
    on_hosts.record_vgpus(tx, outcome.vgpus, VgpuState.ATTACHED)
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    vm_state = VmState.ACTIVE if work.params.running else VmState.STOPPED
    power = outcome.domain.power_state
    servers.update(tx, work.subject, now, vm_state=vm_state, task_state=None, power_state=power, launched_at=now, fault=None)


def _undone(work: RebuildWork, tx: sa.Connection, error: SagaError) -> None:
    now = work.plane.clock.now()
    servers.set_fault(tx, work.subject, on_hosts.fault_of(error, now), now)


KIND: Kind[ControlPlane, Params] = Kind(
    name="rebuild",
    params=Params,
    steps=(
        Effect("stopped", _stop, _stopped, _switch_off, _off),
        Effect("disk_renewed", _renew_disk),
        Effect("domain_as_before", _run, _runs),
    ),
    undone=_undone,
)
