"""Clear what an evacuated server has left on a host that answers again: its domain, its disk, its vGPUs, and no more.

Theory. The server is elsewhere and is placed on this host no more until this is done, so whatever the host has of it is left
over, recorded or not: a host that was removed and has joined again is paid for nothing. Of what the host's journal does not
know as that server's nothing is touched. The first call raises the fence, so that no older call starts the domain again. The
migration stops paying when everything is gone. An attempt that fails has nothing to take back: the next report of the
host begins another one.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model.servers import Action, Migration, MigrationStatus
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim
from lamina.store import servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    migration_id: str
    host: str


ClearWork = Work[ControlPlane, Params]


def enlist(plane: ControlPlane, tx: sa.Connection, caller: Caller, migration: Migration) -> str:
    """Write the saga into the caller's transaction. Raises `AlreadyExists` while another operation holds the server."""
    params = Params(migration.id, migration.source_host)
    return plane.runner.enlist(tx, KIND, migration.server_id, params, caller, action=Action.CLEAR_EVACUATED)


def remove(work: on_hosts.AnyWork, step: str, host: str, migration_id: str) -> None:
    """Make the host have nothing of what the saga's server left there. Raises `HostError`."""
    on_hosts.remove_domain(work, step, host)
    compute = work.plane.hosts.of(host)
    left = {v.uuid for gpu in compute.report().gpus for v in gpu.vgpus if v.ours and v.server_id == work.subject}
    left |= {record.uuid for record in on_hosts.vgpus_of(work, migration_id)}
    compute.release_vgpus(work.call(step), work.subject, sorted(left))


def forget(tx: sa.Connection, migration_id: str, now: float) -> None:
    """Nothing is left, and nothing is paid for any more."""
    claim.release(tx, migration_id, now=now)
    servers.update_migration(tx, migration_id, now, status=MigrationStatus.COMPLETED)


def _remove(work: ClearWork) -> None:
    remove(work, "leftovers_removed", work.params.host, work.params.migration_id)


def _forget(work: ClearWork, tx: sa.Connection) -> None:
    forget(tx, work.params.migration_id, work.plane.clock.now())


def _undone(_work: ClearWork, _tx: sa.Connection, _error: SagaError) -> None:
    """The server has no part in it, wherever it is; the migration goes on paying."""


KIND: Kind[ControlPlane, Params] = Kind(
    name="clear_evacuated",
    params=Params,
    steps=(
        Effect("leftovers_removed", _remove),
        Change("forgotten", _forget),
    ),
    undone=_undone,
)
