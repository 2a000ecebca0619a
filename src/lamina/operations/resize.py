"""Resize and cold migration: from a server at rest to VERIFY_RESIZE, holding both sides.

Theory. The claim moves what the server holds to the migration's consumer and takes the target for the server, in one
commit; so both sides are paid for until confirm or revert, on one host as on two. The target's vGPUs are made while the
source still runs; then the source is shut off, its disk is carried to another host by way of the control plane's depot,
and last the target's domain is started. The source's domain stays
defined and keeps its vGPUs. On one host the domain is one and the same, defined anew for the target. A failure
anywhere turns the way back and starts the source again. Waiting for the person is a state of the server's row.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model import ids, limits
from lamina.model.errors import BadRequest
from lamina.model.flavors import Flavor
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DiskContent, DomainReport, PowerAction, VgpuReport
from lamina.model.servers import Action, MigrationStatus, TaskState, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim, groups
from lamina.scheduling.filters import Wanted
from lamina.store import aggregates, allocations, hosts, ports, quotas, servers
from lamina.store.tables.hosts import vgpus


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    """``migration_id`` is drawn with the request, so that every retry of the claim means the same migration."""

    migration_id: str
    type: str
    flavor: Flavor
    old_flavor: Flavor
    source: str
    old_vm_state: VmState
    #: the one host an administrator named
    host: str | None = None
    #: False for a migration, which must leave its host
    may_stay: bool = True


ResizeWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str, flavor: Flavor, *, host: str | None = None) -> None:
    """Begin to resize. Raises `NotFound`, `InvalidState`, `BadRequest`, `OverLimit`."""
    _ = flavor.request
    _begin(plane, caller, server_id, Action.RESIZE, flavor, host)


def request_migration(plane: ControlPlane, caller: Caller, server_id: str, *, host: str | None = None) -> None:
    """Begin a cold migration, to `host` if one is named. Raises `NotFound`, `InvalidState`, `BadRequest`."""
    _begin(plane, caller, server_id, Action.MIGRATE, None, host)


def _begin(plane: ControlPlane, caller: Caller, server_id: str, action: Action, flavor: Flavor | None, host: str | None) -> None:
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        server.must_allow(action)
        if flavor is not None and flavor.id == server.flavor.id and flavor == server.flavor:
            raise BadRequest("When resizing, instances must change flavor!")
        if host is not None and flavor is None and host == server.host:
            raise BadRequest(f"Cannot migrate to the host {host} where the server is already.")
        if flavor is not None:  # both sides are held for a time, and count
            quotas.must_allow(tx, quotas.Owner(server.project_id, server.user_id), asked=limits.asked_by(flavor.request))
        params = Params(
            migration_id=ids.new_uuid(),
            type="resize" if flavor is not None else "migration",
            flavor=flavor or server.flavor,
            old_flavor=server.flavor,
            source=server.host or "",
            old_vm_state=server.vm_state,
            host=host,
            may_stay=flavor is not None,
        )
        servers.update(tx, server_id, now, task_state=TaskState.RESIZE_PREP)
        servers.insert_migration(
            tx,
            id=params.migration_id,
            server_id=server_id,
            type=params.type,
            status=MigrationStatus.PRE_MIGRATING,
            source_host=params.source,
            dest_host=None,
            old_flavor=server.flavor,
            new_flavor=params.flavor,
            old_vm_state=server.vm_state,
            project_id=server.project_id,
            user_id=caller.user_id,
            created_at=now,
            updated_at=now,
        )
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=action)
    plane.runner.wake(saga_id)


def _claim(work: ResizeWork, tx: sa.Connection) -> claim.Claimed:
    params, now = work.params, work.plane.clock.now()
    server, company = servers.get(tx, work.subject), groups.company(tx, work.subject)
    allocations.move(tx, work.subject, params.migration_id, consumer_type="MIGRATION", now=now)
    tx.execute(sa.update(vgpus).where(vgpus.c.consumer_id == work.subject).values(consumer_id=params.migration_id))
    claimed = claim.claim(
        tx,
        work.plane.index,
        Wanted(
            request=params.flavor.request,
            zone=server.pinned_zone,
            host=params.host,
            excluded=servers.left_behind(tx, work.subject) | (frozenset() if params.may_stay else frozenset({params.source})),
            last_resort=params.source,
            networks=ports.networks_of(tx, work.subject),
            aggregates=aggregates.serving(tx, params.flavor.extra_specs),
            company=company,
        ),
        claim.Payer(work.subject, "INSTANCE", work.subject, server.project_id, server.user_id, work.id),
        params.flavor.policy or work.plane.settings.policy,
        now=now,
        service_down=work.plane.settings.service_down,
        moving=not params.may_stay,
    )
    work.host = claimed.host
    servers.update_migration(tx, params.migration_id, now, status=MigrationStatus.MIGRATING, dest_host=claimed.host)
    servers.update(tx, work.subject, now, task_state=TaskState.RESIZE_MIGRATING)
    return claimed


def _give_back(work: ResizeWork, tx: sa.Connection) -> None:
    if work.finished(CLAIMED):
        give_target_back(tx, work.subject, work.params.migration_id, now=work.plane.clock.now())


def give_target_back(tx: sa.Connection, server_id: str, migration_id: str, *, now: float) -> None:
    """Release what the server holds, and let it have again what its migration holds."""
    claim.release(tx, server_id, now=now)
    allocations.move(tx, migration_id, server_id, consumer_type="INSTANCE", now=now)
    tx.execute(sa.update(vgpus).where(vgpus.c.consumer_id == migration_id).values(consumer_id=server_id))


def _make_vgpus(work: ResizeWork) -> tuple[VgpuReport, ...]:
    return on_hosts.ensure_vgpus(work, "target_vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _vgpus_made(_work: ResizeWork, tx: sa.Connection, made: tuple[VgpuReport, ...]) -> None:
    on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)


def _remove_vgpus(work: ResizeWork) -> None:
    on_hosts.release_vgpus(work, "target_vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _stop_source(work: ResizeWork) -> DomainReport:
    work.host = work.params.source
    return work.plane.hosts.of(work.params.source).set_power(work.call("source_stopped"), work.subject, PowerAction.OFF)


def _source_stopped(work: ResizeWork, tx: sa.Connection, domain: DomainReport) -> None:
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, task_state=TaskState.RESIZE_FINISH, power_state=domain.power_state)
    servers.update_migration(tx, work.params.migration_id, now, status=MigrationStatus.POST_MIGRATING)


def _start_source(work: ResizeWork) -> on_hosts.Outcome:
    """The source's domain as it was: on one host the target may have replaced its definition."""
    params = work.params
    running = params.old_vm_state is VmState.ACTIVE
    return on_hosts.bring_back(work, "source_stopped", params.source, params.old_flavor, params.migration_id, running=running)


def _source_started(work: ResizeWork, tx: sa.Connection, back: on_hosts.Outcome) -> None:
    on_hosts.record_vgpus(tx, back.vgpus, VgpuState.ATTACHED)
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=back.domain.power_state)


def _move_disk(work: ResizeWork) -> DiskContent | None:
    """The depot is a place of passage: what an interrupted move has left there, its repetition writes over and takes away."""
    source, target, reach = work.params.source, work.output(CLAIMED).host, work.plane.hosts.of
    if source == target:
        return None
    work.host = source
    content = reach(source).send_disk(work.call("disk_moved"), work.subject)
    if content is None:
        return None
    work.host = target
    reach(target).take_disk(work.call("disk_moved"), work.subject, content)
    (work.plane.settings.depot / work.subject).unlink(missing_ok=True)
    return content


def _disk_moved(_work: ResizeWork, _tx: sa.Connection, _content: DiskContent | None) -> None:
    """Nothing is recorded of disks: each host has those of its own."""


def _remove_disk(work: ResizeWork) -> None:
    """What is taken away is the target's, whatever of it there is."""
    target = work.output(CLAIMED).host
    (work.plane.settings.depot / work.subject).unlink(missing_ok=True)
    if target != work.params.source:
        on_hosts.remove_domain(work, "disk_moved", target)


def _run_target(work: ResizeWork) -> DomainReport:
    records = on_hosts.vgpus_of(work, work.subject)
    running = work.params.old_vm_state is VmState.ACTIVE
    return on_hosts.ensure_domain(work, "target_running", work.output(CLAIMED).host, work.params.flavor, records, running=running)


def _target_running(work: ResizeWork, tx: sa.Connection, domain: DomainReport) -> None:
    params, now, claimed = work.params, work.plane.clock.now(), work.output(CLAIMED)
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    hosts.set_vgpus_state(tx, work.subject, params.migration_id, VgpuState.PRESENT)
    servers.update_migration(tx, params.migration_id, now, status=MigrationStatus.FINISHED)
    servers.update(
        tx,
        work.subject,
        now,
        vm_state=VmState.RESIZED,
        task_state=None,
        power_state=domain.power_state,
        host=claimed.host,
        zone=claimed.zone,
        flavor=params.flavor,
        launched_at=now,
    )


def _remove_target(work: ResizeWork) -> None:
    """On one host the domain goes back to the source's definition, shut off, so that the target's vGPUs come free."""
    target = work.output(CLAIMED).host
    if target != work.params.source:
        on_hosts.remove_domain(work, "target_running", target)
    else:
        records = on_hosts.vgpus_of(work, work.params.migration_id)
        on_hosts.ensure_domain(work, "target_running", target, work.params.old_flavor, records, running=False)


def _undone(work: ResizeWork, tx: sa.Connection, error: SagaError) -> None:
    """The server is where it was and as it was; why it is, its fault and the migration tell."""
    now = work.plane.clock.now()
    servers.update_migration(tx, work.params.migration_id, now, status=MigrationStatus.ERROR)
    fault = on_hosts.fault_of(error, now)
    servers.update(tx, work.subject, now, vm_state=work.params.old_vm_state, task_state=None, fault=fault)


CLAIMED: Change[ControlPlane, Params, claim.Claimed] = Change("claimed", _claim, _give_back, claim.Claimed)
KIND: Kind[ControlPlane, Params] = Kind(
    name="resize",
    params=Params,
    steps=(
        CLAIMED,
        Effect("target_vgpus_present", _make_vgpus, _vgpus_made, _remove_vgpus),
        Effect("source_stopped", _stop_source, _source_stopped, _start_source, _source_started),
        Effect("disk_moved", _move_disk, _disk_moved, _remove_disk),
        Effect("target_running", _run_target, _target_running, _remove_target),
    ),
    undone=_undone,
)
