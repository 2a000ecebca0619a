"""Same-size mode: time-sliced vGPUs of one framebuffer size on a GPU.

Source: NVIDIA/open-gpu-kernel-modules, kernel_vgpu_mgr.c (homogeneous mode).
"""

from __future__ import annotations

from lamina.model.gpus import Gpu, Layout, VgpuType
from lamina.model.partitioners.rule import MOST_VGPUS


class SameSize:
    """The first vGPU fixes the framebuffer size until the last one goes; series of one size may share the GPU."""

    def offered(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> bool:
        return not vgpu_type.mig_backed and all(other.framebuffer_mb == vgpu_type.framebuffer_mb for other in layout.all)

    def room(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        if not self.offered(gpu, layout, vgpu_type):
            return 0
        return max(0, min(vgpu_type.max_instances, MOST_VGPUS) - len(layout.all))

    def room_repacked(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        """Where a vGPU stands makes no difference to the others."""
        return self.room(gpu, layout, vgpu_type)

    def slots(self, gpu: Gpu) -> int | None:
        return None

    def placements(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> tuple[int, ...]:
        return ()

    def best_start(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int | None:
        return None
