"""The claim: from what a server asks to allocations and planned vGPUs, in one transaction.

Everything is read and written in the caller's transaction, and every provider touched proves by its generation that it
had not changed; a race therefore ends in `ConcurrentUpdate` and a new look at the candidates, never in over-commit.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from lamina.model import capacity, ids
from lamina.model.errors import NoValidHost
from lamina.model.gpus import Gpu, Layout, VgpuState
from lamina.model.providers import Candidate, ProviderTree
from lamina.scheduling import candidates, filters, vgpus, weighers
from lamina.store import allocations, hosts, own_providers, providers
from lamina.store.hosts import GpuRecord, Vgpu
from lamina.store.tables import vgpus as vgpus_table

#: most candidates looked at on one host; more differ only in which of many alike GPUs they name
MOST_CANDIDATES = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Payer:
    """The consumer whose allocation pays, and the server it is for."""

    consumer_id: str
    consumer_type: str
    server_id: str
    project_id: str
    user_id: str
    #: the operation that makes the vGPUs; part of their uuids
    operation_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim took."""

    host: str
    zone: str
    vgpus: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """Where a server would go."""

    host: filters.HostState
    candidate: Candidate
    placed: tuple[vgpus.Placed, ...]


def choose(
    states: Sequence[filters.HostState],
    trees: Mapping[str, ProviderTree],
    gpus: Mapping[str, Gpu],
    layouts: Mapping[str, Layout],
    wanted: filters.Wanted,
) -> Choice:
    """The first host, in the order of the weighers, with a candidate whose GPUs allow it. Pure. Raises `NoValidHost`."""
    passed, reasons = filters.passing(states, wanted)
    for state in weighers.spread(passed, trees, wanted):
        tree = trees[state.provider_id]
        refused = 0
        for candidate in itertools.islice(candidates.candidates([tree], wanted.request), MOST_CANDIDATES):
            placed = vgpus.place(candidate, wanted.request, gpus, layouts)
            if placed is not None:
                return Choice(state, candidate, placed)
            refused += 1
        if refused:
            reasons[state.name] = f"no GPU's layout allows it (candidates looked at: {refused})"
        else:
            reasons[state.name] = candidates.why_not(tree, wanted.request)
    raise NoValidHost(reasons)


def claim(tx: sa.Connection, wanted: filters.Wanted, payer: Payer, *, now: float, service_down: float) -> Claimed:
    """Choose a host and take what the server asks for there. Raises `NoValidHost`, `ConcurrentUpdate`."""
    known = [h for h in hosts.all_hosts(tx) if wanted.host is None or h.name == wanted.host]
    states = [
        filters.HostState(h.name, h.provider_id, h.zone, h.enabled, h.is_up(now, service_down), frozenset(h.networks)) for h in known
    ]
    trees = {tree.root.id: tree for tree in providers.load_trees(tx, [s.provider_id for s in states])}
    records = {r.provider_id: r for r in hosts.gpus_of(tx) if r.provider_id is not None and r.present}
    layouts = {provider_id: hosts.layout(tx, record) for provider_id, record in records.items()}
    choice = choose(states, trees, {key: r.gpu for key, r in records.items()}, layouts, wanted)
    allocations.replace(
        tx,
        payer.consumer_id,
        choice.candidate.allocations,
        project_id=payer.project_id,
        user_id=payer.user_id,
        consumer_type=payer.consumer_type,
        consumer_generation=allocations.ANY,
        known=trees[choice.host.provider_id].by_id(),
        now=now,
    )
    planned = [_planned(records[placed.provider_id], placed, payer, index, now) for index, placed in enumerate(choice.placed)]
    hosts.insert_vgpus(tx, planned)
    for provider_id in sorted({v.provider_id for v in planned}):
        follow_layout(tx, records[provider_id], now)
    return Claimed(choice.host.name, choice.host.zone, tuple(v.uuid for v in planned))


def _planned(record: GpuRecord, placed: vgpus.Placed, payer: Payer, index: int, now: float) -> Vgpu:
    return Vgpu(
        uuid=ids.vgpu_uuid(payer.server_id, payer.operation_id, index),
        host=record.host,
        address=record.address,
        provider_id=placed.provider_id,
        type=placed.type.name,
        parent=None,
        server_id=payer.server_id,
        consumer_id=payer.consumer_id,
        operation_id=payer.operation_id,
        state=VgpuState.PLANNED,
        created_at=now,
    )


def release(tx: sa.Connection, consumer_id: str, *, now: float) -> None:
    """Give back all that a consumer holds: its allocations, its vGPU records; the inventories follow."""
    held = hosts.select_vgpus(tx, vgpus_table.c.consumer_id == consumer_id)
    hosts.delete_vgpus(tx, [v.uuid for v in held])
    allocations.remove(tx, consumer_id, now=now)
    for record in hosts.gpus_of_providers(tx, {v.provider_id for v in held}).values():
        follow_layout(tx, record, now)


def follow_layout(tx: sa.Connection, record: GpuRecord, now: float) -> None:
    """Make a GPU provider's inventory and type traits what its layout says; the operator's own traits stay."""
    if record.provider_id is None:
        return
    layout = hosts.layout(tx, record)
    inventory = capacity.gpu_inventory(record.gpu, layout)
    own_providers.set_inventories(tx, record.provider_id, {record.gpu.resource_class: inventory} if inventory else {}, now=now)
    own_providers.set_traits(
        tx, record.provider_id, ours=capacity.all_type_traits(record.gpu), wanted=capacity.gpu_traits(record.gpu, layout), now=now
    )
