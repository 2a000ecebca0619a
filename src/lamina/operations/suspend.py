"""Suspend and resume: memory goes to the host's disk and comes back, and the vGPUs stay the server's all the while.

Theory. A domain that has a VFIO device cannot be saved, so its vGPUs are taken from it first and given back when it goes on
(Nova: nova/virt/libvirt/driver.py, _detach_mediated_devices and _attach_mediated_devices). On the host they go on to exist, recorded,
paid for and nobody else's. Each of the two is the other's way back: a guest that lets no device go, or a save that fails, ends
in a resume, after which the domain runs as before. One that cannot be brought back either is ERROR; a hard reboot mends it.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa
import structlog

from lamina.model.errors import DeviceForeign, DeviceMissing, DeviceRefused, HypervisorError, InvalidState
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, PowerState, VgpuReport
from lamina.model.servers import Action, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Effect, Kind, SagaError, Work
from lamina.store import hosts, servers

log = structlog.get_logger()
_STEP = "suspended_or_not"


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    #: to suspend; else to go on
    suspend: bool


SuspendWork = Work[ControlPlane, Params]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """The domain's power state, whether that is what was wanted, and the vGPUs that were looked after on the way."""

    power_state: PowerState
    reached: bool = True
    vgpus: tuple[VgpuReport, ...] = ()


def suspend(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to suspend a server. Raises `NotFound`, `InvalidState`."""
    _begin(plane, caller, server_id, Action.SUSPEND)


def resume(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to let a suspended server go on. Raises `NotFound`, `InvalidState`."""
    _begin(plane, caller, server_id, Action.RESUME)


def _begin(plane: ControlPlane, caller: Caller, server_id: str, action: Action) -> None:
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(action)
        if server.host is None:
            raise InvalidState(f"Cannot '{action}' instance {server_id}: it has never been placed on a host")
        servers.update(tx, server_id, plane.clock.now(), task_state=rule.task)
        params = Params(server.host, action is Action.SUSPEND)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=action)
    plane.runner.wake(saga_id)


def _bring(work: SuspendWork, *, suspend: bool) -> Outcome:
    """A server that is to go on is first given its devices, which a host may have lost."""
    work.host = work.params.host
    compute = work.plane.hosts.of(work.params.host)
    if suspend:
        return Outcome(compute.suspend_domain(work.call(_STEP), work.subject).power_state)
    records = on_hosts.vgpus_of(work, work.subject)
    made = on_hosts.ensure_vgpus(work, _STEP, work.params.host, records)
    spec = on_hosts.domain_spec(work, on_hosts.server_of(work).flavor, records, running=True)
    return Outcome(compute.resume_domain(work.call(_STEP), spec).power_state, vgpus=made)


def _do(work: SuspendWork) -> Outcome:
    return _bring(work, suspend=work.params.suspend)


def _done(work: SuspendWork, tx: sa.Connection, outcome: Outcome) -> None:
    _record(work, tx, outcome, suspended=work.params.suspend)
    vm_state = VmState.SUSPENDED if work.params.suspend else VmState.ACTIVE
    servers.update(tx, work.subject, work.plane.clock.now(), vm_state=vm_state, task_state=None, fault=None)


def _record(work: SuspendWork, tx: sa.Connection, outcome: Outcome, *, suspended: bool) -> None:
    on_hosts.record_vgpus(tx, outcome.vgpus, VgpuState.PRESENT)
    state = VgpuState.PRESENT if suspended else VgpuState.ATTACHED
    hosts.set_vgpus_state(tx, work.subject, work.subject, state)
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=outcome.power_state)


def _undo(work: SuspendWork) -> Outcome:
    """Raises `HostUnreachable`, `StaleFence`."""
    try:
        return _bring(work, suspend=not work.params.suspend)
    except (HypervisorError, DeviceMissing, DeviceRefused, DeviceForeign) as error:
        log.info("domain left as it is", host=work.params.host, server=work.subject, why=error.message)
        domains: tuple[DomainReport, ...] = work.plane.hosts.of(work.params.host).report().domains
        seen = next((d.power_state for d in domains if d.server_id == work.subject), PowerState.SHUTDOWN)
        return Outcome(seen, reached=False)


def _undone_on_host(work: SuspendWork, tx: sa.Connection, outcome: Outcome) -> None:
    _record(work, tx, outcome, suspended=outcome.power_state.is_off)
    if not outcome.reached:
        servers.update(tx, work.subject, work.plane.clock.now(), vm_state=VmState.ERROR)


def _undone(work: SuspendWork, tx: sa.Connection, error: SagaError) -> None:
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, task_state=None, fault=on_hosts.fault_of(error, now))


KIND: Kind[ControlPlane, Params] = Kind(
    name="suspend",
    params=Params,
    steps=(Effect(_STEP, _do, _done, _undo, _undone_on_host),),
    undone=_undone,
)
