"""What the demo can show on a fleet: a vGPU type to begin with and one to resize to. Pure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lamina.model.errors import Conflict

Gpu = Mapping[str, Any]

#: servers of the small type that the demo makes, each of which may bind a GPU of its own to its size
SERVERS = 2


@dataclasses.dataclass(frozen=True, slots=True)
class DemoPlan:
    """Two vGPU types of one resource class; where a fleet has but one, `small` and `large` are the same."""

    resource_class: str
    small: str
    large: str

    def held(self, *, small: int, large: int) -> dict[str, int]:
        """Type -> number, with both counted together where the types are one."""
        counts = {self.small: small}
        counts[self.large] = counts.get(self.large, 0) + large
        return counts


@dataclasses.dataclass(frozen=True, slots=True)
class _Offer:
    """A type as the fleet has it: the GPUs with room for it, and the room on each."""

    name: str
    framebuffer_mb: int
    room: dict[tuple[str, str], int]


def plan(gpus: Sequence[Gpu]) -> DemoPlan:
    """Choose types so that, wherever the first servers go, the resize has room. Raises `Conflict` where nothing fits.

    Two types are preferred, of those that most GPUs offer, and the smaller one is the one to begin with.
    """
    classes = sorted({g["resource_class"] for g in gpus}, key=lambda name: (name != "VGPU", name))
    for resource_class in classes:
        offers = sorted(_offers(g for g in gpus if g["resource_class"] == resource_class), key=_commonest)
        for small, large in itertools.product(offers, repeat=2):
            if small.framebuffer_mb < large.framebuffer_mb and _fits(small, large):
                return DemoPlan(resource_class, small.name, large.name)
        for offer in offers:
            if sum(offer.room.values()) > SERVERS:
                return DemoPlan(resource_class, offer.name, offer.name)
    raise Conflict("No GPU here has room for the demo, which needs three vGPUs; delete some servers, or add GPUs to the fleet.")


def _offers(gpus: Iterable[Gpu]) -> list[_Offer]:
    offers: dict[str, _Offer] = {}
    for gpu in gpus:
        for vgpu_type in gpu["types"] if gpu["present"] else ():
            if vgpu_type["enabled"] and vgpu_type["room"] > 0:
                blank = _Offer(vgpu_type["name"], vgpu_type["framebuffer_mb"], {})
                offers.setdefault(vgpu_type["name"], blank).room[gpu["host"], gpu["address"]] = vgpu_type["room"]
    return list(offers.values())


def _commonest(offer: _Offer) -> tuple[int, int, str]:
    return -len(offer.room), offer.framebuffer_mb, offer.name


def _fits(small: _Offer, large: _Offer) -> bool:
    """Whether the small servers have room, and a GPU is left for the large one even if each of them binds one to its size."""
    shared = small.room.keys() & large.room.keys()
    return sum(small.room.values()) >= SERVERS and len(large.room) - min(SERVERS, len(shared)) >= 1
