"""What `lamina.scheduling.defragmentation` plans on: the fleet as the records have it at one moment, and who may be moved."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from lamina.model.aggregates import serving
from lamina.model.errors import BadRequest
from lamina.model.flavors import Flavor
from lamina.model.policies import PolicyName
from lamina.model.requests import CandidateRequest
from lamina.model.servers import RULES, Action, Server, VmState
from lamina.operations.control_plane import ControlPlane
from lamina.operations.live_migrate import same_types
from lamina.scheduling import defragmentation
from lamina.scheduling.defragmentation import Lower, Movable, Plan, RoomFor
from lamina.scheduling.filters import Wanted
from lamina.scheduling.index import expected
from lamina.scheduling.vgpus import Placed
from lamina.store import aggregates, allocations, hosts, ports, sagas, server_groups, servers, snapshots
from lamina.store.hosts import MOST_NAMED, Vgpu
from lamina.store.snapshots import GpuSnapshot, Snapshot
from lamina.store.tables.compute import servers as servers_table


def plan(plane: ControlPlane, room_for: tuple[Flavor, int] | None, *, most_moves: int, only_stopped: bool) -> Plan:
    """Moves that make room for so many servers of a flavor or, without one, that lower the fleet's fragmentation.

    Moved are servers at rest that nobody has locked and no group's hard policy ties down, of hosts that answer. Nothing is
    changed by planning.
    """
    policy = plane.settings.policy
    with plane.db.read() as tx:
        goal = _room_for(tx, *room_for, policy) if room_for is not None else Lower()
        down = hosts.silent(tx, plane.clock.now() - plane.settings.service_down)
        fleet = snapshots.load(tx)
        awaited = expected(tx)
        reached = {s.host.name: s for s in fleet if s.host is not None and s.host.name not in down}
        movables = list(_movables(plane, tx, reached, only_stopped))
    return defragmentation.plan(fleet, awaited, movables, goal, most_moves=most_moves, down=down)


def _room_for(tx: sa.Connection, flavor: Flavor, count: int, policy: PolicyName) -> RoomFor:
    return RoomFor(flavor.request, flavor.policy or policy, count, aggregates.serving(tx, flavor.extra_specs))


def _movables(plane: ControlPlane, tx: sa.Connection, fleet: Mapping[str, Snapshot], only_stopped: bool) -> Iterator[Movable]:
    """The servers of these hosts that may be moved; `fleet` is by the hosts' names."""
    states = RULES[Action.MIGRATE].vm_states if not only_stopped else {VmState.STOPPED}
    at_rest = servers_table.c.vm_state.in_([str(s) for s in states]) & servers_table.c.task_state.is_(None)
    free = at_rest & servers_table.c.locked.is_(False) & servers_table.c.deleted_at.is_(None)
    tied = server_groups.under_hard_policies(tx) | {saga.subject for saga in sagas.unfinished(tx)}
    found = [s for s in servers.page(tx, [free], sort=[("uuid", "asc")]) if s.host in fleet and s.id not in tied]
    known = aggregates.every(tx)
    vgpus: dict[str, list[Vgpu]] = {}
    for vgpu in hosts.readable_vgpus(tx):
        vgpus.setdefault(vgpu.consumer_id, []).append(vgpu)
    classes = {provider_id: known.gpu.resource_class for snapshot in fleet.values() for provider_id, known in snapshot.gpus.items()}
    gpus = {provider_id: known for snapshot in fleet.values() for provider_id, known in snapshot.gpus.items()}
    for start in range(0, len(found), MOST_NAMED):
        some = found[start : start + MOST_NAMED]
        held, on = allocations.find(tx, [s.id for s in some]), ports.of_servers(tx, [s.id for s in some])
        for server in some:
            theirs = vgpus.get(server.id, [])
            placed, request = _placed(theirs, gpus), _request(server)
            if server.id in held and placed is not None and request is not None:
                if server.vm_state is not VmState.STOPPED:
                    request = same_types(request, theirs, classes)
                snapshot = fleet[str(server.host)]
                yield Movable(
                    server.id,
                    server.name,
                    snapshot.tree.root.id,
                    Wanted(
                        request=request,
                        zone=server.pinned_zone,
                        excluded=frozenset({str(server.host)}),
                        networks=frozenset(port.network for port in on.get(server.id, ())),
                        aggregates=serving(known, server.flavor.extra_specs),
                    ),
                    server.flavor.policy or plane.settings.policy,
                    held[server.id].allocations,
                    placed,
                )


def _placed(vgpus: list[Vgpu], gpus: Mapping[str, GpuSnapshot]) -> tuple[Placed, ...] | None:
    """A server's vGPUs, or None where one of them is of a card or a type that is not known now."""
    placed: list[Placed] = []
    for provider_id, group in itertools.groupby(vgpus, key=lambda v: v.provider_id):
        types = {t.name: t for t in gpus[provider_id].gpu.types} if provider_id in gpus else {}
        for vgpu in group:
            if vgpu.type not in types:
                return None
            placed.append(Placed(provider_id, types[vgpu.type], vgpu.placement))
    return tuple(placed)


def _request(server: Server) -> CandidateRequest | None:
    """What a move would ask for; None where the flavor was recorded under rules that hold no more."""
    try:
        _ = server.flavor.policy
        return server.flavor.request
    except BadRequest:
        return None
