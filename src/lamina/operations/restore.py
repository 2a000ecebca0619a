"""Restore: a server of a host that came back gets its vGPUs and its power state again.

Theory. The records are the truth: the same uuids, the same types, on the same parents where those are free. Both sides
of a resize that waits for its confirmation get theirs, each on its own host; only the server's own domain is started.
A paused server has lost its memory and begins anew; a suspended one has its memory on disk and stays suspended.
What cannot return is planned again, still paid for, and the server is in ERROR with a fault for a person to read; a
hard reboot tries anew.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, PowerAction, PowerState, VgpuReport
from lamina.model.servers import Action, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Effect, Kind, SagaError, Work
from lamina.store import hosts, servers
from lamina.store.tables.hosts import vgpus


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    """``running`` is whether the server's domain is to run; None where only what the source of a pending resize holds is missing."""

    host: str
    running: bool | None


RestoreWork = Work[ControlPlane, Params]


def enlist(plane: ControlPlane, tx: sa.Connection, caller: Caller, server_id: str, params: Params, *, interrupt: bool) -> str:
    """Write the saga into the caller's transaction. With `interrupt` an operation that holds the server is asked to turn back.

    Raises `AlreadyExists` while one holds it otherwise.
    """
    return plane.runner.enlist(tx, KIND, server_id, params, caller, action=Action.RESTORE, interrupt=interrupt)


def _records(work: RestoreWork) -> list[hosts.Vgpu]:
    with work.plane.db.read() as tx:
        return hosts.select_vgpus(tx, vgpus.c.server_id == work.subject, vgpus.c.host == work.params.host)


def _make_vgpus(work: RestoreWork) -> tuple[VgpuReport, ...]:
    return on_hosts.ensure_vgpus(work, "vgpus_present", work.params.host, _records(work))


def _vgpus_made(_work: RestoreWork, tx: sa.Connection, made: tuple[VgpuReport, ...]) -> None:
    on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)


def _look(work: RestoreWork) -> set[str]:
    """Nothing that stands is taken away: which of the vGPUs the host has."""
    return on_hosts.standing(work, work.params.host)


def _seen(work: RestoreWork, tx: sa.Connection, there: set[str]) -> None:
    for record in hosts.select_vgpus(tx, vgpus.c.server_id == work.subject, vgpus.c.host == work.params.host):
        state = VgpuState.PRESENT if record.uuid in there else VgpuState.PLANNED
        hosts.update_vgpu(tx, record.uuid, state=str(state))


def _run_domain(work: RestoreWork) -> DomainReport | None:
    if work.params.running is None:
        return None
    server = on_hosts.server_of(work)
    records = [r for r in _records(work) if r.consumer_id == work.subject]
    return on_hosts.ensure_domain(work, "domain_restored", work.params.host, server.flavor, records, running=work.params.running)


def _restored(work: RestoreWork, tx: sa.Connection, domain: DomainReport | None) -> None:
    if domain is None:
        return
    suspended = domain.power_state is PowerState.SUSPENDED
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.PRESENT if suspended else VgpuState.ATTACHED)
    server, now = servers.get(tx, work.subject), work.plane.clock.now()
    vm_state = server.vm_state
    if vm_state in (VmState.ERROR, VmState.PAUSED, VmState.SUSPENDED):
        shown = {PowerState.RUNNING: VmState.ACTIVE, PowerState.SUSPENDED: VmState.SUSPENDED}
        vm_state = shown.get(domain.power_state, VmState.STOPPED)
    servers.update(tx, work.subject, now, vm_state=vm_state, power_state=domain.power_state, fault=None)


def _stop_domain(work: RestoreWork) -> None:
    if work.params.running:
        on_hosts.power_if_possible(work, "domain_restored", work.params.host, PowerAction.OFF)


def _undone(work: RestoreWork, tx: sa.Connection, error: SagaError) -> None:
    """A server that waits for confirm or revert stays so, or what it holds could not be given back; a suspended one keeps its memory."""
    server, now = servers.get(tx, work.subject), work.plane.clock.now()
    fault = dataclasses.replace(on_hosts.fault_of(error, now), message=f"Host {work.params.host} came back without it: {error.message}")
    if work.params.running is None or server.vm_state is VmState.SUSPENDED:
        servers.update(tx, work.subject, now, fault=fault)
    else:
        vm_state = server.vm_state if server.vm_state is VmState.RESIZED else VmState.ERROR
        servers.update(tx, work.subject, now, vm_state=vm_state, power_state=PowerState.SHUTDOWN, fault=fault)


KIND: Kind[ControlPlane, Params] = Kind(
    name="restore",
    params=Params,
    steps=(
        Effect("vgpus_present", _make_vgpus, _vgpus_made, _look, _seen),
        Effect("domain_restored", _run_domain, _restored, _stop_domain),
    ),
    undone=_undone,
)
