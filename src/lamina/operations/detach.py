"""Detach: a server gives back one vGPU that was attached to it, and goes on meanwhile.

Theory. The guest is asked first: one that does not let the device go keeps it, and nothing has changed. Once the domain is without it
the device is removed, which cannot be taken back, and last the server stops paying for it.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model import attached, resources
from lamina.model.errors import InvalidState, NotFound
from lamina.model.hosts import DomainReport
from lamina.model.servers import Action
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim
from lamina.store import hosts, servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    host: str
    uuid: str
    resource_class: str
    #: of the vGPU's type
    trait: str


DetachWork = Work[ControlPlane, Params]


def request(plane: ControlPlane, caller: Caller, server_id: str, uuid: str) -> None:
    """Begin to take a vGPU from a server. Raises `NotFound`, `InvalidState`, and `Conflict` for one that its flavor gives it."""
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(Action.DETACH_VGPU)
        record = next((one for one in hosts.vgpus_of_server(tx, server_id, server_id) if one.uuid == uuid), None)
        if record is None:
            raise NotFound(f"Instance {server_id} has no vGPU {uuid[:36]}.")
        if server.host is None:
            raise InvalidState(f"Cannot '{rule.action}' instance {server_id}: it has never been placed on a host")
        gpu = hosts.gpu_at(tx, server.host, record.address).gpu
        params = Params(server.host, uuid, gpu.resource_class, resources.type_trait(record.type))
        attached.detach(server.flavor, params.resource_class, params.trait)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=rule.action)
    plane.runner.wake(saga_id)


def _take(work: DetachWork) -> DomainReport:
    kept = [one for one in on_hosts.vgpus_of(work, work.subject) if one.uuid != work.params.uuid]
    return on_hosts.fit_domain(work, "domain_without_it", work.params.host, kept)


def _give(work: DetachWork) -> None:
    on_hosts.fit_domain_back(work, "domain_without_it", work.params.host, on_hosts.vgpus_of(work, work.subject))


def _remove(work: DetachWork) -> None:
    gone = [one for one in on_hosts.vgpus_of(work, work.subject) if one.uuid == work.params.uuid]
    on_hosts.release_vgpus(work, "vgpu_removed", work.params.host, gone)


def _forget(work: DetachWork, tx: sa.Connection) -> None:
    now, params = work.plane.clock.now(), work.params
    claim.give_up(tx, work.subject, (params.uuid,), now=now)
    flavor = attached.detach(servers.get(tx, work.subject).flavor, params.resource_class, params.trait)
    servers.update(tx, work.subject, now, flavor=flavor, fault=None)


def _undone(work: DetachWork, tx: sa.Connection, error: SagaError) -> None:
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, fault=on_hosts.fault_of(error, now))


KIND: Kind[ControlPlane, Params] = Kind(
    name="detach",
    params=Params,
    steps=(
        Effect("domain_without_it", _take, undo=_give),
        Effect("vgpu_removed", _remove, irrevocable=True),
        Change("detached", _forget),
    ),
    undone=_undone,
)
