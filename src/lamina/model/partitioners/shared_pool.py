"""Shared pool: types of every size eat from one framebuffer.

Sources: the kernel's mbochs and mtty samples, i915 GVT-g.
"""

from __future__ import annotations

from lamina.model.gpus import Gpu, Layout, VgpuType


class SharedPool:
    """Memory that any part of serves any vGPU: nothing fragments."""

    def offered(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> bool:
        return self.room(gpu, layout, vgpu_type) > 0

    def room(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        free = gpu.framebuffer_mb - sum(other.framebuffer_mb for other in layout.all)
        same = sum(1 for other in layout.all if other.name == vgpu_type.name)
        return max(0, min(free // vgpu_type.framebuffer_mb, vgpu_type.max_instances - same))

    def room_repacked(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        return self.room(gpu, layout, vgpu_type)

    def slots(self, gpu: Gpu) -> int | None:
        return None

    def placements(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> tuple[int, ...]:
        return ()

    def best_start(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int | None:
        return None
