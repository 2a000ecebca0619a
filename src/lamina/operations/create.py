"""Create: from a request to a running domain with its vGPUs.

Theory. The request commits the server's row, its ports and the saga together, so an accepted server is never forgotten; that a
project has no more servers than it may is settled in that commit, and what they hold of everything else in their claims. The claim
is first and by itself: capacity, allocations and the planned vGPUs are one commit, and from then on nothing that is
made on the host is unknown. Devices come before the domain because a domain starts only on devices that exist. A host
that refuses (the kernel knows more than its report said) costs an attempt: everything is undone, and the commit that
ends the unwinding enlists the next attempt without that host.
"""

from __future__ import annotations

import dataclasses
import secrets
import string

import msgspec
import sqlalchemy as sa

from lamina.model import ids, limits
from lamina.model.errors import (
    DeviceForeign,
    DeviceMissing,
    DeviceRefused,
    HostUnreachable,
    HypervisorError,
    NoValidHost,
    OverLimit,
    StaleFence,
)
from lamina.model.flavors import Flavor
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, PowerState, VgpuReport
from lamina.model.queueing import Waiting
from lamina.model.servers import Action, Server, TaskState, VmState
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller, Cancelled
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim, groups
from lamina.scheduling.filters import Wanted
from lamina.store import aggregates, hosts, ports, queue, quotas, sagas, server_groups, servers

#: failures of one host that another host may not have
_ANOTHER_HOST_MAY = frozenset(
    e.code for e in (HostUnreachable, DeviceRefused, DeviceMissing, DeviceForeign, HypervisorError, StaleFence)
)
#: failures that pass when others give something back
_ROOM_MAY_COME = frozenset({NoValidHost.code, OverLimit.code})


@dataclasses.dataclass(frozen=True, slots=True)
class NewServer:
    """What a caller asks for; `count` servers alike."""

    name: str
    flavor: Flavor
    image_id: str | None
    count: int = 1
    zone: str | None = None
    host: str | None = None
    hostname: str | None = None
    description: str | None = None
    key_name: str | None = None
    public_key: str | None = None
    user_data: str | None = None
    config_drive: bool = False
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    #: names of networks, one port for each
    networks: tuple[str, ...] = ()
    #: the server group that they are members of
    group_id: str | None = None
    #: seconds that they wait for room, where the flavor does not say
    wait: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    flavor: Flavor
    zone: str | None
    host: str | None
    #: hosts that have refused, and what the last one said
    refused: tuple[str, ...] = ()
    last_refusal: str | None = None
    #: when it first asked for room, and until when it waits for it; None where it does not
    asked_at: float = 0.0
    wait_until: float | None = None


CreateWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, new: NewServer) -> list[Server]:
    """Record the servers and begin to create them; returns at once.

    Raises `BadRequest` for a flavor that asks nonsense, `NotFound` where their group is gone, `OverLimit`.
    """
    _ = new.flavor.request  # a server whose flavor cannot be read must not come to be
    now = plane.clock.now()
    reservation_id = "r-" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
    made, wait = [], new.wait or new.flavor.wait
    with plane.db.write() as tx:
        for index in range(new.count):
            name = new.name if new.count == 1 else f"{new.name}-{index + 1}"
            server = Server(
                id=ids.new_uuid(),
                generation=0,
                name=name,
                hostname=new.hostname or _hostname(name),
                project_id=caller.project_id,
                user_id=caller.user_id,
                reservation_id=reservation_id,
                vm_state=VmState.BUILDING,
                task_state=TaskState.SCHEDULING,
                power_state=PowerState.NOSTATE,
                host=None,
                zone=new.zone,
                pinned_zone=new.zone,
                flavor=new.flavor,
                image_id=new.image_id,
                created_at=now,
                updated_at=now,
                description=new.description,
                key_name=new.key_name,
                public_key=new.public_key,
                user_data=new.user_data,
                config_drive=new.config_drive,
                metadata=new.metadata,
                tags=new.tags,
            )
            made.append(server)
        servers.insert(tx, made)
        for server in made:
            ports.make(tx, server.id, server.project_id, new.networks, now)
        if new.group_id is not None:
            server_groups.join(tx, new.group_id, [server.id for server in made])
        quotas.must_allow(
            tx,
            quotas.Owner(caller.project_id, caller.user_id, new.group_id),
            taken={limits.SERVERS: new.count} | ({limits.MEMBERS: new.count} if new.group_id is not None else {}),
            asked={} if wait else limits.asked_by(new.flavor.request, new.count),  # who waits for room waits for this too
        )
        params = Params(new.flavor, new.zone, new.host, asked_at=now, wait_until=now + wait if wait else None)
        saga_ids = plane.runner.enlist_new(tx, KIND, [server.id for server in made], params, caller, action=Action.CREATE)
    plane.runner.wake(*saga_ids)
    return made


def _hostname(name: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")
    return kept[:63].strip("-") or "server"


def wanted(tx: sa.Connection, server_id: str, params: Params) -> Wanted:
    """What a server asks of a host."""
    return Wanted(
        request=params.flavor.request,
        zone=params.zone,
        host=params.host,
        excluded=frozenset(params.refused),
        networks=ports.networks_of(tx, server_id),
        aggregates=aggregates.serving(tx, params.flavor.extra_specs),
        company=groups.company(tx, server_id),
    )


def _claim(work: CreateWork, tx: sa.Connection) -> claim.Claimed:
    now = work.plane.clock.now()
    claimed = claim.claim(
        tx,
        work.plane.index,
        wanted(tx, work.subject, work.params),
        claim.Payer(work.subject, "INSTANCE", work.subject, work.project_id, work.user_id, work.id),
        work.params.flavor.policy or work.plane.settings.policy,
        now=now,
        service_down=work.plane.settings.service_down,
    )
    work.host = claimed.host
    servers.update(tx, work.subject, now, task_state=TaskState.SPAWNING, host=claimed.host, zone=claimed.zone)
    return claimed


def _give_back(work: CreateWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    claim.release(tx, work.subject, now=now)
    servers.update(tx, work.subject, now, host=None, zone=work.params.zone)


def _make_vgpus(work: CreateWork) -> tuple[VgpuReport, ...]:
    return on_hosts.ensure_vgpus(work, "vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _vgpus_made(_work: CreateWork, tx: sa.Connection, made: tuple[VgpuReport, ...]) -> None:
    on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)


def _remove_vgpus(work: CreateWork) -> None:
    on_hosts.release_vgpus(work, "vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _run_domain(work: CreateWork) -> DomainReport:
    records = on_hosts.vgpus_of(work, work.subject)
    return on_hosts.ensure_domain(work, "domain_running", work.output(CLAIMED).host, work.params.flavor, records, running=True)


def _running(work: CreateWork, tx: sa.Connection, domain: DomainReport) -> None:
    now = work.plane.clock.now()
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    servers.update(
        tx, work.subject, now, vm_state=VmState.ACTIVE, task_state=None, power_state=domain.power_state, launched_at=now, fault=None
    )


def _remove_domain(work: CreateWork) -> None:
    on_hosts.remove_domain(work, "domain_running", work.output(CLAIMED).host)


def _undone(work: CreateWork, tx: sa.Connection, error: SagaError) -> None:
    """The server tries another host, waits for room, or comes to rest in ERROR."""
    now = work.plane.clock.now()
    deleting = sagas.waiting(tx, work.subject) is not None
    another = len(work.params.refused) + 1 < work.plane.settings.max_attempts and work.params.host is None
    if work.finished(CLAIMED) and error.code in _ANOTHER_HOST_MAY and another and not deleting:
        refused = (*work.params.refused, work.output(CLAIMED).host)
        params = dataclasses.replace(work.params, refused=refused, last_refusal=error.message)
        caller = Caller(work.user_id, work.project_id, work.request_id, work.global_request_id)
        work.enlisted.append(work.plane.runner.enlist(tx, KIND, work.subject, params, caller, action=work.action))
        servers.update(tx, work.subject, now, task_state=TaskState.SCHEDULING)
        return
    until = work.params.wait_until
    if error.code in _ROOM_MAY_COME and until is not None and now < until and not deleting:
        params = dataclasses.replace(work.params, refused=(), last_refusal=None)
        waiting = Waiting(work.subject, work.project_id, work.params.asked_at, until, error.message)
        queue.join(
            tx,
            waiting,
            user_id=work.user_id,
            request_id=work.request_id,
            global_request_id=work.global_request_id,
            params=msgspec.to_builtins(params),
        )
        servers.update(tx, work.subject, now, task_state=TaskState.QUEUED)
        return
    message = error.message
    if work.params.last_refusal is not None:
        message += f" A host tried before said: {work.params.last_refusal}"
    if error.code == Cancelled.code:
        message = "The creation was interrupted by a deletion."
    fault = on_hosts.fault_of(dataclasses.replace(error, message=message), now)
    servers.update(tx, work.subject, now, vm_state=VmState.ERROR, task_state=None, fault=fault)


CLAIMED: Change[ControlPlane, Params, claim.Claimed] = Change("claimed", _claim, _give_back, claim.Claimed)
KIND: Kind[ControlPlane, Params] = Kind(
    name="create",
    params=Params,
    steps=(
        CLAIMED,
        Effect("vgpus_present", _make_vgpus, _vgpus_made, _remove_vgpus),
        Effect("domain_running", _run_domain, _running, _remove_domain),
    ),
    undone=_undone,
)
