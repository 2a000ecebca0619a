"""Confirm a resize or migration: the source goes, for good.

Theory. Every step removes something of the source, so there is no way back and no undo: a failure is retried and then
stuck, and the migration's allocation keeps paying for what may still be there until it is gone.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.hosts import PowerState
from lamina.model.servers import Action, MigrationStatus, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim
from lamina.store import servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    migration_id: str
    source: str
    target: str


ConfirmWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to confirm. Raises `NotFound`, `InvalidState`; `AlreadyExists` where a confirm or revert runs already."""
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        server.must_allow(Action.CONFIRM_RESIZE)
        migration = servers.finished_migration(tx, server_id)
        params = Params(migration.id, migration.source_host, migration.dest_host or migration.source_host)
        servers.update_migration(tx, migration.id, now, status=MigrationStatus.CONFIRMING)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=Action.CONFIRM_RESIZE)
    plane.runner.wake(saga_id)


def _remove_source(work: ConfirmWork) -> None:
    records = on_hosts.vgpus_of(work, work.params.migration_id)
    if work.params.source != work.params.target:
        on_hosts.remove_domain(work, "source_removed", work.params.source)
    on_hosts.release_vgpus(work, "source_removed", work.params.source, records)


def _confirm(work: ConfirmWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    claim.release(tx, work.params.migration_id, now=now)
    servers.update_migration(tx, work.params.migration_id, now, status=MigrationStatus.CONFIRMED)
    server = servers.get(tx, work.subject)
    rests = VmState.STOPPED if server.power_state is PowerState.SHUTDOWN else VmState.ACTIVE
    servers.update(tx, work.subject, now, vm_state=rests, task_state=None, fault=None)


def _undone(work: ConfirmWork, tx: sa.Connection, _error: SagaError) -> None:
    """Interrupted before it began: the migration waits for a word again."""
    servers.update_migration(tx, work.params.migration_id, work.plane.clock.now(), status=MigrationStatus.FINISHED)


KIND: Kind[ControlPlane, Params] = Kind(
    name="confirm",
    params=Params,
    steps=(
        Effect("source_removed", _remove_source, irrevocable=True),
        Change("confirmed", _confirm),
    ),
    undone=_undone,
)
