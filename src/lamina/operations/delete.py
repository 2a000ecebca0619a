"""Delete: whatever state a server is in, nothing of it is left on any host, in any allocation.

Theory. A deletion is accepted at once and asks a running operation to turn back; it begins when that one has come to
rest, so that no two operations ever work on one server. It looks up anew where the server may have left something: its
host, both ends of a migration, every host with a vGPU of its. A host that the server was evacuated from is not waited for:
what it left there goes on being paid for until that host answers again (`lamina.operations.clear_evacuated`). Removing a
domain cannot be taken back, so from there on the saga only goes forward; the records go last, because they are what
leads back to the devices.
"""

from __future__ import annotations

import contextlib
import dataclasses

import sqlalchemy as sa

from lamina.model.errors import HostUnreachable
from lamina.model.hosts import PowerState
from lamina.model.servers import Action, MigrationStatus, TaskState, VmState
from lamina.operations import clear_evacuated, disk_images
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.log import State
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim
from lamina.store import hosts, images, ports, queue, sagas, servers
from lamina.store.tables.hosts import vgpus


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    pass


DeleteWork = Work[ControlPlane, Params]

#: migrations in these states no longer hold anything, or only on a host that is seen to by itself


def request(plane: ControlPlane, caller: Caller, server_id: str) -> None:
    """Begin to delete a server; one that runs already is enough, one that is stuck is begun anew. Raises `NotFound`."""
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        server.must_allow(Action.DELETE)
        if _under_way(tx, server_id):
            return
        queue.leave(tx, server_id)
        servers.update(tx, server_id, plane.clock.now(), task_state=TaskState.DELETING)
        saga_id = plane.runner.enlist(tx, KIND, server_id, Params(), caller, action=Action.DELETE, interrupt=True)
    plane.runner.wake(saga_id)


def _under_way(tx: sa.Connection, server_id: str) -> bool:
    holder, waiting = sagas.holder(tx, server_id), sagas.waiting(tx, server_id)
    return any(s is not None and s.kind == KIND.name and s.state != State.STUCK for s in (holder, waiting))


def _places(work: DeleteWork) -> list[str]:
    """Every host where something of the server may be, but those that it was evacuated from."""
    with work.plane.db.read() as tx:
        server = servers.get(tx, work.subject, deleted=True)
        places = {v.host for v in hosts.vgpus_of_server(tx, work.subject)} - servers.left_behind(tx, work.subject)
        for migration in servers.unfinished_migrations(tx, work.subject):
            places |= {migration.source_host} | ({migration.dest_host} if migration.dest_host else set())
    return sorted(places | ({server.host} if server.host else set()))


def _clear_hosts(work: DeleteWork) -> list[str]:
    """The ids of those of its evacuations whose source has nothing of the server any more."""
    for host in _places(work):
        with work.plane.db.read() as tx:
            records = hosts.select_vgpus(tx, vgpus.c.server_id == work.subject, vgpus.c.host == host)
        on_hosts.remove_domain(work, "removed_from_hosts", host)
        on_hosts.release_vgpus(work, "removed_from_hosts", host, records)
    with work.plane.db.read() as tx:
        left = servers.evacuations(tx, of_server=work.subject)
    cleared = []
    for evacuation in left:
        with contextlib.suppress(HostUnreachable):
            clear_evacuated.remove(work, "removed_from_hosts", evacuation.source_host, evacuation.id)
            cleared.append(evacuation.id)
    return cleared


def _cleared(work: DeleteWork, tx: sa.Connection, cleared: list[str]) -> None:
    for migration_id in cleared:
        clear_evacuated.forget(tx, migration_id, work.plane.clock.now())


def _forget(work: DeleteWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    claim.release(tx, work.subject, now=now)
    ports.delete(tx, work.subject)
    kept = servers.get(tx, work.subject).shelved_image_id
    # an operation that was given up leaves behind the image that it had announced
    for image_id in (*images.half_made(tx, work.subject), *(() if kept is None else (kept,))):
        disk_images.forget(work, tx, image_id)
    for migration in servers.unfinished_migrations(tx, work.subject):
        claim.release(tx, migration.id, now=now)
        servers.update_migration(tx, migration.id, now, status=MigrationStatus.ERROR)
    servers.update(
        tx,
        work.subject,
        now,
        vm_state=VmState.DELETED,
        task_state=None,
        power_state=PowerState.NOSTATE,
        terminated_at=now,
        deleted_at=now,
    )


def _undone(work: DeleteWork, tx: sa.Connection, error: SagaError) -> None:
    """Unreachable but for a defect before the first step: the server says so."""
    servers.set_fault(tx, work.subject, on_hosts.fault_of(error, work.plane.clock.now()), work.plane.clock.now())


KIND: Kind[ControlPlane, Params] = Kind(
    name="delete",
    params=Params,
    steps=(
        Effect("removed_from_hosts", _clear_hosts, _cleared, irrevocable=True),
        Change("forgotten", _forget),
    ),
    undone=_undone,
)
