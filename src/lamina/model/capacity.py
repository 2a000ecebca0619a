"""Capacity: what the Placement API shows of a GPU, inventory and traits that follow its layout; and how many more fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from lamina.model import partitioners
from lamina.model.gpus import Gpu, Layout
from lamina.model.providers import Inventory


def gpu_inventory(gpu: Gpu, layout: Layout) -> Inventory | None:
    """The inventory of the GPU's resource class now, or None where nothing may be made on it.

    ``total`` is what stands there and what still fits of the type that fits most often; foreign devices are in
    ``total`` and in ``reserved``. On an empty GPU with types of several sizes it is the most of any of them; the first
    vGPU settles the size and the inventory with it. On a card with slots each vGPU may cost the others more than its own
    place. So capacity less what is used is always what may still be made of the type that fits most often.
    """
    if not gpu.enabled_types:
        return None
    foreign = len(layout.foreign)
    room = max(partitioners.room(gpu, layout, t) for t in gpu.enabled)
    total = len(layout.ours) + room + foreign
    return Inventory(total=total, reserved=foreign, max_unit=total) if total else None


def gpu_traits(gpu: Gpu, layout: Layout) -> frozenset[str]:
    """The traits of the types that may stand beside what is there."""
    return frozenset(t.trait for t in partitioners.offered_types(gpu, layout))


def all_type_traits(gpu: Gpu) -> frozenset[str]:
    """The traits that Lamina itself sets and takes away on this GPU; others are the operator's."""
    return frozenset(t.trait for t in gpu.types)


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """How many more vGPUs of a type (by its name) fit now, and once ours have been moved on each GPU."""

    type: str
    now: int
    repacked: int


def rooms(gpu: Gpu, layout: Layout) -> tuple[Room, ...]:
    """For each enabled type of a GPU, as if no other were made, in the operator's order."""
    return tuple(Room(t.name, partitioners.room(gpu, layout, t), partitioners.room_repacked(gpu, layout, t)) for t in gpu.enabled)


def total(each: Iterable[Room]) -> tuple[Room, ...]:
    """The sum over GPUs, by type, in the order of appearance."""
    sums: dict[str, Room] = {}
    for room in each:
        before = sums.get(room.type, Room(room.type, 0, 0))
        sums[room.type] = Room(room.type, before.now + room.now, before.repacked + room.repacked)
    return tuple(sums.values())
