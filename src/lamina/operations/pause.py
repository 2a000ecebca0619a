"""Pause and unpause: the guest's processors stand still; its memory, its domain and its vGPUs stay as they are.

Theory. One call to the server's host, which may be repeated. Where it fails the opposite is asked for, so that the server is as it
was, and its fault tells why; one whose domain has ended meanwhile is ERROR.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.errors import InvalidState
from lamina.model.hosts import DomainReport, PowerAction, PowerState
from lamina.model.servers import Action, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Effect, Kind, SagaError, Work
from lamina.store import servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    #: to pause; else to go on
    pause: bool


PauseWork = Work[ControlPlane, Params]


def pause(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to pause a server. Raises `NotFound`, `InvalidState`."""
    _begin(plane, caller, server_id, Action.PAUSE)


def unpause(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to let a paused server go on. Raises `NotFound`, `InvalidState`."""
    _begin(plane, caller, server_id, Action.UNPAUSE)


def _begin(plane: ControlPlane, caller: Caller, server_id: str, action: Action) -> None:
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(action)
        if server.host is None:
            raise InvalidState(f"Cannot '{action}' instance {server_id}: it has never been placed on a host")
        servers.update(tx, server_id, plane.clock.now(), task_state=rule.task)
        params = Params(server.host, action is Action.PAUSE)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=action)
    plane.runner.wake(saga_id)


def _action(pause: bool) -> PowerAction:
    return PowerAction.PAUSE if pause else PowerAction.UNPAUSE


def _set(work: PauseWork) -> DomainReport:
    work.host = work.params.host
    return work.plane.hosts.of(work.params.host).set_power(work.call("paused_or_not"), work.subject, _action(work.params.pause))


def _is_set(work: PauseWork, tx: sa.Connection, domain: DomainReport) -> None:
    vm_state = VmState.PAUSED if work.params.pause else VmState.ACTIVE
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, vm_state=vm_state, task_state=None, power_state=domain.power_state, fault=None)


def _set_back(work: PauseWork) -> PowerState:
    return on_hosts.power_if_possible(work, "paused_or_not", work.params.host, _action(not work.params.pause))


def _is_back(work: PauseWork, tx: sa.Connection, seen: PowerState) -> None:
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, power_state=seen)
    if seen is not (PowerState.RUNNING if work.params.pause else PowerState.PAUSED):
        servers.update(tx, work.subject, now, vm_state=VmState.ERROR)


def _undone(work: PauseWork, tx: sa.Connection, error: SagaError) -> None:
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, task_state=None, fault=on_hosts.fault_of(error, now))


KIND: Kind[ControlPlane, Params] = Kind(
    name="pause",
    params=Params,
    steps=(Effect("paused_or_not", _set, _is_set, _set_back, _is_back),),
    undone=_undone,
)
