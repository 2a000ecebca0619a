"""Resource providers as values: inventories with exact arithmetic, trees, and what a candidate would take from them.

Rules as in the Placement API reference ("Resource provider inventories", "Allocation candidates").
"""

from __future__ import annotations

import dataclasses
import fractions
import functools
from collections.abc import Iterable, Mapping

from lamina.model.errors import BadRequest

#: Placement's bound on every integer of an inventory (the column of the reference implementation is a signed 32-bit one)
MOST = 2**31 - 1
#: the greatest single precision float, Placement's bound on the ratio
MOST_RATIO = 3.40282e38


@dataclasses.dataclass(frozen=True, slots=True)
class Inventory:
    """How much of one resource class a provider has."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = MOST
    step_size: int = 1
    allocation_ratio: float = 1.0

    def __post_init__(self) -> None:
        for field, least in (("total", 1), ("reserved", 0), ("min_unit", 1), ("max_unit", 1), ("step_size", 1)):
            value = getattr(self, field)
            if not least <= value <= MOST:
                raise BadRequest(f"{field}: {value} is outside {least}..{MOST}")
        if self.reserved > self.total:
            raise BadRequest(f"reserved: {self.reserved} is more than the total of {self.total}")
        if not 0 < self.allocation_ratio <= MOST_RATIO:
            raise BadRequest(f"allocation_ratio: {self.allocation_ratio} is not a positive number")

    @property
    def capacity(self) -> int:
        """(total - reserved) * allocation_ratio, rounded down, without float error: 15 * 8.2 is 123, not 122."""
        if self.allocation_ratio == 1:
            return self.total - self.reserved
        return _capacity(self.total - self.reserved, self.allocation_ratio)

    def refuses(self, amount: int, used: int) -> str | None:
        """Why `amount` more cannot be taken beside `used`, or None. The first rule broken is told."""
        misfit = self.misfit(amount)
        if misfit is None and used + amount > self.capacity:
            return f"{amount} does not fit: {used} of {self.capacity} are used"
        return misfit

    def misfit(self, amount: int) -> str | None:
        """Why `amount` is one that nobody can take at a time, or None."""
        if amount < self.min_unit:
            return f"{amount} is less than the min_unit of {self.min_unit}"
        if amount > self.max_unit:
            return f"{amount} is more than the max_unit of {self.max_unit}"
        if amount % self.step_size:
            return f"{amount} is not a multiple of the step_size of {self.step_size}"
        return None


@functools.lru_cache(maxsize=4096)
def _capacity(amount: int, ratio: float) -> int:
    return int(amount * fractions.Fraction(repr(ratio)))


@dataclasses.dataclass(frozen=True, slots=True)
class Provider:
    """One resource provider with everything that scheduling asks of it. ``used`` has a figure for every inventory."""

    id: str
    name: str
    generation: int
    root_id: str
    parent_id: str | None = None
    inventories: Mapping[str, Inventory] = dataclasses.field(default_factory=dict)
    used: Mapping[str, int] = dataclasses.field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    aggregates: frozenset[str] = frozenset()
    #: seconds since the epoch of the last change to it, its inventories, traits, aggregates or allocations
    updated_at: float = 0.0

    def refuses(self, resource_class: str, amount: int) -> str | None:
        """Why `amount` of the class cannot be taken here now, or None."""
        inventory = self.inventories.get(resource_class)
        if inventory is None:
            return f"no inventory of {resource_class}"
        return inventory.refuses(amount, self.used.get(resource_class, 0))


@dataclasses.dataclass(frozen=True, slots=True)
class ProviderTree:
    """A root provider (a host) and everything below it, in a stable order: parents first, then by name."""

    providers: tuple[Provider, ...]

    @property
    def root(self) -> Provider:
        return self.providers[0]

    def below(self, provider_id: str) -> frozenset[str]:
        """Ids of the provider and of all its descendants."""
        found = {provider_id}
        for provider in self.providers:
            if provider.parent_id in found:
                found.add(provider.id)
        return frozenset(found)

    def by_id(self) -> dict[str, Provider]:
        return {p.id: p for p in self.providers}


def trees_of(providers: Iterable[Provider]) -> list[ProviderTree]:
    """Group providers by root; roots ordered by name, members parents first."""
    by_root: dict[str, list[Provider]] = {}
    for provider in providers:
        by_root.setdefault(provider.root_id, []).append(provider)
    trees = []
    for root_id, members in by_root.items():
        children: dict[str | None, list[Provider]] = {}
        for member in sorted(members, key=lambda p: p.name):
            children.setdefault(member.parent_id, []).append(member)
        ordered = [p for p in members if p.id == root_id]
        for parent in ordered:
            ordered.extend(children.get(parent.id, ()))
        trees.append(ProviderTree(tuple(ordered)))
    return sorted(trees, key=lambda tree: tree.root.name)


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One way to satisfy a request within one tree.

    ``allocations`` maps provider id -> resource class -> amount; ``mappings`` maps a group's suffix to the ids of the
    providers that satisfy it (Placement microversion 1.34).
    """

    root_id: str
    allocations: Mapping[str, Mapping[str, int]]
    mappings: Mapping[str, tuple[str, ...]]
