"""Mixed-size mode: time-sliced vGPUs of several sizes, each at one of the starts that the driver has fixed for its size.

A slot is 1 GiB of framebuffer. The lists are computed as the driver does (NVIDIA/open-gpu-kernel-modules,
kernel_vgpu_mgr.c, heterogeneous mode): up to Hopper a size has as many places as the largest power of two of it that
fits; the places are halved parts of the card, of which the even ones are used from their lower end and the odd ones up to
their upper end, so that two neighbours leave one gap between them. From Blackwell on nothing is halved.
"""

from __future__ import annotations

import functools

from lamina.model.gpus import Gpu, VgpuType
from lamina.model.partitioners.slots import Shape, Slots

SLOT_MB = 1024
#: the generations whose lists are not halved
_UNHALVED = ("blackwell",)
#: the generations whose lists of 1 GiB types have half as many places
_FEWER_SMALLEST = ("ada", "hopper")


def slots(gpu: Gpu) -> int:
    return gpu.framebuffer_mb // SLOT_MB


def shape(gpu: Gpu, vgpu_type: VgpuType) -> Shape:
    """What a time-sliced type takes; a MIG-backed one cannot be made."""
    size = -(-vgpu_type.framebuffer_mb // SLOT_MB)
    return Shape(size, () if vgpu_type.mig_backed else starts(gpu.generation, slots(gpu), size))


@functools.cache
def starts(generation: str, region: int, size: int) -> tuple[int, ...]:
    """The slots at which a type of `size` may start in a `region` of so many."""
    most = region // size
    if not most:
        return ()
    if generation in _UNHALVED:
        return tuple(region * place // most for place in range(most))
    places = 1 << (most.bit_length() - 1)
    if size == 1 and generation in _FEWER_SMALLEST:
        places = max(1, places // 2)
    found = (place * region // places if place % 2 == 0 else (place + 1) * region // places - size for place in range(places))
    if size == 1 and generation not in _FEWER_SMALLEST:
        # one in sixteen is left out: slot 8 of every 24, or of every 16 where the card is no multiple of 24
        period = 16 if region % 24 else 24
        return tuple(start for start in found if start % period != 8)
    return tuple(found)


MIXED_SIZE = Slots(slots, shape)
