"""The claim: from what a server asks to allocations and planned vGPUs, in one transaction.

The index names the host. What is taken there is decided on what the caller's transaction reads of it while it holds its
providers, each of which proves by its generation that it had not changed; a race therefore ends in `ConcurrentUpdate` and a
new look at the index, never in over-commit. Last, what was taken is held against the limits of whose it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import sqlalchemy as sa

from lamina.model import capacity, ids, limits
from lamina.model.errors import ConcurrentUpdate, NoValidHost
from lamina.model.gpus import VgpuState
from lamina.model.policies import PolicyName
from lamina.scheduling import vgpus
from lamina.scheduling.choice import Choice, choose
from lamina.scheduling.field import Field
from lamina.scheduling.filters import Wanted
from lamina.scheduling.index import Index
from lamina.store import allocations, hosts, own_providers, providers, quotas, snapshots
from lamina.store.hosts import GpuRecord, Vgpu
from lamina.store.tables.hosts import vgpus as vgpus_table


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


def claim(
    tx: sa.Connection,
    index: Index,
    wanted: Wanted,
    payer: Payer,
    policy: PolicyName,
    *,
    now: float,
    service_down: float,
    beside: bool = False,
    moving: bool = False,
) -> Claimed:
    """Choose a host and take what the server asks for there; with `beside`, and keep what the payer holds already.

    What the payer's project then has is within its limits, or nothing is taken; with `moving` that is not asked, because an
    administrator moves what the project has. Raises `NoValidHost`, `ConcurrentUpdate`, `OverLimit`.
    """
    index.refresh()
    if policy is PolicyName.FRAGMENTATION:
        index.learn(tx, now)
    down = hosts.silent(tx, now - service_down)
    chosen = index.choose(wanted, policy, down)
    choice = _proved(tx, index, chosen, wanted, policy, down)
    allocations.replace(
        tx,
        payer.consumer_id,
        _with_held(tx, payer.consumer_id, choice.candidate.allocations) if beside else choice.candidate.allocations,
        project_id=payer.project_id,
        user_id=payer.user_id,
        consumer_type=payer.consumer_type,
        consumer_generation=allocations.ANY,
        known=choice.snapshot.tree.by_id(),
        now=now,
    )
    records = {provider_id: known.record for provider_id, known in choice.snapshot.gpus.items()}
    planned = [_planned(records[placed.provider_id], placed, payer, place, now) for place, placed in enumerate(choice.placed)]
    hosts.insert_vgpus(tx, planned)
    for provider_id in sorted({v.provider_id for v in planned}):
        follow_layout(tx, records[provider_id], now)
    if not moving:
        quotas.must_allow(tx, quotas.Owner(payer.project_id, payer.user_id), taken=taken(choice))
    return Claimed(choice.host.name, choice.host.zone, tuple(v.uuid for v in planned))


def taken(choice: Choice) -> dict[str, int]:
    """What a choice takes of what can be limited."""
    return limits.taken_by(choice.candidate.allocations, (placed.type.name for placed in choice.placed))


def _with_held(tx: sa.Connection, consumer_id: str, wanted: allocations.Amounts) -> allocations.Amounts:
    held = allocations.find(tx, [consumer_id], lock=True).get(consumer_id)
    return wanted if held is None else allocations.summed((held.allocations, wanted))


def _proved(tx: sa.Connection, index: Index, chosen: Choice, wanted: Wanted, policy: PolicyName, down: frozenset[str]) -> Choice:
    """The choice anew, on the chosen host alone as this transaction sees it."""
    field = Field(index.demand, index.trust)
    roots = {tree.root.id for p in chosen.candidate.allocations if (tree := index.tree_of(p)) is not None}
    providers.hold(tx, roots, trees=True)
    for snapshot in snapshots.load(tx, roots):
        field.put(snapshot)
    try:
        return choose(field, dataclasses.replace(wanted, host=chosen.host.name), policy, down)
    except NoValidHost as gone:
        raise ConcurrentUpdate(f"host {chosen.host.name} has changed since it was chosen") from gone


def _planned(record: GpuRecord, placed: vgpus.Placed, payer: Payer, index: int, now: float) -> Vgpu:
    return Vgpu(
        uuid=ids.vgpu_uuid(payer.server_id, payer.operation_id, index),
        host=record.host,
        address=record.address,
        provider_id=placed.provider_id,
        type=placed.type.name,
        parent=None,
        placement=placed.start,
        server_id=payer.server_id,
        consumer_id=payer.consumer_id,
        operation_id=payer.operation_id,
        state=VgpuState.PLANNED,
        created_at=now,
    )


def release(tx: sa.Connection, consumer_id: str, *, now: float) -> None:
    """Give back all that a consumer holds: its allocations, its vGPU records; the inventories follow.

    That of a GPU whose record is damaged does not: nothing is made there before it is mended. Raises `CorruptRecord` for a vGPU.
    """
    held = hosts.select_vgpus(tx, vgpus_table.c.consumer_id == consumer_id)
    hosts.delete_vgpus(tx, [v.uuid for v in held])
    allocations.remove(tx, consumer_id)
    for record in hosts.readable_gpus_of_providers(tx, {v.provider_id for v in held}):
        follow_layout(tx, record, now)


def give_up(tx: sa.Connection, consumer_id: str, uuids: Collection[str], *, now: float) -> None:
    """Give back some of the vGPUs that a consumer pays for, and go on holding the rest. May be repeated."""
    gone = hosts.select_vgpus(tx, vgpus_table.c.consumer_id == consumer_id, vgpus_table.c.uuid.in_(list(uuids)))
    held = allocations.find(tx, [consumer_id], lock=True).get(consumer_id)
    if not gone or held is None:
        return
    records = hosts.gpus_of_providers(tx, {one.provider_id for one in gone})
    left = {provider_id: dict(amounts) for provider_id, amounts in held.allocations.items()}
    for one in gone:
        left[one.provider_id][records[one.provider_id].gpu.resource_class] -= 1
    kept = {provider_id: some for provider_id, amounts in left.items() if (some := {name: n for name, n in amounts.items() if n})}
    hosts.delete_vgpus(tx, [one.uuid for one in gone])
    allocations.replace(
        tx, consumer_id, kept, project_id=held.project_id, user_id=held.user_id, consumer_type=held.type, now=now
    )
    for record in records.values():
        follow_layout(tx, record, now)


def follow_layout(tx: sa.Connection, record: GpuRecord, now: float) -> None:
    """Make a GPU provider's inventory and type traits what its layout says; the operator's own traits stay."""
    if record.provider_id is None:
        return
    # so that of two who change a layout the second sees what the first has done
    providers.hold(tx, [record.provider_id])
    layout = hosts.layout(tx, record)
    inventory = capacity.gpu_inventory(record.gpu, layout)
    own_providers.set_inventories(tx, record.provider_id, {record.gpu.resource_class: inventory} if inventory else {}, now=now)
    own_providers.set_traits(
        tx, record.provider_id, ours=capacity.all_type_traits(record.gpu), wanted=capacity.gpu_traits(record.gpu, layout), now=now
    )
