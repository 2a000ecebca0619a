"""Resource providers: read whole, in a constant number of queries, and changed one rule at a time.

Every change to what a claim depends on goes through `bump_generation`, a compare-and-swap, so that whoever decided on
older figures fails with `ConcurrentUpdate`. Re-parenting as in Placement microversion 1.37.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

import sqlalchemy as sa

from lamina.model.errors import (
    AlreadyExists,
    BadRequest,
    ConcurrentUpdate,
    InventoryInUse,
    NotFound,
    ProviderHasChildren,
    ProviderInUse,
)
from lamina.model.providers import Inventory, Provider, ProviderTree, trees_of
from lamina.model.resources import class_order
from lamina.store import tree_changes
from lamina.store.tables.hosts import gpus, hosts
from lamina.store.tables.placement import allocations, inventories, provider_aggregates, provider_traits, providers
from lamina.store.tree_changes import What


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which providers a listing has; every condition that is set must hold."""

    id: str | None = None
    name: str | None = None
    #: a provider's id: everything in its tree
    in_tree: str | None = None
    #: each element is a set of which at least one is needed
    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()
    member_of: tuple[frozenset[str], ...] = ()
    not_member_of: frozenset[str] = frozenset()
    #: resource class -> amount that could be taken now
    resources: Mapping[str, int] = dataclasses.field(default_factory=dict)


class _Unchanged:
    """The type of `UNCHANGED`."""


UNCHANGED: Final = _Unchanged()


def load(tx: sa.Connection, where: sa.ColumnElement[bool] | None = None) -> list[Provider]:
    """The providers that `where` (on the providers table) selects, ordered by name, in five queries.

    The generation is read before anything it protects.
    """
    chosen = sa.select(providers)
    ids = sa.select(providers.c.id)
    if where is not None:
        chosen, ids = chosen.where(where), ids.where(where)
    rows = tx.execute(chosen.order_by(providers.c.name)).all()
    if not rows:
        return []
    stock: dict[str, dict[str, Inventory]] = {}
    for row in tx.execute(sa.select(inventories).where(inventories.c.provider_id.in_(ids)).order_by(inventories.c.resource_class)):
        stock.setdefault(row.provider_id, {})[row.resource_class] = Inventory(*row[2:])
    used: dict[str, dict[str, int]] = {}
    key = (allocations.c.provider_id, allocations.c.resource_class)
    for provider_id, name, amount in tx.execute(
        sa.select(*key, sa.func.sum(allocations.c.used)).where(allocations.c.provider_id.in_(ids)).group_by(*key)
    ):
        used.setdefault(provider_id, {})[name] = int(amount)
    traits = _sets(tx, sa.select(provider_traits).where(provider_traits.c.provider_id.in_(ids)))
    aggregates = _sets(tx, sa.select(provider_aggregates).where(provider_aggregates.c.provider_id.in_(ids)))
    return [
        Provider(
            id=row.id,
            name=row.name,
            generation=row.generation,
            root_id=row.root_id,
            parent_id=row.parent_id,
            inventories=stock.get(row.id, {}),
            used=dict.fromkeys(stock.get(row.id, {}), 0) | used.get(row.id, {}),
            traits=frozenset(traits.get(row.id, ())),
            aggregates=frozenset(aggregates.get(row.id, ())),
            updated_at=row.updated_at,
        )
        for row in rows
    ]


_HOLD = sa.select(providers.c.id).order_by(providers.c.id).with_for_update(key_share=True)
_HOLD_SOME = _HOLD.where(providers.c.id.in_(sa.bindparam("ids", expanding=True)))
_HOLD_TREES = _HOLD.where(providers.c.root_id.in_(sa.bindparam("ids", expanding=True)))


def hold(tx: sa.Connection, provider_ids: Iterable[str], *, trees: bool = False) -> None:
    """Have these providers stay as they are, for everybody else, to the end of the transaction: what is read of them from now on
    is what it is decided on. In the order of their ids, so that two who hold several cannot wait for each other in a ring.

    With `trees` the ids are of roots, and everything below them is held too. On SQLite, where one writes at a time, all stay anyway.
    """
    if tx.dialect.name != "sqlite":
        tx.execute(_HOLD_TREES if trees else _HOLD_SOME, {"ids": list(provider_ids)})


_USED = (
    sa.select(sa.func.sum(allocations.c.used))
    .where(allocations.c.provider_id == providers.c.id, allocations.c.resource_class == inventories.c.resource_class)
    .scalar_subquery()
)
_STOCK = (
    sa.select(providers.c.id, providers.c.name, providers.c.generation, providers.c.root_id, _USED, inventories)
    .join_from(providers, inventories, isouter=True)
    .where(providers.c.id.in_(sa.bindparam("ids", expanding=True)))
)


def stock(tx: sa.Connection, provider_ids: Iterable[str]) -> dict[str, Provider]:
    """These providers by id, as far as claims are judged by them: inventories and what is used of them. In one query."""
    heads: dict[str, tuple[str, str, int, str]] = {}
    stocked: dict[str, dict[str, Inventory]] = {}
    used: dict[str, dict[str, int]] = {}
    for row in tx.execute(_STOCK, {"ids": list(provider_ids)}):
        heads[row[0]] = (row[0], row[1], row[2], row[3])
        if row.resource_class is not None:
            stocked.setdefault(row[0], {})[row.resource_class] = Inventory(*row[7:])
            used.setdefault(row[0], {})[row.resource_class] = int(row[4] or 0)
    return {
        key: Provider(*head, inventories=stocked.get(key, {}), used=used.get(key, {})) for key, head in heads.items()
    }


def _sets(tx: sa.Connection, query: sa.Select[Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for provider_id, value in tx.execute(query):
        found.setdefault(provider_id, set()).add(value)
    return found


def load_trees(tx: sa.Connection, root_ids: Iterable[str] | None = None) -> list[ProviderTree]:
    """Whole trees, of these roots or all, ordered by the root's name."""
    return trees_of(load(tx, None if root_ids is None else providers.c.root_id.in_(list(root_ids))))


def get(tx: sa.Connection, provider_id: str) -> Provider:
    """Raises `NotFound`."""
    found = load(tx, providers.c.id == provider_id)
    if not found:
        raise NotFound(f"No resource provider with uuid {provider_id} found")
    return found[0]


def listed(tx: sa.Connection, wanted: Filter) -> list[Provider]:
    """The providers for which every condition holds, ordered by name."""
    conditions = [
        *(_has(provider_traits.c.trait, choice) for choice in wanted.required),
        *(_has(provider_aggregates.c.aggregate_id, choice) for choice in wanted.member_of),
        *([~_has(provider_traits.c.trait, wanted.forbidden)] if wanted.forbidden else []),
        *([~_has(provider_aggregates.c.aggregate_id, wanted.not_member_of)] if wanted.not_member_of else []),
    ]
    if wanted.id is not None:
        conditions.append(providers.c.id == wanted.id)
    if wanted.name is not None:
        conditions.append(providers.c.name == wanted.name)
    if wanted.in_tree is not None:
        within = providers.alias()
        conditions.append(providers.c.root_id.in_(sa.select(within.c.root_id).where(within.c.id == wanted.in_tree)))
    found = load(tx, sa.and_(sa.true(), *conditions))
    return [p for p in found if all(p.refuses(name, amount) is None for name, amount in wanted.resources.items())]


def _has(column: sa.Column[str], choice: Set[str]) -> sa.ColumnElement[bool]:
    return providers.c.id.in_(sa.select(column.table.c.provider_id).where(column.in_(choice)))


_RAISED = (
    sa.update(providers)
    .where(providers.c.id == sa.bindparam("of_id"), providers.c.generation == sa.bindparam("expected"))
    .values(generation=sa.bindparam("expected") + 1, updated_at=sa.bindparam("now"))
    .returning(providers.c.root_id)
)


def bump_generation(tx: sa.Connection, provider_id: str, expected: int, now: float, what: What = What.SHAPE) -> int:
    """Raise the generation if it is still `expected`, and give the new one. Raises `ConcurrentUpdate`."""
    root_id = tx.scalar(_RAISED, {"of_id": provider_id, "expected": expected, "now": now})
    if root_id is None:
        raise ConcurrentUpdate(f"resource provider generation conflict: {provider_id} is no longer at generation {expected}")
    tree_changes.note(tx, [root_id], what)
    return expected + 1


def note_freed(tx: sa.Connection, provider_ids: Iterable[str]) -> None:
    """Say that less is held of these providers, their generations as they are: a claim that did not see it was too careful."""
    wanted = list(provider_ids)
    if wanted:
        tree_changes.note(tx, tx.scalars(sa.select(providers.c.root_id).where(providers.c.id.in_(wanted)).distinct()), What.USAGE)


def create(tx: sa.Connection, provider_id: str, name: str, *, parent_id: str | None, now: float) -> None:
    """Raises `BadRequest` where the parent does not exist, `AlreadyExists` where the name or the id is taken."""
    taken = tx.execute(sa.select(providers.c.id).where((providers.c.id == provider_id) | (providers.c.name == name))).first()
    if taken is not None:
        what = f"uuid: {provider_id}" if taken.id == provider_id else f"name: {name}"
        raise AlreadyExists(f"Conflicting resource provider {what} already exists.")
    if parent_id == provider_id:
        raise BadRequest(f"Unable to create resource provider \"{name}\", {provider_id}: parent provider UUID cannot be same as UUID.")
    root_id = provider_id if parent_id is None else _root_of_parent(tx, parent_id)
    row = {"id": provider_id, "name": name, "parent_id": parent_id, "root_id": root_id}
    try:
        tx.execute(sa.insert(providers).values(**row, generation=0, created_at=now, updated_at=now))
        tree_changes.note(tx, [root_id], What.SHAPE)
    except sa.exc.IntegrityError as error:
        raise ConcurrentUpdate(f"resource provider {name}: its name, its uuid or its parent was changed by somebody else") from error


def _root_of_parent(tx: sa.Connection, parent_id: str) -> str:
    root_id: str | None = tx.scalar(sa.select(providers.c.root_id).where(providers.c.id == parent_id))
    if root_id is None:
        raise BadRequest(f"parent provider UUID does not exist: {parent_id}.")
    return root_id


def update(
    tx: sa.Connection,
    provider_id: str,
    name: str,
    *,
    parent_id: str | _Unchanged | None = UNCHANGED,
    may_move: bool,
    now: float,
) -> Provider:
    """Rename a provider and put it below another parent, with everything below it.

    Without `may_move` only a root may get a parent. Raises `NotFound`, `AlreadyExists`, `BadRequest`.
    """
    old = get(tx, provider_id)
    clash = sa.select(providers.c.id).where(providers.c.name == name, providers.c.id != provider_id)
    if tx.scalar(clash) is not None:
        raise AlreadyExists(f"Conflicting resource provider name: {name} already exists.")
    try:
        tx.execute(sa.update(providers).where(providers.c.id == provider_id).values(name=name, updated_at=now))
        tree_changes.note(tx, [old.root_id], What.SHAPE)
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"Conflicting resource provider name: {name} already exists.") from error
    if not isinstance(parent_id, _Unchanged) and parent_id != old.parent_id:
        if old.parent_id is not None and not may_move:
            verb = "un-parenting" if parent_id is None else "re-parenting"
            raise BadRequest(f"{verb} a provider is not currently allowed: it takes microversion 1.37.")
        _move(tx, old, parent_id)
    return get(tx, provider_id)


def _move(tx: sa.Connection, moved: Provider, parent_id: str | None) -> None:
    new_root = moved.id if parent_id is None else _root_of_parent(tx, parent_id)
    # both trees are locked, so that two moves at once cannot make a ring
    roots = sorted({moved.root_id, new_root})
    locked = sa.select(providers).where(providers.c.root_id.in_(roots)).order_by(providers.c.id).with_for_update()
    members = [Provider(r.id, r.name, r.generation, r.root_id, r.parent_id) for r in tx.execute(locked)]
    tree = next(t for t in trees_of(members) if t.root.id == moved.root_id)
    below = tree.below(moved.id)
    if parent_id in below:
        raise BadRequest("creating loop in the provider tree is not allowed.")
    tx.execute(sa.update(providers).where(providers.c.id == moved.id).values(parent_id=parent_id))
    tx.execute(sa.update(providers).where(providers.c.id.in_(below)).values(root_id=new_root))
    tree_changes.note(tx, roots, What.SHAPE)


def delete(tx: sa.Connection, provider_id: str) -> None:
    """Raises `NotFound`, `ProviderHasChildren`, `ProviderInUse` (also where one of Lamina's hosts or GPUs is behind it)."""
    root_id = tx.scalar(sa.select(providers.c.root_id).where(providers.c.id == provider_id).with_for_update())
    if root_id is None:
        raise NotFound(f"No resource provider with uuid {provider_id} found")
    if tx.scalar(sa.select(providers.c.id).where(providers.c.parent_id == provider_id).limit(1)) is not None:
        raise ProviderHasChildren(f"Unable to delete parent resource provider {provider_id}: It has child resource providers.")
    if tx.scalar(sa.select(allocations.c.consumer_id).where(allocations.c.provider_id == provider_id).limit(1)) is not None:
        raise ProviderInUse(f"Unable to delete resource provider {provider_id}: Resource provider has allocations.")
    for table in (hosts, gpus):
        if tx.scalar(sa.select(table.c.provider_id).where(table.c.provider_id == provider_id)) is not None:
            raise ProviderInUse(f"Unable to delete resource provider {provider_id}: it stands for a machine that Lamina manages.")
    for table in (inventories, provider_traits, provider_aggregates):
        tx.execute(sa.delete(table).where(table.c.provider_id == provider_id))
    tx.execute(sa.delete(providers).where(providers.c.id == provider_id))
    tree_changes.note(tx, [root_id], What.SHAPE)


def set_inventories(tx: sa.Connection, provider: Provider, wanted: Mapping[str, Inventory], *, now: float) -> int:
    """Make the provider's inventories exactly these and give its new generation.

    An inventory may become smaller than what is used of it, but not go. Raises `InventoryInUse`, `ConcurrentUpdate`.
    """
    generation = bump_generation(tx, provider.id, provider.generation, now)
    gone = provider.inventories.keys() - wanted.keys()
    held = sorted((name for name in gone if provider.used.get(name, 0)), key=class_order)
    if held:
        raise InventoryInUse(f"Inventory for '{', '.join(held)}' on resource provider '{provider.id}' in use.")
    if gone:
        tx.execute(sa.delete(inventories).where(inventories.c.provider_id == provider.id, inventories.c.resource_class.in_(gone)))
    for name, inventory in sorted(wanted.items()):
        columns = dataclasses.asdict(inventory)
        if name not in provider.inventories:
            tx.execute(sa.insert(inventories).values(provider_id=provider.id, resource_class=name, **columns))
        elif inventory != provider.inventories[name]:
            key = (inventories.c.provider_id == provider.id) & (inventories.c.resource_class == name)
            tx.execute(sa.update(inventories).where(key).values(**columns))
    return generation


def set_traits(tx: sa.Connection, provider: Provider, wanted: Set[str], *, now: float) -> int:
    """Make the provider's traits exactly these, which exist; its new generation. Raises `ConcurrentUpdate`."""
    return _set(tx, provider, provider_traits.c.trait, provider.traits, wanted, now)


def set_aggregates(tx: sa.Connection, provider: Provider, wanted: Set[str], *, raise_generation: bool = True, now: float) -> int:
    """Make the provider a member of exactly these aggregates; its generation then. Raises `ConcurrentUpdate`.

    Placement before microversion 1.19 changes aggregates without raising the generation.
    """
    if not raise_generation:
        _replace(tx, provider, provider_aggregates.c.aggregate_id, provider.aggregates, wanted)
        tree_changes.note(tx, [provider.root_id], What.SHAPE)
        return provider.generation
    return _set(tx, provider, provider_aggregates.c.aggregate_id, provider.aggregates, wanted, now)


def _set(tx: sa.Connection, provider: Provider, column: sa.Column[str], present: Set[str], wanted: Set[str], now: float) -> int:
    generation = bump_generation(tx, provider.id, provider.generation, now)
    _replace(tx, provider, column, present, wanted)
    return generation


def _replace(tx: sa.Connection, provider: Provider, column: sa.Column[str], present: Set[str], wanted: Set[str]) -> None:
    table, key = column.table, column.table.c.provider_id
    if present - wanted:
        tx.execute(sa.delete(table).where(key == provider.id, column.in_(present - wanted)))
    if wanted - present:
        tx.execute(sa.insert(table), [{"provider_id": provider.id, column.name: value} for value in sorted(wanted - present)])
