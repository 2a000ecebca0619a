"""Partitioners: which layouts of vGPUs one GPU allows. Pure arithmetic over a `Gpu` and a `Layout`.

One module for each way to cut a GPU; here are the questions that everybody asks, whatever the way. All take and give
hashable values, so that a caller may remember answers.
"""

from __future__ import annotations

from lamina.model.gpus import Gpu, Layout, Partitioning, Spot, VgpuType
from lamina.model.partitioners.mig import MIG
from lamina.model.partitioners.mixed_size import MIXED_SIZE
from lamina.model.partitioners.rule import MOST_VGPUS, Partitioner
from lamina.model.partitioners.same_size import SameSize
from lamina.model.partitioners.shared_pool import SharedPool

__all__ = [
    "MOST_VGPUS",
    "Partitioner",
    "best_start",
    "can_be_made",
    "fill",
    "kernel_room",
    "offered_types",
    "partitioner_of",
    "placements",
    "room",
    "room_repacked",
    "slots",
]

_PARTITIONERS: dict[Partitioning, Partitioner] = {
    Partitioning.SAME_SIZE: SameSize(),
    Partitioning.MIXED_SIZE: MIXED_SIZE,
    Partitioning.MIG: MIG,
    Partitioning.SHARED_POOL: SharedPool(),
}


def partitioner_of(gpu: Gpu) -> Partitioner:
    return _PARTITIONERS[gpu.partitioning]


def kernel_room(gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
    """How many more of this type the kernel would make: the card's rule and its free VFs, whatever the operator's limit."""
    return _on_free_functions(gpu, layout, partitioner_of(gpu).room(gpu, layout, vgpu_type))


def room(gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
    """How many more of this type Lamina may make: the kernel's room and the operator's limit; 0 for a type not enabled."""
    return _allowed(gpu, layout, vgpu_type, partitioner_of(gpu).room(gpu, layout, vgpu_type))


def room_repacked(gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
    """`room` after ours have been moved on this GPU to where they leave most for this type; never less than `room`."""
    return _allowed(gpu, layout, vgpu_type, partitioner_of(gpu).room_repacked(gpu, layout, vgpu_type))


def _on_free_functions(gpu: Gpu, layout: Layout, left: int) -> int:
    if gpu.virtual_functions is not None:
        left = min(left, gpu.virtual_functions - len(layout.all))
    return max(0, left)


def _allowed(gpu: Gpu, layout: Layout, vgpu_type: VgpuType, left: int) -> int:
    if vgpu_type.name not in gpu.enabled_types:
        return 0
    if gpu.max_instances is not None:
        left = min(left, gpu.max_instances - len(layout.ours))
    return _on_free_functions(gpu, layout, left)


def slots(gpu: Gpu) -> int | None:
    """How many slots its memory has, or None on a card where it makes no difference where a vGPU stands."""
    return partitioner_of(gpu).slots(gpu)


def placements(gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> tuple[int, ...]:
    """The slots at which the card would let one of this type start now, ascending; none on a card that has no slots."""
    return partitioner_of(gpu).placements(gpu, layout, vgpu_type)


def best_start(gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int | None:
    """Of `placements` the one that leaves most room to the enabled types, or None on a card that has no slots."""
    return partitioner_of(gpu).best_start(gpu, layout, vgpu_type)


def can_be_made(gpu: Gpu, vgpu_type: VgpuType) -> bool:
    """Whether the card, cut as it is, ever makes this type: MIG-backed ones in MIG mode, no others there."""
    return gpu.partitioning is Partitioning.SHARED_POOL or vgpu_type.mig_backed == (gpu.partitioning is Partitioning.MIG)


def offered_types(gpu: Gpu, layout: Layout) -> tuple[VgpuType, ...]:
    """The enabled types that the layout does not forbid, in the operator's order of preference."""
    rule = partitioner_of(gpu)
    return tuple(t for t in gpu.enabled if rule.offered(gpu, layout, t))


def fill(gpu: Gpu, layout: Layout, choices: tuple[VgpuType, ...], count: int) -> tuple[Spot, ...] | None:
    """Spots for `count` more vGPUs of one request, all of one type, or None.

    Taken is the type that stands on the GPU already, so that an empty GPU is not bound for nothing, else the first of
    `choices` (the operator's order) that has room for all. Each goes to its `best_start` after those before it.
    """
    standing = {t.name for t in layout.ours}
    for vgpu_type in sorted(choices, key=lambda t: t.name not in standing):
        if room(gpu, layout, vgpu_type) >= count:
            return _spots(gpu, layout, vgpu_type, count)
    return None


def _spots(gpu: Gpu, layout: Layout, vgpu_type: VgpuType, count: int) -> tuple[Spot, ...]:
    spots: list[Spot] = []
    for _ in range(count):
        spot = Spot(vgpu_type, best_start(gpu, layout, vgpu_type))
        layout = layout.plus(*spot)
        spots.append(spot)
    return tuple(spots)
