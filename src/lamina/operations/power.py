"""Start, stop and reboot: one call to the server's host.

Theory. The wanted power state is the whole of it, so the step may be repeated freely. Where it fails, the server goes
back to the power state it had, and its fault tells why; one that can't run any more, having lost its devices, is ERROR.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.errors import InvalidState
from lamina.model.gpus import VgpuState
from lamina.model.hosts import PowerAction, PowerState, VgpuReport
from lamina.model.servers import Action, TaskState, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Effect, Kind, SagaError, Work
from lamina.store import servers

_ACTIONS: dict[PowerAction, tuple[Action, TaskState]] = {
    PowerAction.ON: (Action.START, TaskState.POWERING_ON),
    PowerAction.OFF: (Action.STOP, TaskState.POWERING_OFF),
    PowerAction.SOFT_REBOOT: (Action.REBOOT, TaskState.REBOOTING),
    PowerAction.HARD_REBOOT: (Action.REBOOT, TaskState.REBOOTING_HARD),
}

#: how to come back to a state; memory that was kept may be gone by then, so a suspended server does not come back
_WAY_BACK = {VmState.ACTIVE: PowerAction.ON, VmState.PAUSED: PowerAction.PAUSE}
#: what a server's power state must be for it to be in such a state
_SHOWS = {VmState.ACTIVE: PowerState.RUNNING, VmState.PAUSED: PowerState.PAUSED, VmState.SUSPENDED: PowerState.SUSPENDED}


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    action: PowerAction
    host: str
    old_vm_state: VmState


PowerWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str, wanted: PowerAction) -> None:
    """Begin to change a server's power state. Raises `NotFound`, `InvalidState`."""
    action, task_state = _ACTIONS[wanted]
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        server.must_allow(action)
        if wanted is PowerAction.SOFT_REBOOT and server.vm_state is not VmState.ACTIVE:
            raise InvalidState(f"Cannot 'reboot' instance {server_id} while it is in vm_state {server.vm_state}")
        if server.host is None:
            raise InvalidState(f"Cannot '{action}' instance {server_id}: it has never been placed on a host")
        params = Params(wanted, server.host, server.vm_state)
        servers.update(tx, server_id, plane.clock.now(), task_state=task_state)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=action)
    plane.runner.wake(saga_id)


def _set_power(work: PowerWork) -> on_hosts.Outcome:
    """A server that is to run is first given its devices, which a host may have lost."""
    params = work.params
    made: tuple[VgpuReport, ...] = ()
    if params.action in (PowerAction.ON, PowerAction.HARD_REBOOT):
        flavor = on_hosts.server_of(work).flavor
        back = on_hosts.bring_back(work, "power_set", params.host, flavor, work.subject, running=True)
        if params.action is PowerAction.ON:
            return back
        made = back.vgpus
    work.host = params.host
    return on_hosts.Outcome(work.plane.hosts.of(params.host).set_power(work.call("power_set"), work.subject, params.action), made)


def _power_set(work: PowerWork, tx: sa.Connection, outcome: on_hosts.Outcome) -> None:
    domain = outcome.domain
    on_hosts.record_vgpus(tx, outcome.vgpus, VgpuState.ATTACHED)
    vm_state = VmState.STOPPED if domain.power_state is PowerState.SHUTDOWN else VmState.ACTIVE
    servers.update(
        tx, work.subject, work.plane.clock.now(), vm_state=vm_state, task_state=None, power_state=domain.power_state, fault=None
    )


def _restore_power(work: PowerWork) -> PowerState:
    action = _WAY_BACK.get(work.params.old_vm_state, PowerAction.OFF)
    return on_hosts.power_if_possible(work, "power_set", work.params.host, action)


def _power_restored(work: PowerWork, tx: sa.Connection, seen: PowerState) -> None:
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=seen)


def _undone(work: PowerWork, tx: sa.Connection, error: SagaError) -> None:
    now = work.plane.clock.now()
    seen = servers.get(tx, work.subject).power_state
    lost = seen is not _SHOWS.get(work.params.old_vm_state, seen)
    vm_state = VmState.ERROR if lost else work.params.old_vm_state
    servers.update(tx, work.subject, now, vm_state=vm_state, task_state=None, fault=on_hosts.fault_of(error, now))


KIND: Kind[ControlPlane, Params] = Kind(
    name="power",
    params=Params,
    steps=(Effect("power_set", _set_power, _power_set, _restore_power, _power_restored),),
    undone=_undone,
)
