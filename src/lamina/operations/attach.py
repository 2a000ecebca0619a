"""Attach: a server is given one vGPU more where it is, and goes on meanwhile.

Theory. The claim takes room on the server's own host alone, beside what the server holds there, and writes the vGPU into the server's
copy of its flavor, so that from then on every operation counts it. Then the device is made, then the domain is given it; each is taken
back in the other order. A guest that cannot take another device keeps what it has.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model import attached, limits, resources
from lamina.model.errors import BadRequest, InvalidState
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, VgpuReport
from lamina.model.servers import Action
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim
from lamina.scheduling.filters import Wanted
from lamina.store import hosts, quotas, servers
from lamina.store.hosts import Vgpu


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    resource_class: str
    #: of the vGPU's type
    trait: str


AttachWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str, vgpu_type: str) -> None:
    """Begin to give a server a vGPU of a type, by its name or id. Raises `NotFound`, `InvalidState`, `BadRequest`, `Conflict`,
    `OverLimit`.
    """
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(Action.ATTACH_VGPU)
        if server.host is None:
            raise InvalidState(f"Cannot '{rule.action}' instance {server_id}: it has never been placed on a host")
        found = [(gpu.gpu.resource_class, t) for gpu in hosts.gpus_of(tx, server.host) for t in gpu.gpu.enabled if t.called(vgpu_type)]
        if not found:
            raise BadRequest(f"type: no GPU of the server's host is set to make vGPUs of type {vgpu_type[:100]!r}")
        resource_class, of_type = found[0]
        params = Params(server.host, resource_class, resources.type_trait(of_type.name))
        _, new = attached.attach(server.flavor, params.resource_class, params.trait)
        quotas.must_allow(tx, quotas.Owner(server.project_id, server.user_id), asked=limits.asked_by(new.request()))
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=rule.action)
    plane.runner.wake(saga_id)


def _claim(work: AttachWork, tx: sa.Connection) -> None:
    now, params, settings = work.plane.clock.now(), work.params, work.plane.settings
    server = servers.get(tx, work.subject)
    flavor, new = attached.attach(server.flavor, params.resource_class, params.trait)
    claim.claim(
        tx,
        work.plane.index,
        Wanted(request=new.request(), host=params.host),
        claim.Payer(work.subject, "INSTANCE", work.subject, server.project_id, server.user_id, work.id),
        server.flavor.policy or settings.policy,
        now=now,
        service_down=settings.service_down,
        beside=True,
    )
    servers.update(tx, work.subject, now, flavor=flavor)


def _give_back(work: AttachWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    brought = [one.uuid for one in hosts.vgpus_of_server(tx, work.subject, work.subject) if one.operation_id == work.id]
    if not brought:
        return
    claim.give_up(tx, work.subject, brought, now=now)
    flavor = attached.detach(servers.get(tx, work.subject).flavor, work.params.resource_class, work.params.trait)
    servers.update(tx, work.subject, now, flavor=flavor)


def _records(work: AttachWork, *, new: bool) -> list[Vgpu]:
    """The vGPUs that this operation brings, or those that the server had before."""
    return [one for one in on_hosts.vgpus_of(work, work.subject) if (one.operation_id == work.id) == new]


def _make(work: AttachWork) -> tuple[VgpuReport, ...]:
    return on_hosts.ensure_vgpus(work, "vgpu_present", work.params.host, _records(work, new=True))


def _made(_work: AttachWork, tx: sa.Connection, made: tuple[VgpuReport, ...]) -> None:
    on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)


def _remove(work: AttachWork) -> None:
    on_hosts.release_vgpus(work, "vgpu_present", work.params.host, _records(work, new=True))


def _give(work: AttachWork) -> DomainReport:
    return on_hosts.fit_domain(work, "domain_has_it", work.params.host, on_hosts.vgpus_of(work, work.subject))


def _given(work: AttachWork, tx: sa.Connection, _domain: DomainReport) -> None:
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    servers.update(tx, work.subject, work.plane.clock.now(), fault=None)


def _take(work: AttachWork) -> None:
    on_hosts.fit_domain_back(work, "domain_has_it", work.params.host, _records(work, new=False))


def _undone(work: AttachWork, tx: sa.Connection, error: SagaError) -> None:
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, fault=on_hosts.fault_of(error, now))


KIND: Kind[ControlPlane, Params] = Kind(
    name="attach",
    params=Params,
    steps=(
        Change("claimed", _claim, undo=_give_back),
        Effect("vgpu_present", _make, _made, _remove),
        Effect("domain_has_it", _give, _given, _take),
    ),
    undone=_undone,
)
