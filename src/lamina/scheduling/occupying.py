"""What a server's arrival and departure do to the host it is on: the claim, on values in memory and without a database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from lamina.model import capacity
from lamina.model.gpus import Layout
from lamina.model.providers import Provider, ProviderTree
from lamina.scheduling.vgpus import Placed
from lamina.store.snapshots import GpuSnapshot, Snapshot

#: provider id -> resource class -> amount
Amounts = Mapping[str, Mapping[str, int]]


def occupied(snapshot: Snapshot, allocations: Amounts, placed: Iterable[Placed]) -> Snapshot:
    """The host with this taken of it."""
    layouts = {provider_id: known.layout for provider_id, known in snapshot.gpus.items()}
    for each in placed:
        layouts[each.provider_id] = layouts[each.provider_id].plus(each.type, each.start)
    return _with(snapshot, allocations, 1, layouts)


def vacated(snapshot: Snapshot, allocations: Amounts, placed: Iterable[Placed]) -> Snapshot:
    """The host with this given back."""
    layouts = {provider_id: known.layout for provider_id, known in snapshot.gpus.items()}
    for each in placed:
        layouts[each.provider_id] = layouts[each.provider_id].minus(each.type, each.start)
    return _with(snapshot, allocations, -1, layouts)


def _with(snapshot: Snapshot, allocations: Amounts, sign: int, layouts: Mapping[str, Layout]) -> Snapshot:
    gpus = dict(snapshot.gpus)
    members: list[Provider] = []
    for provider in snapshot.tree.providers:
        taken = allocations.get(provider.id)
        if taken is None:
            members.append(provider)
            continue
        used = {name: amount + sign * taken.get(name, 0) for name, amount in provider.used.items()}
        changed = dataclasses.replace(provider, used=used, generation=provider.generation + 1)
        known = gpus.get(provider.id)
        if known is not None and known.layout != layouts[provider.id]:
            gpus[provider.id] = known = GpuSnapshot(known.record, layouts[provider.id])
            changed = _following(changed, known)
        members.append(changed)
    return Snapshot(ProviderTree(tuple(members)), snapshot.host, gpus)


def _following(provider: Provider, known: GpuSnapshot) -> Provider:
    """The GPU's provider with the inventory and the type traits that its layout comes to."""
    inventory = capacity.gpu_inventory(known.gpu, known.layout)
    others = provider.traits - capacity.all_type_traits(known.gpu)
    return dataclasses.replace(
        provider,
        inventories={known.gpu.resource_class: inventory} if inventory is not None else {},
        traits=others | capacity.gpu_traits(known.gpu, known.layout),
    )
