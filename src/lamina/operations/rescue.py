"""Rescue and unrescue: a server booted from another image, with its own disk beside it, and back.

Theory. What is recorded of the server says what it boots from, so a hard reboot and a host's return know too. One call makes the
domain the other one, which may be repeated; where it fails the same call makes it what it was. The vGPUs stay its own and are in
its hands throughout, as in Nova since Rocky.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.errors import InvalidState
from lamina.model.gpus import VgpuState
from lamina.model.hosts import PowerAction, PowerState
from lamina.model.servers import Action, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Effect, Kind, SagaError, Work
from lamina.store import hosts, servers

_STEP = "booted"


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    #: what it is to boot from; None for its own disk
    image_id: str | None
    #: what it boots from now, and whether it is to run where that cannot be changed
    before: str | None
    running: bool


RescueWork = Work[ControlPlane, Params]


def rescue(plane: ControlPlane, caller: Caller, server_id: str, image_id: str) -> None:
    """Begin to rescue a server with an image. Raises `NotFound`, `InvalidState`."""
    _begin(plane, caller, server_id, Action.RESCUE, image_id)


def unrescue(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to have a rescued server boot from its own disk again. Raises `NotFound`, `InvalidState`."""
    _begin(plane, caller, server_id, Action.UNRESCUE, None)


def _begin(plane: ControlPlane, caller: Caller, server_id: str, action: Action, image_id: str | None) -> None:
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(action)
        if server.host is None:
            raise InvalidState(f"Cannot '{action}' instance {server_id}: it has never been placed on a host")
        servers.update(tx, server_id, plane.clock.now(), task_state=rule.task, rescue_image_id=image_id)
        running = server.vm_state is not VmState.STOPPED
        params = Params(server.host, image_id, server.rescue_image_id, running)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=action)
    plane.runner.wake(saga_id)


def _boot(work: RescueWork) -> on_hosts.Outcome:
    """The guest is let shut down first: what its disk lacks is lost with another boot."""
    host = work.params.host
    on_hosts.power_if_possible(work, _STEP, host, PowerAction.OFF)
    return on_hosts.bring_back(work, _STEP, host, on_hosts.server_of(work).flavor, work.subject, running=True)


def _booted(work: RescueWork, tx: sa.Connection, outcome: on_hosts.Outcome) -> None:
    now = work.plane.clock.now()
    _record(work, tx, outcome)
    vm_state = VmState.RESCUED if work.params.image_id is not None else VmState.ACTIVE
    servers.update(tx, work.subject, now, vm_state=vm_state, task_state=None, launched_at=now, fault=None)


def _record(work: RescueWork, tx: sa.Connection, outcome: on_hosts.Outcome) -> None:
    on_hosts.record_vgpus(tx, outcome.vgpus, VgpuState.ATTACHED)
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=outcome.domain.power_state)


def _boot_as_before(work: RescueWork) -> on_hosts.Outcome:
    params = work.params
    with work.plane.db.write() as tx:
        servers.update(tx, work.subject, work.plane.clock.now(), rescue_image_id=params.before)
    flavor = on_hosts.server_of(work).flavor
    return on_hosts.bring_back(work, _STEP, params.host, flavor, work.subject, running=params.running)


def _undone(work: RescueWork, tx: sa.Connection, error: SagaError) -> None:
    """As it was; one that was in ERROR and runs now is not any more."""
    now, server = work.plane.clock.now(), servers.get(tx, work.subject)
    servers.update(tx, work.subject, now, rescue_image_id=work.params.before, task_state=None, fault=on_hosts.fault_of(error, now))
    if server.vm_state is VmState.ERROR and server.power_state is PowerState.RUNNING:
        servers.update(tx, work.subject, now, vm_state=VmState.ACTIVE)


KIND: Kind[ControlPlane, Params] = Kind(
    name="rescue",
    params=Params,
    steps=(Effect(_STEP, _boot, _booted, _boot_as_before, _record),),
    undone=_undone,
)
