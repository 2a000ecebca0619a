"""Revert a resize or migration: the target goes, and the server is what it was.

Theory. The first step takes the target's domain away and cannot be taken back, so the saga only goes forward. The
source's domain starts before the target's vGPUs go: on one host it is the domain that held them. The allocations change
hands last, because until then both sides may still hold devices.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.flavors import Flavor
from lamina.model.gpus import VgpuState
from lamina.model.hosts import PowerAction
from lamina.model.servers import Action, MigrationStatus, TaskState, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.operations.resize import give_target_back
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.store import hosts, servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    migration_id: str
    source: str
    target: str
    old_flavor: Flavor
    old_vm_state: VmState


RevertWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to revert. Raises `NotFound`, `InvalidState`; `AlreadyExists` where a confirm or revert runs already."""
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        server.must_allow(Action.REVERT_RESIZE)
        migration = servers.finished_migration(tx, server_id)
        params = Params(
            migration.id,
            migration.source_host,
            migration.dest_host or migration.source_host,
            migration.old_flavor,
            migration.old_vm_state,
        )
        servers.update_migration(tx, migration.id, now, status=MigrationStatus.REVERTING)
        servers.update(tx, server_id, now, task_state=TaskState.RESIZE_REVERTING)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=Action.REVERT_RESIZE)
    plane.runner.wake(saga_id)


def _stop_target(work: RevertWork) -> None:
    target = work.params.target
    if target != work.params.source:
        on_hosts.remove_domain(work, "target_stopped", target)
    else:
        work.host = target
        work.plane.hosts.of(target).set_power(work.call("target_stopped"), work.subject, PowerAction.OFF)


def _run_source(work: RevertWork) -> on_hosts.Outcome:
    params = work.params
    running = params.old_vm_state is VmState.ACTIVE
    return on_hosts.bring_back(work, "source_running", params.source, params.old_flavor, params.migration_id, running=running)


def _source_running(work: RevertWork, tx: sa.Connection, back: on_hosts.Outcome) -> None:
    on_hosts.record_vgpus(tx, back.vgpus, VgpuState.ATTACHED)
    hosts.set_vgpus_state(tx, work.subject, work.params.migration_id, VgpuState.ATTACHED)
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.PRESENT)
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=back.domain.power_state)


def _remove_vgpus(work: RevertWork) -> None:
    on_hosts.release_vgpus(work, "target_vgpus_removed", work.params.target, on_hosts.vgpus_of(work, work.subject))


def _revert(work: RevertWork, tx: sa.Connection) -> None:
    params, now = work.params, work.plane.clock.now()
    give_target_back(tx, work.subject, params.migration_id, now=now)
    servers.update_migration(tx, params.migration_id, now, status=MigrationStatus.REVERTED)
    host = hosts.find_host(tx, params.source)
    servers.update(
        tx,
        work.subject,
        now,
        vm_state=params.old_vm_state,
        task_state=None,
        host=params.source,
        zone=host.zone if host else None,
        flavor=params.old_flavor,
        fault=None,
    )


def _undone(work: RevertWork, tx: sa.Connection, _error: SagaError) -> None:
    """Interrupted before it began: the migration waits for a word again."""
    now = work.plane.clock.now()
    servers.update_migration(tx, work.params.migration_id, now, status=MigrationStatus.FINISHED)
    servers.update(tx, work.subject, now, task_state=None)


KIND: Kind[ControlPlane, Params] = Kind(
    name="revert",
    params=Params,
    steps=(
        Effect("target_stopped", _stop_target, irrevocable=True),
        Effect("source_running", _run_source, _source_running),
        Effect("target_vgpus_removed", _remove_vgpus),
        Change("reverted", _revert),
    ),
    undone=_undone,
)
