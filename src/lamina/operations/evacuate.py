"""Evacuate: a server whose host is down is built anew on another host, from its image, with new vGPUs and its own ports.

Theory. That a host is silent does not mean that it is off, and nothing here can switch it off; whoever evacuates has seen to
that (Nova: "Evacuate instances"). Lamina does what it can not to run a server twice. The host has to be down when asked for
it and when the target is claimed. Once everything on the target is made and only the start is left, the source is asked: one
that answers, though nobody has called it down, has come back and keeps its server; one that an operator has called down has
the domain switched off. Either refuses from then on, by the fence of the question, whatever older call is still on its way.

A host that dies leaves operations that are stuck for its silence; what they were to do to a server in its place is given up
for the evacuation, as nobody waits for it any more. What the server leaves on its source is paid for by the migration until
the host answers again and `clear_evacuated` has removed it there; until then the server is placed on that host no more. A
failure leaves the server where and as it was.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import BadRequest, Conflict, HostUnreachable, InvalidState, NotFound, NoValidHost
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, PowerAction, VgpuReport
from lamina.model.servers import EVACUATION, Action, MigrationStatus, Server, TaskState, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.operations.resize import give_target_back
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim, groups
from lamina.scheduling.filters import Wanted
from lamina.store import aggregates, allocations, hosts, images, ports, sagas, servers
from lamina.store.tables.hosts import vgpus

#: operations that neither claim anything nor give anything back
_IN_PLACE = frozenset({"pause", "power", "rebuild", "restore", "suspend"})


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    """``migration_id`` is drawn with the request, so that every retry of the claim means the same migration."""

    migration_id: str
    source: str
    old_vm_state: VmState
    #: whether the server is to run once it has arrived
    running: bool
    #: the one host an administrator named
    host: str | None = None


EvacuateWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str, *, host: str | None = None, stopped: bool = False) -> None:
    """Begin to evacuate, to `host` if one is named; the server runs afterwards if it did, unless it is to arrive `stopped`.

    Raises `NotFound`, `InvalidState`, `BadRequest` where the server's host is up, `Conflict` where its image is gone.
    """
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        holder = sagas.holder(tx, server_id)
        in_vain = holder is not None and holder.kind in _IN_PLACE and server.host is not None and holder.waits_for(server.host)
        rule = (dataclasses.replace(server, task_state=None) if in_vain else server).must_allow(Action.EVACUATE)
        if server.host is None:
            raise InvalidState(f"Cannot '{rule.action}' instance {server_id}: it has never been placed on a host")
        if host == server.host:
            raise BadRequest("The target host can't be the same one.")
        if not _is_down(tx, plane, server.host):
            raise BadRequest(f"Compute service of {server.host} is still in use.")
        _must_have_its_image(tx, server)
        params = Params(
            migration_id=ids.new_uuid(),
            source=server.host,
            old_vm_state=server.vm_state,
            running=server.vm_state is not VmState.STOPPED and not stopped,
            host=host,
        )
        servers.update(tx, server_id, now, task_state=rule.task)
        servers.insert_migration(
            tx,
            id=params.migration_id,
            server_id=server_id,
            type=EVACUATION,
            status=MigrationStatus.ACCEPTED,
            source_host=params.source,
            dest_host=None,
            old_flavor=server.flavor,
            new_flavor=server.flavor,
            old_vm_state=server.vm_state,
            project_id=server.project_id,
            user_id=caller.user_id,
            created_at=now,
            updated_at=now,
        )
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=rule.action, interrupt=in_vain)
    plane.runner.wake(saga_id)


def _is_down(tx: sa.Connection, plane: ControlPlane, host: str) -> bool:
    known = hosts.find_host(tx, host)
    return known is None or not known.is_up(plane.clock.now(), plane.settings.service_down)


def _must_have_its_image(tx: sa.Connection, server: Server) -> None:
    """Without it the server would come back with a blank disk."""
    if server.image_id is None:
        return
    try:
        images.get(tx, server.image_id)
    except NotFound as gone:
        raise Conflict(f"The image {server.image_id} of instance {server.id} is gone; its disk cannot be made anew.") from gone


def _claim(work: EvacuateWork, tx: sa.Connection) -> claim.Claimed:
    params, plane, now = work.params, work.plane, work.plane.clock.now()
    if not _is_down(tx, plane, params.source):
        raise Conflict(f"Host {params.source} has come back: the server stays there.")
    server, company = servers.get(tx, work.subject), groups.company(tx, work.subject)
    allocations.move(tx, work.subject, params.migration_id, consumer_type="MIGRATION", now=now)
    tx.execute(sa.update(vgpus).where(vgpus.c.consumer_id == work.subject).values(consumer_id=params.migration_id))
    claimed = claim.claim(
        tx,
        plane.index,
        Wanted(
            request=server.flavor.request,
            zone=server.pinned_zone,
            host=params.host,
            excluded=frozenset({params.source}) | servers.left_behind(tx, work.subject),
            networks=ports.networks_of(tx, work.subject),
            aggregates=aggregates.serving(tx, server.flavor.extra_specs),
            company=company,
        ),
        claim.Payer(work.subject, "INSTANCE", work.subject, server.project_id, server.user_id, work.id),
        server.flavor.policy or plane.settings.policy,
        now=now,
        service_down=plane.settings.service_down,
        moving=True,
    )
    work.host = claimed.host
    servers.update_migration(tx, params.migration_id, now, status=MigrationStatus.PRE_MIGRATING, dest_host=claimed.host)
    servers.update(tx, work.subject, now, task_state=TaskState.REBUILD_SPAWNING)
    return claimed


def _give_back(work: EvacuateWork, tx: sa.Connection) -> None:
    if work.finished(CLAIMED):
        give_target_back(tx, work.subject, work.params.migration_id, now=work.plane.clock.now())


def _make_vgpus(work: EvacuateWork) -> tuple[VgpuReport, ...]:
    return on_hosts.ensure_vgpus(work, "target_vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _vgpus_made(_work: EvacuateWork, tx: sa.Connection, made: tuple[VgpuReport, ...]) -> None:
    on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)


def _remove_vgpus(work: EvacuateWork) -> None:
    on_hosts.release_vgpus(work, "target_vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _define_target(work: EvacuateWork) -> None:
    """With its disk, which may have to wait for the image to be fetched."""
    server = on_hosts.server_of(work)
    with work.plane.db.read() as tx:
        _must_have_its_image(tx, server)
    records = on_hosts.vgpus_of(work, work.subject)
    on_hosts.ensure_domain(work, "target_defined", work.output(CLAIMED).host, server.flavor, records, running=False)


def _remove_defined(work: EvacuateWork) -> None:
    on_hosts.remove_domain(work, "target_defined", work.output(CLAIMED).host)


def _switch_source_off(work: EvacuateWork) -> bool:
    """Whether the source answered, and so has it off. Raises `Conflict` for one that has come back by itself, `HostError`."""
    source = work.params.source
    work.host = source
    with work.plane.db.read() as tx:
        known = hosts.find_host(tx, source)
    try:
        compute = work.plane.hosts.of(source)
        compute.release_vgpus(work.call(SOURCE_OFF), work.subject, ())  # none: what counts is the fence
        if known is not None and not known.forced_down:
            raise Conflict(f"Host {source} has come back: the server stays there.")
        if any(domain.server_id == work.subject for domain in compute.report().domains):
            compute.set_power(work.call(SOURCE_OFF), work.subject, PowerAction.OFF)
    except HostUnreachable:
        return False
    return True


def _bring_source_back(work: EvacuateWork) -> on_hosts.Outcome | None:
    """The source's domain as it was, if the host answers; one that is known to have been switched off waits for its host."""
    params = work.params
    if params.old_vm_state is VmState.ERROR:
        return None
    running = params.old_vm_state is VmState.ACTIVE
    flavor = on_hosts.server_of(work).flavor
    try:
        return on_hosts.bring_back(work, SOURCE_OFF, params.source, flavor, params.migration_id, running=running)
    except HostUnreachable:
        if work.outputs.get(SOURCE_OFF):
            raise
        return None


def _source_back(work: EvacuateWork, tx: sa.Connection, back: on_hosts.Outcome | None) -> None:
    if back is not None:
        on_hosts.record_vgpus(tx, back.vgpus, VgpuState.ATTACHED)
        servers.update(tx, work.subject, work.plane.clock.now(), power_state=back.domain.power_state)


def _run_target(work: EvacuateWork) -> DomainReport:
    records, flavor = on_hosts.vgpus_of(work, work.subject), on_hosts.server_of(work).flavor
    return on_hosts.ensure_domain(work, "target_running", work.output(CLAIMED).host, flavor, records, running=work.params.running)


def _target_running(work: EvacuateWork, tx: sa.Connection, domain: DomainReport) -> None:
    params, now, claimed = work.params, work.plane.clock.now(), work.output(CLAIMED)
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    servers.update_migration(tx, params.migration_id, now, status=MigrationStatus.DONE)
    servers.update(
        tx,
        work.subject,
        now,
        vm_state=VmState.ACTIVE if params.running else VmState.STOPPED,
        task_state=None,
        power_state=domain.power_state,
        host=claimed.host,
        zone=claimed.zone,
        launched_at=now,
        fault=None,
    )


def _remove_target(work: EvacuateWork) -> None:
    on_hosts.remove_domain(work, "target_running", work.output(CLAIMED).host)


def _undone(work: EvacuateWork, tx: sa.Connection, error: SagaError) -> None:
    """The server is where it was and as it was; why it is, its fault and the migration tell."""
    now = work.plane.clock.now()
    status = MigrationStatus.ERROR if error.code == NoValidHost.code else MigrationStatus.FAILED
    servers.update_migration(tx, work.params.migration_id, now, status=status)
    fault = on_hosts.fault_of(error, now)
    servers.update(tx, work.subject, now, vm_state=work.params.old_vm_state, task_state=None, fault=fault)


#: the step after which nothing is left to do on the source
SOURCE_OFF = "source_off"
CLAIMED: Change[ControlPlane, Params, claim.Claimed] = Change("claimed", _claim, _give_back, claim.Claimed)
KIND: Kind[ControlPlane, Params] = Kind(
    name="evacuate",
    params=Params,
    steps=(
        CLAIMED,
        Effect("target_vgpus_present", _make_vgpus, _vgpus_made, _remove_vgpus),
        Effect("target_defined", _define_target, None, _remove_defined),
        Effect(SOURCE_OFF, _switch_source_off, None, _bring_source_back, _source_back, bool),
        Effect("target_running", _run_target, _target_running, _remove_target),
    ),
    undone=_undone,
)
