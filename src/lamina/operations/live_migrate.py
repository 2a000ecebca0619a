"""Live migration: a running server goes on on another host, its vGPUs there of the same types.

Theory. The claim moves what the server holds to the migration's consumer and takes the target for the server, in one
commit; both sides are paid for until exactly one is given back. The target's vGPUs are made and its domain is defined, shut
off, before the source is asked to send. From then on the two hypervisors settle where the domain runs, and only looking tells:
as long as it runs on the source it is nowhere else; once it does not, it is on the target or nowhere. So that step cannot be
taken back, but it can say for certain that it came to nothing, and then the target's side is removed and the server stays
as it was. Whoever takes the operation over looks again. An abort, like a deletion, asks the operation to turn back; it does
unless the domain has arrived.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import sqlalchemy as sa

from lamina.model import attached, ids, live_migration
from lamina.model.errors import BadRequest, HostError, HypervisorError, InvalidState, StaleFence
from lamina.model.flavors import Flavor
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, Landing, PowerAction, PowerState, Transfer, VgpuReport
from lamina.model.requests import CandidateRequest
from lamina.model.resources import type_trait
from lamina.model.servers import LIVE_MIGRATION, Action, Migration, MigrationStatus, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.operations.resize import give_target_back
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, StepDidNothing, Work
from lamina.scheduling import claim, groups
from lamina.scheduling.filters import Wanted
from lamina.store import aggregates, allocations, hosts, ports, sagas, servers
from lamina.store.hosts import Vgpu
from lamina.store.tables.hosts import vgpus

#: seconds between two looks at a move, which grow from the first to the second
FIRST_LOOK, LAST_LOOK = 0.02, 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    """``migration_id`` is drawn with the request, so that every retry of the claim means the same migration."""

    migration_id: str
    flavor: Flavor
    source: str
    old_vm_state: VmState
    #: the one host an administrator named
    host: str | None = None


LiveMigrateWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str, *, host: str | None = None) -> None:
    """Begin to move a server, to `host` if one is named. Raises `NotFound`, `InvalidState`, `BadRequest`."""
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(Action.LIVE_MIGRATE)
        if server.host is None:
            raise InvalidState(f"Cannot '{Action.LIVE_MIGRATE}' instance {server_id}: it has never been placed on a host")
        if host == server.host:
            raise BadRequest(f"Unable to migrate instance ({server_id}) to current host ({host}).")
        here = hosts.get_host(tx, server.host)
        reason = live_migration.why_not(hypervisor=here.hypervisor_version, libvirt=0, vgpus=_has_vgpus(tx, server_id))
        if reason is not None:
            raise BadRequest(f"Host {here.name} cannot send the server: {reason}.")
        if attached.of(server.flavor) and len({one.type for one in hosts.vgpus_of_server(tx, server_id)}) > 1:
            # the guest would find one in the place of another: its devices are told apart by the order in which it was given them
            raise BadRequest("The server was given vGPUs beside its flavor and has several types: migrate it cold, or detach them first.")
        params = Params(ids.new_uuid(), server.flavor, server.host, server.vm_state, host)
        servers.update(tx, server_id, now, task_state=rule.task)
        servers.insert_migration(
            tx,
            id=params.migration_id,
            server_id=server_id,
            type=LIVE_MIGRATION,
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
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=Action.LIVE_MIGRATE)
    plane.runner.wake(saga_id)


def abort(plane: ControlPlane, migration: Migration) -> None:
    """Ask a live migration to turn back; it may have come to its end before. Raises `InvalidState` for one that is over."""
    with plane.db.write() as tx:
        now = servers.migration(tx, migration.id)
        holder = sagas.holder(tx, now.server_id)
        if now.type != LIVE_MIGRATION or now.status.is_over or holder is None or holder.kind != KIND.name:
            raise InvalidState(
                f"Migration {migration.seq} of instance {migration.server_id} is {now.status}: it cannot be aborted while in this state"
            )
        sagas.cancel(tx, holder.id)


def _has_vgpus(tx: sa.Connection, server_id: str) -> bool:
    return bool(hosts.vgpus_of_server(tx, server_id))


# ---------------------------------------------------------------------------------------------------- the target


def _claim(work: LiveMigrateWork, tx: sa.Connection) -> claim.Claimed:
    params, now = work.params, work.plane.clock.now()
    server, company = servers.get(tx, work.subject), groups.company(tx, work.subject)
    held = hosts.vgpus_of_server(tx, work.subject, work.subject)
    allocations.move(tx, work.subject, params.migration_id, consumer_type="MIGRATION", now=now)
    tx.execute(sa.update(vgpus).where(vgpus.c.consumer_id == work.subject).values(consumer_id=params.migration_id))
    claimed = claim.claim(
        tx,
        work.plane.index,
        Wanted(
            request=same_types(params.flavor.request, _in_order(held), _classes(tx, held)),
            zone=server.pinned_zone,
            host=params.host,
            excluded=frozenset({params.source}) | servers.left_behind(tx, work.subject),
            networks=ports.networks_of(tx, work.subject),
            aggregates=aggregates.serving(tx, params.flavor.extra_specs),
            company=company,
            unfit=_unfit(tx, params.source, vgpus=bool(held)),
        ),
        claim.Payer(work.subject, "INSTANCE", work.subject, server.project_id, server.user_id, work.id),
        params.flavor.policy or work.plane.settings.policy,
        now=now,
        service_down=work.plane.settings.service_down,
        moving=True,
    )
    work.host = claimed.host
    taken = hosts.vgpus_of_server(tx, work.subject, work.subject)
    if [v.type for v in taken] != [v.type for v in held]:
        raise HypervisorError(f"Host {claimed.host} has no vGPUs of the types that the server has: {', '.join(v.type for v in held)}.")
    servers.update_migration(tx, params.migration_id, now, status=MigrationStatus.PREPARING, dest_host=claimed.host)
    return claimed


def _in_order(held: Iterable[Vgpu]) -> list[Vgpu]:
    """A server's vGPUs in the order in which its flavor asks for them: each was named after its place in its claim."""
    known = list(held)
    place = {ids.vgpu_uuid(v.server_id, v.operation_id, number): number for v in known for number in range(len(known))}
    return sorted(known, key=lambda v: (v.created_at, place.get(v.uuid, len(known))))


def _classes(tx: sa.Connection, held: Iterable[Vgpu]) -> dict[str, str]:
    """Provider id -> the resource class of its vGPUs."""
    records = hosts.gpus_of_providers(tx, {v.provider_id for v in held})
    return {provider_id: record.gpu.resource_class for provider_id, record in records.items()}


def same_types(request: CandidateRequest, held: Iterable[Vgpu], classes: dict[str, str]) -> CandidateRequest:
    """The request with each group that asks for vGPUs bound to the types that the server has of it. Pure.

    A guest's driver knows the type that it began with. `held` is in the order of the groups; `classes` is by provider id.
    """
    left = list(held)
    bound = []
    for group in request.groups:
        traits: set[str] = set()
        for resource_class, amount in sorted(group.resources.items()):
            theirs = [v for v in left if classes.get(v.provider_id) == resource_class][:amount]
            left = [v for v in left if v not in theirs]
            traits |= {type_trait(v.type) for v in theirs}
        bound.append(dataclasses.replace(group, required=(*group.required, frozenset(traits))) if traits else group)
    return dataclasses.replace(request, groups=tuple(bound))


def _unfit(tx: sa.Connection, source: str, *, vgpus: bool) -> dict[str, str]:
    """Hosts where the source's domain cannot go on, and why."""
    here = hosts.get_host(tx, source)
    unfit = {}
    for host in hosts.all_hosts(tx):
        reason = live_migration.why_not(hypervisor=host.hypervisor_version, libvirt=0, vgpus=vgpus)
        if reason is None and not live_migration.can_follow(_hypervisor(here), _hypervisor(host)):
            reason = f"its hypervisor {_named(host)} is older than, or another than, the {_named(here)} that the server runs in"
        if reason is not None:
            unfit[host.name] = reason
    return unfit


def _hypervisor(host: hosts.Host) -> tuple[str, int]:
    return host.hypervisor_type, host.hypervisor_version


def _named(host: hosts.Host) -> str:
    return f"{host.hypervisor_type} {live_migration.told(host.hypervisor_version)}"


def _give_back(work: LiveMigrateWork, tx: sa.Connection) -> None:
    if work.finished(CLAIMED):
        give_target_back(tx, work.subject, work.params.migration_id, now=work.plane.clock.now())


def _make_vgpus(work: LiveMigrateWork) -> tuple[VgpuReport, ...]:
    return on_hosts.ensure_vgpus(work, "target_vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _vgpus_made(_work: LiveMigrateWork, tx: sa.Connection, made: tuple[VgpuReport, ...]) -> None:
    on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)


def _remove_vgpus(work: LiveMigrateWork) -> None:
    on_hosts.release_vgpus(work, "target_vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _await_domain(work: LiveMigrateWork) -> Landing:
    target = work.output(CLAIMED).host
    work.host = target
    records = on_hosts.vgpus_of(work, work.subject)
    spec = on_hosts.domain_spec(work, work.params.flavor, records, running=False)
    return work.plane.hosts.of(target).expect_domain(work.call("awaited"), spec)


def _awaited(work: LiveMigrateWork, tx: sa.Connection, _landing: Landing) -> None:
    servers.update_migration(tx, work.params.migration_id, work.plane.clock.now(), status=MigrationStatus.RUNNING)


def _remove_target(work: LiveMigrateWork) -> None:
    on_hosts.remove_domain(work, "awaited", work.output(CLAIMED).host)


# ---------------------------------------------------------------------------------------------------- the move


def _move(work: LiveMigrateWork) -> PowerState:
    """Move the domain, or find that it has arrived: its power state on the target.

    Raises `StepDidNothing` where it is on the source, or on neither, and nobody moves it any more.
    """
    source, begun, refusal, pause = work.plane.hosts.of(work.params.source), False, None, FIRST_LOOK
    while True:
        work.host = work.params.source
        here = source.transfer(work.subject)
        unwanted = _is_unwanted(work)
        if here.running and not unwanted:
            begun = True
            _tell_progress(work, here)
            work.plane.clock.sleep(pause)
            pause = min(2 * pause, LAST_LOOK)
        elif (there := _arrived(work, here)) is not None:
            return there
        elif begun or unwanted or not _is_on(here):
            # from here on the source refuses every earlier word to begin, however late it comes
            if source.stop_transfer(work.call("moved"), work.subject).power_state is here.power_state and not here.running:
                raise StepDidNothing(_why_it_stays(work, here, refusal, unwanted=unwanted))
        else:
            begun, refusal = True, _send(work)


def _is_on(here: Transfer) -> bool:
    return here.power_state is not None and not here.power_state.is_off


def _why_it_stays(work: LiveMigrateWork, here: Transfer, refusal: str | None, *, unwanted: bool) -> str:
    source = work.params.source
    if not _is_on(here):
        return f"The server's domain on host {source} ended while it was to be moved."
    if unwanted:
        return "The migration was asked to turn back."
    return f"The server stays on host {source}: {refusal or here.why or 'it could not be moved.'}"


def _is_unwanted(work: LiveMigrateWork) -> bool:
    with work.plane.db.read() as tx:
        return sagas.is_cancelled(tx, work.id)


def _arrived(work: LiveMigrateWork, here: Transfer) -> PowerState | None:
    """The domain's power state on the target, if it is on there and can no longer go on here.

    One that is halted there may still be waiting for the rest of its memory, unless it is off here.
    """
    if here.running or here.power_state is PowerState.RUNNING:
        return None
    target = work.output(CLAIMED).host
    work.host = target
    there = work.plane.hosts.of(target).transfer(work.subject).power_state
    return there if there is PowerState.RUNNING or (there is PowerState.PAUSED and not _is_on(here)) else None


def _send(work: LiveMigrateWork) -> str | None:
    """What either host says against it. Whether it has begun all the same, the next look tells.

    The target makes itself ready once more: since it has first, it may have booted, and what stands there by now be another's.
    A domain that had arrived would be ended by that, so the source refuses every earlier word to begin before.
    """
    source, target = work.plane.hosts.of(work.params.source), work.output(CLAIMED).host
    work.host = work.params.source
    if not _is_on(source.stop_transfer(work.call("moved"), work.subject)):
        return None
    try:
        landing = _await_domain(work)
    except StaleFence:
        raise
    except HostError as error:
        return f"host {target} cannot take it: {error.message}"
    work.host = work.params.source
    try:
        source.send_domain(work.call("moved"), work.subject, landing)
    except HypervisorError as error:
        return error.message
    return None


def _tell_progress(work: LiveMigrateWork, here: Transfer) -> None:
    figures = {f"{what}_{figure}_bytes": getattr(here, f"{what}_{figure}") for what in ("memory", "disk") for figure in _FIGURES}
    with work.plane.db.write() as tx:
        servers.update_migration(tx, work.params.migration_id, work.plane.clock.now(), progress=figures)


_FIGURES = ("total", "processed", "remaining")


def _moved(work: LiveMigrateWork, tx: sa.Connection, power_state: PowerState) -> None:
    """From here on the server is at home on the target; the source's side is the migration's, to be removed."""
    now, claimed = work.plane.clock.now(), work.output(CLAIMED)
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    hosts.set_vgpus_state(tx, work.subject, work.params.migration_id, VgpuState.PRESENT)
    servers.update(tx, work.subject, now, host=claimed.host, zone=claimed.zone, power_state=power_state)
    servers.update_migration(tx, work.params.migration_id, now, status=MigrationStatus.POST_MIGRATING)


def _stay(work: LiveMigrateWork) -> on_hosts.Outcome | None:
    """The source's domain as it was, if the attempt has halted or ended it."""
    params = work.params
    work.host = params.source
    compute = work.plane.hosts.of(params.source)
    here = compute.stop_transfer(work.call("moved"), work.subject)
    if here.power_state is (PowerState.PAUSED if params.old_vm_state is VmState.PAUSED else PowerState.RUNNING):
        return None
    if here.power_state is PowerState.PAUSED:
        return on_hosts.Outcome(compute.set_power(work.call("moved"), work.subject, PowerAction.UNPAUSE))
    return on_hosts.bring_back(work, "moved", params.source, params.flavor, params.migration_id, running=True)


def _stayed(work: LiveMigrateWork, tx: sa.Connection, back: on_hosts.Outcome | None) -> None:
    if back is not None:
        on_hosts.record_vgpus(tx, back.vgpus, VgpuState.ATTACHED)
        servers.update(tx, work.subject, work.plane.clock.now(), power_state=back.domain.power_state)


# ---------------------------------------------------------------------------------------------------- after it


def _go_on(work: LiveMigrateWork) -> DomainReport | None:
    """Where the domain was left halted on its arrival."""
    if work.params.old_vm_state is VmState.PAUSED or work.output(MOVED) is PowerState.RUNNING:
        return None
    target = work.output(CLAIMED).host
    work.host = target
    return work.plane.hosts.of(target).set_power(work.call("goes_on"), work.subject, PowerAction.UNPAUSE)


def _goes_on(work: LiveMigrateWork, tx: sa.Connection, domain: DomainReport | None) -> None:
    if domain is not None:
        servers.update(tx, work.subject, work.plane.clock.now(), power_state=domain.power_state)


def _remove_source(work: LiveMigrateWork) -> None:
    records = on_hosts.vgpus_of(work, work.params.migration_id)
    on_hosts.remove_domain(work, "source_removed", work.params.source)
    on_hosts.release_vgpus(work, "source_removed", work.params.source, records)


def _complete(work: LiveMigrateWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    claim.release(tx, work.params.migration_id, now=now)
    servers.update_migration(tx, work.params.migration_id, now, status=MigrationStatus.COMPLETED)
    servers.update(tx, work.subject, now, task_state=None, fault=None)


def _undone(work: LiveMigrateWork, tx: sa.Connection, error: SagaError) -> None:
    """The server is where it was and as it was; why it is, its fault and the migration tell."""
    now = work.plane.clock.now()
    cancelled = sagas.is_cancelled(tx, work.id)
    status = MigrationStatus.CANCELLED if cancelled else MigrationStatus.ERROR
    servers.update_migration(tx, work.params.migration_id, now, status=status)
    server = servers.get(tx, work.subject)
    lost_its_pause = work.params.old_vm_state is VmState.PAUSED and server.power_state is PowerState.RUNNING
    vm_state = VmState.ACTIVE if lost_its_pause else work.params.old_vm_state
    servers.update(tx, work.subject, now, vm_state=vm_state, task_state=None, fault=None if cancelled else on_hosts.fault_of(error, now))


CLAIMED: Change[ControlPlane, Params, claim.Claimed] = Change("claimed", _claim, _give_back, claim.Claimed)
MOVED: Effect[ControlPlane, Params, PowerState] = Effect("moved", _move, _moved, _stay, _stayed, output=PowerState, irrevocable=True)
KIND: Kind[ControlPlane, Params] = Kind(
    name="live_migrate",
    params=Params,
    steps=(
        CLAIMED,
        Effect("target_vgpus_present", _make_vgpus, _vgpus_made, _remove_vgpus),
        Effect("awaited", _await_domain, _awaited, _remove_target),
        MOVED,
        Effect("goes_on", _go_on, _goes_on),
        Effect("source_removed", _remove_source),
        Change("completed", _complete),
    ),
    undone=_undone,
)
