"""Whole provider trees with the hosts and GPUs behind them, read together: what an index holds of each.

Every provider's generation is read before what it protects, so a snapshot is never newer than the generation it shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Set

import sqlalchemy as sa

from lamina.model.gpus import Gpu, Layout
from lamina.model.providers import ProviderTree, trees_of
from lamina.store import hosts, providers
from lamina.store.hosts import MOST_NAMED, GpuRecord, Host
from lamina.store.tables.hosts import gpus as gpus_table
from lamina.store.tables.hosts import hosts as hosts_table
from lamina.store.tables.placement import allocations
from lamina.store.tables.placement import providers as providers_table


@dataclasses.dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """A GPU on which vGPUs can be made, and what stands on it."""

    record: GpuRecord
    layout: Layout

    @property
    def gpu(self) -> Gpu:
        return self.record.gpu


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """One tree; ``host`` is None where no host of Lamina's is behind it, ``gpus`` are by provider id."""

    tree: ProviderTree
    host: Host | None = None
    gpus: Mapping[str, GpuSnapshot] = dataclasses.field(default_factory=dict)


def load(tx: sa.Connection, root_ids: Collection[str] | None = None) -> list[Snapshot]:
    """The snapshots of these trees, or of all; those that are gone are left out. In eight queries."""
    if root_ids is not None and len(root_ids) > MOST_NAMED:
        return [s for s in load(tx) if s.tree.root.id in root_ids]
    roots: sa.ColumnElement[bool] = sa.true()
    behind, cards = sa.select(hosts_table), sa.select(gpus_table)
    if root_ids is not None:
        roots = providers_table.c.root_id.in_(root_ids)
        behind = behind.where(hosts_table.c.provider_id.in_(root_ids))
        named = sa.select(hosts_table.c.name).where(hosts_table.c.provider_id.in_(root_ids))
        cards = cards.where(gpus_table.c.host.in_(named))
    trees = trees_of(providers.load(tx, roots))
    host_of = {host.provider_id: host for host in hosts.listed(tx, behind)}
    rows = tx.execute(cards).all()
    read = list(hosts.GPUS.readable(rows))
    shut = {row.provider_id for row in rows} - {r.provider_id for r in read}
    records = [r for r in read if r.provider_id is not None and r.present]
    layouts = hosts.layouts(tx, records)
    gpus: dict[str, dict[str, GpuSnapshot]] = {}
    for record in records:
        if record.provider_id is not None:
            gpus.setdefault(record.host, {})[record.provider_id] = GpuSnapshot(record, layouts[record.provider_id])
    snapshots = []
    for tree in trees:
        host = host_of.get(tree.root.id)
        snapshots.append(Snapshot(_without(tree, shut) if shut else tree, host, gpus.get(host.name, {}) if host is not None else {}))
    return snapshots


def _without(tree: ProviderTree, shut: Set[str]) -> ProviderTree:
    """The tree with nothing to be had of these: of a GPU whose record is damaged nobody knows what is free."""
    return ProviderTree(tuple(dataclasses.replace(p, inventories={}, used={}) if p.id in shut else p for p in tree.providers))


_HEAD = (providers_table.c.id, providers_table.c.generation, providers_table.c.updated_at)
_USAGE = (
    sa.select(*_HEAD, allocations.c.resource_class, sa.func.sum(allocations.c.used))
    .join_from(providers_table, allocations, isouter=True)
    .where(providers_table.c.root_id.in_(sa.bindparam("roots", expanding=True)))
    .group_by(*_HEAD, allocations.c.resource_class)
)


def with_usage(tx: sa.Connection, old: Collection[Snapshot]) -> list[Snapshot]:
    """The same trees with what is used of them now; everything else of a snapshot is taken over. In two queries.

    Those that are gone meanwhile are left out: that they went is a change of its own.
    """
    heads: dict[str, tuple[int, float]] = {}
    used: dict[str, dict[str, int]] = {}
    for provider_id, generation, updated_at, name, amount in tx.execute(_USAGE, {"roots": [s.tree.root.id for s in old]}):
        heads[provider_id] = generation, updated_at
        if name is not None:
            used.setdefault(provider_id, {})[name] = int(amount)
    layouts = hosts.layouts(tx, [g.record for s in old for g in s.gpus.values()])
    fresh = []
    for snapshot in old:
        members_now = tuple(
            dataclasses.replace(
                p,
                generation=heads[p.id][0],
                updated_at=heads[p.id][1],
                used=dict.fromkeys(p.inventories, 0) | (used.get(p.id, {}) if p.inventories else {}),
            )
            for p in snapshot.tree.providers
            if p.id in heads
        )
        if members_now:
            gpus = {provider_id: GpuSnapshot(g.record, layouts[provider_id]) for provider_id, g in snapshot.gpus.items()}
            fresh.append(Snapshot(ProviderTree(members_now), snapshot.host, gpus))
    return fresh
