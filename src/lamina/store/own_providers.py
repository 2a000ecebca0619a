"""The providers that Lamina itself keeps: hosts and GPUs, made from reports and kept in step with the machine.

They are ordinary providers, which operators may give traits, aggregates and ratios through the Placement API; what an
operator set stays. Every change raises the provider's generation, so that a claim made on the old figures fails.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set

import sqlalchemy as sa

from lamina.model.providers import Inventory
from lamina.store import tree_changes
from lamina.store.resource_names import TRAITS
from lamina.store.tables.placement import allocations, inventories, provider_aggregates, provider_traits, providers
from lamina.store.tree_changes import What


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What a provider has now."""

    inventories: Mapping[str, Inventory] = dataclasses.field(default_factory=dict)
    traits: frozenset[str] = frozenset()


def tuned(old: Inventory, wanted: Inventory) -> Inventory:
    """The wanted inventory with the reserved amount and the ratio that the old one has."""
    return dataclasses.replace(wanted, reserved=min(old.reserved, wanted.total), allocation_ratio=old.allocation_ratio)


_IN_TREE = sa.select(providers.c.id).where(providers.c.root_id == sa.bindparam("root"))
_TREE_INVENTORIES = sa.select(inventories).where(inventories.c.provider_id.in_(_IN_TREE))
_TREE_TRAITS = sa.select(provider_traits).where(provider_traits.c.provider_id.in_(_IN_TREE))


def standing(tx: sa.Connection, root_id: str) -> dict[str, Standing]:
    """What every provider of a tree has, by its id, in three queries however many there are."""
    named = {"root": root_id}
    stock: dict[str, dict[str, Inventory]] = {provider_id: {} for provider_id in tx.scalars(_IN_TREE, named)}
    for row in tx.execute(_TREE_INVENTORIES, named):
        stock.setdefault(row.provider_id, {})[row.resource_class] = Inventory(*row[2:])
    traits: dict[str, set[str]] = {}
    for provider_id, trait in tx.execute(_TREE_TRAITS, named):
        traits.setdefault(provider_id, set()).add(trait)
    return {provider_id: Standing(held, frozenset(traits.get(provider_id, ()))) for provider_id, held in stock.items()}


def ensure(tx: sa.Connection, provider_id: str, name: str, *, parent_id: str | None, now: float) -> None:
    """Make a provider exist: a root without parent, else a child of that root."""
    if tx.scalar(sa.select(providers.c.id).where(providers.c.id == provider_id)) is None:
        row = {"id": provider_id, "name": name, "parent_id": parent_id, "root_id": parent_id or provider_id}
        tx.execute(sa.insert(providers).values(**row, generation=0, created_at=now, updated_at=now))
        tree_changes.note(tx, [parent_id or provider_id], What.SHAPE)


def remove_if_unused(tx: sa.Connection, provider_id: str) -> bool:
    """Remove a provider on which nothing is allocated; whether it is gone."""
    if tx.scalar(sa.select(sa.func.count()).where(allocations.c.provider_id == provider_id)):
        return False
    for table in (inventories, provider_traits, provider_aggregates):
        tx.execute(sa.delete(table).where(table.c.provider_id == provider_id))
    root_id = tx.scalar(sa.delete(providers).where(providers.c.id == provider_id).returning(providers.c.root_id))
    if root_id is not None:
        tree_changes.note(tx, [root_id], What.SHAPE)
    return True


def _changed(tx: sa.Connection, provider_id: str, now: float) -> None:
    raised = sa.update(providers).where(providers.c.id == provider_id).values(generation=providers.c.generation + 1, updated_at=now)
    tree_changes.note(tx, tx.scalars(raised.returning(providers.c.root_id)), What.SHAPE)


def set_inventories(tx: sa.Connection, provider_id: str, wanted: Mapping[str, Inventory], *, keep_tuning: bool = False, now: float) -> None:
    """Make the provider's inventories these. A class that somebody still uses stays, shrunk to what is used.

    With `keep_tuning` the reserved amount and the ratio of an inventory that exists are left as they are.
    """
    rows = tx.execute(sa.select(inventories).where(inventories.c.provider_id == provider_id))
    present = {row.resource_class: Inventory(*row[2:]) for row in rows}
    changed = False
    for name, inventory in wanted.items():
        old = present.get(name)
        new = tuned(old, inventory) if keep_tuning and old is not None else inventory
        if old is None:
            tx.execute(sa.insert(inventories).values(provider_id=provider_id, resource_class=name, **dataclasses.asdict(new)))
            changed = True
        elif new != old:
            key = (inventories.c.provider_id == provider_id) & (inventories.c.resource_class == name)
            tx.execute(sa.update(inventories).where(key).values(**dataclasses.asdict(new)))
            changed = True
    for name in present.keys() - wanted.keys():
        key = (inventories.c.provider_id == provider_id) & (inventories.c.resource_class == name)
        in_use = (allocations.c.provider_id == provider_id) & (allocations.c.resource_class == name)
        used = tx.scalar(sa.select(sa.func.coalesce(sa.func.sum(allocations.c.used), 0)).where(in_use)) or 0
        if used == 0:
            tx.execute(sa.delete(inventories).where(key))
            changed = True
        elif present[name].total != used:
            tx.execute(sa.update(inventories).where(key).values(total=used, reserved=0, max_unit=used))
            changed = True
    if changed:
        _changed(tx, provider_id, now)


def set_traits(tx: sa.Connection, provider_id: str, *, ours: Set[str], wanted: Set[str], now: float) -> None:
    """Of the traits in `ours`, the provider has exactly those in `wanted`; traits that are not ours are not touched."""
    present = set(tx.scalars(sa.select(provider_traits.c.trait).where(provider_traits.c.provider_id == provider_id)))
    for name in sorted(wanted - present):
        TRAITS.ensure(tx, name)
        tx.execute(sa.insert(provider_traits).values(provider_id=provider_id, trait=name))
    gone = (present & ours) - wanted
    if gone:
        tx.execute(sa.delete(provider_traits).where(provider_traits.c.provider_id == provider_id, provider_traits.c.trait.in_(gone)))
    if gone or wanted - present:
        _changed(tx, provider_id, now)
