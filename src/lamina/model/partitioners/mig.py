"""MIG: every vGPU on a GPU instance of its own, which takes some of the card's memory slices from one of fixed starts.

Source: NVIDIA MIG user guide (``nvidia-smi mig -lgip`` and ``-lgipp`` of an A100; H100 has the same profiles with more
memory). A card has 8 memory slices and 7 compute slices; each compute slice lies with a memory slice of its own, so
GPU instances whose memory is apart never want the same compute slice either. The media engines that are given to a ``+me``
profile are there once.
"""

from __future__ import annotations

import dataclasses

from lamina.model.gpus import Gpu, VgpuType
from lamina.model.partitioners.slots import Shape, Slots

#: memory slices of a card
SLICES = 8
_NOWHERE = Shape(1, ())


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """A kind of GPU instance, by NVIDIA's number for it."""

    id: int
    shape: Shape


#: by compute slices, memory slices, and whether it has the media engines
_PROFILES = {
    (1, 1, False): Profile(19, Shape(1, (0, 1, 2, 3, 4, 5, 6))),
    (1, 1, True): Profile(20, Shape(1, (0, 1, 2, 3, 4, 5, 6))),
    (1, 2, False): Profile(15, Shape(2, (0, 2, 4, 6))),
    (2, 2, False): Profile(14, Shape(2, (0, 2, 4))),
    (3, 4, False): Profile(9, Shape(4, (0, 4))),
    (4, 4, False): Profile(5, Shape(4, (0,))),
    (7, 8, False): Profile(0, Shape(8, (0,))),
}


def profile(gpu: Gpu, vgpu_type: VgpuType) -> Profile | None:
    """The GPU instance that a type stands on, told by its name and its share of the card's memory; None for types without."""
    if not vgpu_type.mig_backed:
        return None
    memory = round(vgpu_type.framebuffer_mb * SLICES / gpu.framebuffer_mb)
    return _PROFILES.get((vgpu_type.slices, memory, vgpu_type.name.endswith("ME")))


def shape(gpu: Gpu, vgpu_type: VgpuType) -> Shape:
    found = profile(gpu, vgpu_type)
    return found.shape if found is not None else _NOWHERE


MIG = Slots(lambda gpu: SLICES, shape)
