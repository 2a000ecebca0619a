"""What every way to cut a GPU answers."""

from __future__ import annotations

from typing import Protocol

from lamina.model.gpus import Gpu, Layout, VgpuType

#: most vGPUs the driver makes on one GPU outside MIG mode
MOST_VGPUS = 32


class Partitioner(Protocol):
    """The rule of one way to cut a GPU: the card's own word, whatever its VFs and the operator allow."""

    def room(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        """How many more vGPUs of this type the card itself would take now, never negative."""
        ...

    def room_repacked(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        """The same, were ours first moved on this GPU to where they leave most room; the foreign stay where they are."""
        ...

    def offered(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> bool:
        """Whether this type may stand beside what is there: the card is not bound to another size, no slots are in the way."""
        ...

    def slots(self, gpu: Gpu) -> int | None:
        """How many slots the GPU has, or None where it makes no difference where a vGPU stands."""
        ...

    def placements(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> tuple[int, ...]:
        """The slots at which one of this type could start now, ascending; none on a card that has no slots."""
        ...

    def best_start(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int | None:
        """Of `placements` the one to take, or None where there is none."""
        ...
