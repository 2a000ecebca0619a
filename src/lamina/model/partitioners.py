"""Partitioners: which layouts of vGPUs one GPU allows. Pure arithmetic over a `Gpu` and a `Layout`.

Sources: the driver's own rules as read in NVIDIA/open-gpu-kernel-modules (kernel_vgpu_mgr.c: homogeneous mode, the
limit of 32 vGPUs on a GPU that is not in MIG mode); the pool rule of the kernel's mbochs sample and of i915 GVT-g.
"""

from __future__ import annotations

from typing import Protocol

from lamina.model.gpus import Gpu, Layout, Partitioning, VgpuType

#: most vGPUs the driver makes on one GPU outside MIG mode
MOST_VGPUS = 32


class Partitioner(Protocol):
    """The rule of one way to cut a GPU."""

    def room(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        """How many more vGPUs of this type the card itself would take now, never negative."""
        ...

    def offered(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> bool:
        """Whether this type may stand beside what is there, were there room: the card is not bound to another size."""
        ...


class SameSize:
    """The first vGPU fixes the framebuffer size until the last one goes; series of one size may share the GPU."""

    def offered(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> bool:
        return all(other.framebuffer_mb == vgpu_type.framebuffer_mb for other in layout.all)

    def room(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        if not self.offered(gpu, layout, vgpu_type):
            return 0
        return max(0, min(vgpu_type.max_instances, MOST_VGPUS) - len(layout.all))


class SharedPool:
    """Types of every size eat from one framebuffer."""

    def offered(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> bool:
        return True

    def room(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        free = gpu.framebuffer_mb - sum(other.framebuffer_mb for other in layout.all)
        same = sum(1 for other in layout.all if other.name == vgpu_type.name)
        return max(0, min(free // vgpu_type.framebuffer_mb, vgpu_type.max_instances - same))


_PARTITIONERS: dict[Partitioning, Partitioner] = {
    Partitioning.SAME_SIZE: SameSize(),
    Partitioning.SHARED_POOL: SharedPool(),
}


def partitioner_of(gpu: Gpu) -> Partitioner:
    return _PARTITIONERS[gpu.partitioning]


def kernel_room(gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
    """How many more of this type the kernel would make: the card's rule and its free VFs, whatever the operator's limit."""
    room = partitioner_of(gpu).room(gpu, layout, vgpu_type)
    if gpu.virtual_functions is not None:
        room = min(room, gpu.virtual_functions - len(layout.all))
    return max(0, room)


def room(gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
    """How many more of this type Lamina may make: the kernel's room and the operator's limit; 0 for a type not enabled."""
    if vgpu_type.name not in gpu.enabled_types:
        return 0
    left = kernel_room(gpu, layout, vgpu_type)
    if gpu.max_instances is not None:
        left = min(left, gpu.max_instances - len(layout.ours))
    return max(0, left)


def offered_types(gpu: Gpu, layout: Layout) -> tuple[VgpuType, ...]:
    """The enabled types that the layout does not forbid, in the operator's order of preference."""
    rule = partitioner_of(gpu)
    return tuple(t for t in gpu.enabled if rule.offered(gpu, layout, t))


def fill(gpu: Gpu, layout: Layout, choices: tuple[VgpuType, ...], count: int) -> tuple[VgpuType, ...] | None:
    """Types for `count` more vGPUs of one request, all of one type, or None.

    Taken is the type that stands on the GPU already, so that an empty GPU is not bound for nothing, else the first of
    `choices` (the operator's order) that has room for all.
    """
    standing = {t.name for t in layout.ours}
    for vgpu_type in sorted(choices, key=lambda t: t.name not in standing):
        if room(gpu, layout, vgpu_type) >= count:
            return (vgpu_type,) * count
    return None
