"""Allocations: who holds what, replaced as a whole for each consumer.

A replacement is judged on its net result: what the consumers of the call held before is free again first. Every
provider touched proves by its generation that it did not change between the judgement and the writing, in the order
of the ids, so that two writers cannot wait for each other in a ring. Rules as in the Placement API reference, "Allocations".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from lamina.model.errors import BadRequest, ConcurrentUpdate, Conflict
from lamina.model.providers import Inventory, Provider
from lamina.store import providers
from lamina.store.tables.placement import allocations, consumers
from lamina.store.tables.placement import providers as providers_table
from lamina.store.tree_changes import What

#: provider id -> resource class -> amount
Amounts = Mapping[str, Mapping[str, int]]

#: the type of a consumer of whom nobody said it
UNKNOWN = "unknown"


class _Any:
    """The type of `ANY`."""


#: as a consumer's generation: whatever it is
ANY: Final = _Any()


@dataclasses.dataclass(frozen=True, slots=True)
class Consumer:
    """Somebody who holds allocations."""

    id: str
    project_id: str
    user_id: str
    type: str
    generation: int
    allocations: Amounts


@dataclasses.dataclass(frozen=True, slots=True)
class Replacement:
    """What one consumer shall hold from now on. ``generation`` None: nobody has it yet. ``type`` None: as it is."""

    consumer_id: str
    allocations: Amounts
    project_id: str
    user_id: str
    type: str | None = None
    generation: int | _Any | None = ANY


_HELD = (
    sa.select(consumers, allocations.c.provider_id, allocations.c.resource_class, allocations.c.used)
    .join_from(consumers, allocations, isouter=True)
    .where(consumers.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(consumers.c.id, allocations.c.provider_id, allocations.c.resource_class)
)
_HELD_LOCKED = _HELD.with_for_update(of=consumers)


def find(tx: sa.Connection, consumer_ids: Iterable[str], *, lock: bool = False) -> dict[str, Consumer]:
    """Those of the consumers who hold something, with what they hold.

    With `lock` they stay as they are to the end of the transaction; a generation alone would not tell a consumer from
    one of the same id that was removed and made anew.
    """
    found: dict[str, Consumer] = {}
    held: dict[str, dict[str, dict[str, int]]] = {}
    for row in tx.execute(_HELD_LOCKED if lock else _HELD, {"ids": sorted(set(consumer_ids))}):
        if row.id not in found:
            found[row.id] = Consumer(row.id, row.project_id, row.user_id, row.type, row.generation, held.setdefault(row.id, {}))
        if row.provider_id is not None:
            held[row.id].setdefault(row.provider_id, {})[row.resource_class] = row.used
    return found


def of_consumer(tx: sa.Connection, consumer_id: str) -> Consumer | None:
    """What a consumer holds, or None where it holds nothing."""
    return find(tx, [consumer_id]).get(consumer_id)


def of_provider(tx: sa.Connection, provider_id: str) -> list[Consumer]:
    """Everybody who holds something on this provider, with what they hold on it, ordered by id."""
    query = sa.select(consumers, allocations.c.resource_class, allocations.c.used).join_from(allocations, consumers)
    rows = tx.execute(query.where(allocations.c.provider_id == provider_id).order_by(consumers.c.id, allocations.c.resource_class))
    held: dict[str, Consumer] = {}
    amounts: dict[str, dict[str, int]] = {}
    for row in rows:
        amounts.setdefault(row.id, {})[row.resource_class] = row.used
        held[row.id] = Consumer(row.id, row.project_id, row.user_id, row.type, row.generation, {provider_id: amounts[row.id]})
    return list(held.values())


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What the consumers of one type hold together."""

    consumers: int
    amounts: Mapping[str, int]


def usages(tx: sa.Connection, project_id: str, user_id: str | None = None, consumer_type: str | None = None) -> dict[str, Usage]:
    """Consumer type -> what a project's (and user's) consumers of it hold, over all providers."""
    conditions = [consumers.c.project_id == project_id]
    if user_id is not None:
        conditions.append(consumers.c.user_id == user_id)
    if consumer_type is not None:
        conditions.append(consumers.c.type == consumer_type)
    counted = sa.select(consumers.c.type, sa.func.count()).where(*conditions).group_by(consumers.c.type)
    key = (consumers.c.type, allocations.c.resource_class)
    summed = sa.select(*key, sa.func.sum(allocations.c.used)).join_from(allocations, consumers).where(*conditions).group_by(*key)
    amounts: dict[str, dict[str, int]] = {}
    for held_by, name, amount in tx.execute(summed.order_by(*key)):
        amounts.setdefault(held_by, {})[name] = int(amount)
    return {held_by: Usage(count, amounts.get(held_by, {})) for held_by, count in tx.execute(counted.order_by(consumers.c.type))}


def replace(
    tx: sa.Connection,
    consumer_id: str,
    wanted: Amounts,
    *,
    project_id: str,
    user_id: str,
    consumer_type: str | None,
    consumer_generation: int | _Any | None = ANY,
    known: Mapping[str, Provider] | None = None,
    now: float,
) -> None:
    """Make `wanted` everything that one consumer holds; see `replace_many`."""
    replacement = Replacement(consumer_id, wanted, project_id, user_id, consumer_type, consumer_generation)
    replace_many(tx, [replacement], known=known, now=now)


def replace_many(
    tx: sa.Connection, replacements: Sequence[Replacement], *, known: Mapping[str, Provider] | None = None, now: float
) -> None:
    """Replace what several consumers hold, all or nothing, each consumer at most once.

    `known` are the providers that the caller decided on, by id; others are read. Raises `BadRequest` for a provider that
    does not exist, `Conflict` for what does not fit, `ConcurrentUpdate` where a consumer or a provider has changed.
    """
    before = find(tx, (r.consumer_id for r in replacements), lock=True)
    for replacement in replacements:
        _must_be_at(replacement, before.get(replacement.consumer_id))
    freed = summed(consumer.allocations for consumer in before.values())
    touched = freed.keys() | {provider_id for r in replacements for provider_id in r.allocations}
    known = known or {}
    unknown = sorted(touched - known.keys())
    if unknown:
        providers.hold(tx, unknown)
        known = {**known, **providers.stock(tx, unknown)}
    for replacement in replacements:
        _must_exist(replacement, known)
    _must_fit(replacements, known, freed)

    raised = _raised(replacements, before)
    for provider_id in raised:
        providers.bump_generation(tx, provider_id, known[provider_id].generation, now, What.USAGE)
    providers.note_freed(tx, touched.difference(raised))
    if before:
        tx.execute(sa.delete(allocations).where(allocations.c.consumer_id.in_(before)))
    for replacement in sorted(replacements, key=lambda r: r.consumer_id):
        _write(tx, replacement, before.get(replacement.consumer_id))


def reshape(
    tx: sa.Connection,
    shapes: Sequence[tuple[Provider, Mapping[str, Inventory]]],
    replacements: Sequence[Replacement],
    *,
    now: float,
) -> None:
    """Give providers other inventories and consumers other allocations of them, all or nothing.

    What goes from a provider goes last, when nobody holds it any more. Raises as `replace_many` and
    `providers.set_inventories` do.
    """
    for provider, wanted in shapes:
        if not wanted:
            continue
        providers.set_inventories(tx, provider, {**provider.inventories, **wanted}, now=now)
    replace_many(tx, replacements, now=now)
    for provider, wanted in shapes:
        providers.set_inventories(tx, providers.get(tx, provider.id), wanted, now=now)


def _raised(replacements: Sequence[Replacement], before: Mapping[str, Consumer]) -> list[str]:
    """The providers whose generations rise, in the order of their ids: those that are allocated of, and those of a consumer that
    is emptied. A provider that is only given back keeps its generation, as in Placement.
    """
    raised: set[str] = set()
    for replacement in replacements:
        emptied = None if replacement.allocations else before.get(replacement.consumer_id)
        raised |= emptied.allocations.keys() if emptied else replacement.allocations.keys()
    return sorted(raised)


def _must_be_at(replacement: Replacement, consumer: Consumer | None) -> None:
    expected = replacement.generation
    if isinstance(expected, _Any):
        return
    actual = consumer.generation if consumer else None
    if actual != expected:
        is_now, given = ("null" if one is None else str(one) for one in (actual, expected))
        raise ConcurrentUpdate(f"consumer generation conflict - expected {is_now} but got {given} for {replacement.consumer_id}")


def _must_exist(replacement: Replacement, known: Mapping[str, Provider]) -> None:
    for provider_id in replacement.allocations:
        if provider_id not in known:
            raise BadRequest(f"Allocation for resource provider '{provider_id}' that does not exist.")


def summed(several: Iterable[Amounts]) -> dict[str, dict[str, int]]:
    """All of them together."""
    total: dict[str, dict[str, int]] = {}
    for amounts in several:
        for provider_id, of_class in amounts.items():
            sums = total.setdefault(provider_id, {})
            for name, amount in of_class.items():
                sums[name] = sums.get(name, 0) + amount
    return total


def _must_fit(replacements: Sequence[Replacement], known: Mapping[str, Provider], freed: Amounts) -> None:
    taken: dict[tuple[str, str], int] = {}
    for replacement in replacements:
        for provider_id, of_class in sorted(replacement.allocations.items()):
            provider = known[provider_id]
            for name, amount in sorted(of_class.items()):
                key = (provider_id, name)
                used = provider.used.get(name, 0) - freed.get(provider_id, {}).get(name, 0) + taken.get(key, 0)
                inventory = provider.inventories.get(name)
                what = f"'{name}' on resource provider '{provider_id}'"
                if inventory is None:
                    raise Conflict(f"Unable to allocate inventory: Inventory for {what} does not exist.")
                # less than before is no worse than before, where an inventory has become smaller than what is held of it
                less = used + amount <= provider.used.get(name, 0)
                refused = inventory.misfit(amount) if less else inventory.refuses(amount, used)
                if refused is not None:
                    raise Conflict(
                        f"Unable to allocate inventory: Unable to create allocation for {what}. "
                        f"The requested amount would exceed the capacity or break its rules: {refused}."
                    )
                taken[key] = taken.get(key, 0) + amount


_NEW_CONSUMER = sa.insert(consumers)
_NEW_ALLOCATIONS = sa.insert(allocations)


def _write(tx: sa.Connection, replacement: Replacement, before: Consumer | None) -> None:
    consumer_id = replacement.consumer_id
    rows = [
        {"consumer_id": consumer_id, "provider_id": provider_id, "resource_class": name, "used": amount}
        for provider_id, of_class in sorted(replacement.allocations.items())
        for name, amount in sorted(of_class.items())
    ]
    whose = {"project_id": replacement.project_id, "user_id": replacement.user_id}
    if before is None:
        if rows:
            _insert_consumer(tx, {"id": consumer_id, **whose, "type": replacement.type or UNKNOWN})
    else:
        same = (consumers.c.id == consumer_id) & (consumers.c.generation == before.generation)
        if rows:
            changed = {**whose, "type": replacement.type or before.type, "generation": before.generation + 1}
            matched = tx.execute(sa.update(consumers).where(same).values(changed)).rowcount
        else:
            matched = tx.execute(sa.delete(consumers).where(same)).rowcount
        if matched == 0:
            raise ConcurrentUpdate(f"consumer generation conflict: {consumer_id} is no longer at generation {before.generation}")
    if rows:
        tx.execute(_NEW_ALLOCATIONS, rows)


def _insert_consumer(tx: sa.Connection, row: Mapping[str, str]) -> None:
    try:
        tx.execute(_NEW_CONSUMER, {**row, "generation": 1})
    except sa.exc.IntegrityError as error:
        raise ConcurrentUpdate(f"consumer generation conflict: {row['id']} was made by somebody else just now") from error


def remove(tx: sa.Connection, consumer_id: str) -> bool:
    """Give back all that a consumer holds; whether there was any. Raises `ConcurrentUpdate`."""
    before = find(tx, [consumer_id], lock=True).get(consumer_id)
    if before is None:
        return False
    providers.note_freed(tx, before.allocations)
    tx.execute(sa.delete(allocations).where(allocations.c.consumer_id == consumer_id))
    _write(tx, Replacement(consumer_id, {}, before.project_id, before.user_id), before)
    return True


def move(tx: sa.Connection, from_consumer: str, to_consumer: str, *, consumer_type: str, now: float) -> None:
    """Let `to_consumer`, who holds nothing, hold what `from_consumer` holds; moving nothing is no error.

    The usage of every provider stays as it is, so nothing is judged anew. Raises `Conflict` where `to_consumer` holds
    something, `ConcurrentUpdate`.
    """
    held = find(tx, [from_consumer, to_consumer], lock=True)
    if to_consumer in held:
        raise Conflict(f"Consumer {to_consumer} already holds allocations.")
    before = held.get(from_consumer)
    if before is None:
        return
    provider_ids = sorted(before.allocations)
    query = sa.select(providers_table.c.id, providers_table.c.generation).where(providers_table.c.id.in_(provider_ids))
    providers.hold(tx, provider_ids)
    generations = {row.id: row.generation for row in tx.execute(query)}
    for provider_id in provider_ids:
        providers.bump_generation(tx, provider_id, generations[provider_id], now, What.USAGE)
    _insert_consumer(tx, {"id": to_consumer, "project_id": before.project_id, "user_id": before.user_id, "type": consumer_type})
    tx.execute(sa.update(allocations).where(allocations.c.consumer_id == from_consumer).values(consumer_id=to_consumer))
    same = (consumers.c.id == from_consumer) & (consumers.c.generation == before.generation)
    if tx.execute(sa.delete(consumers).where(same)).rowcount == 0:
        raise ConcurrentUpdate(f"consumer generation conflict: {from_consumer} is no longer at generation {before.generation}")
