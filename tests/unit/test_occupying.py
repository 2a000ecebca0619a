"""What arrival and departure do to a host in memory: the same as if it were written down anew with what then stands on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from lamina.model import capacity
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, VgpuType
from lamina.model.ids import PciAddress
from lamina.model.providers import Inventory, Provider, ProviderTree
from lamina.scheduling.occupying import occupied, vacated
from lamina.scheduling.vgpus import Placed
from lamina.store.hosts import GpuRecord
from lamina.store.snapshots import GpuSnapshot, Snapshot

SMALL, LARGE = VgpuType("11", "nvidia-11", 512, 4), VgpuType("12", "nvidia-12", 1024, 2)
CARD = Gpu(
    address=PciAddress(0, 0x81, 0, 0),
    model="by hand",
    framework=Framework.MDEV,
    partitioning=Partitioning.SAME_SIZE,
    framebuffer_mb=2048,
    types=(SMALL, LARGE),
    enabled_types=(SMALL.name, LARGE.name),
)
OPERATORS = "CUSTOM_RACK_7"
NO_TYPE = dataclasses.replace(CARD, enabled_types=())


def host(layouts: Mapping[str, Layout], vcpus: int, generations: tuple[int, int, int] = (5, 5, 5), card: Gpu = CARD) -> Snapshot:
    """A host with two GPUs, `a` and `b`."""
    first, *others = generations
    root = Provider("r", "r", first, "r", None, {"VCPU": Inventory(8), "DISK_GB": Inventory(9)}, {"VCPU": vcpus, "DISK_GB": 3})
    gpus = {name: GpuSnapshot(GpuRecord("h", CARD.address, name, card, (), present=True), layout) for name, layout in layouts.items()}
    children = []
    for (name, known), generation in zip(gpus.items(), others, strict=True):
        inventory = capacity.gpu_inventory(card, known.layout)
        children.append(
            Provider(
                name,
                name,
                generation,
                "r",
                "r",
                {"VGPU": inventory} if inventory is not None else {},
                {"VGPU": len(known.layout.ours)},
                capacity.gpu_traits(card, known.layout) | {OPERATORS},
            )
        )
    return Snapshot(ProviderTree((root, *children)), None, gpus)


@pytest.mark.parametrize(
    ("vgpu_type", "before", "after"),
    [
        (SMALL, Layout(), Layout((SMALL, SMALL))),
        (LARGE, Layout(), Layout((LARGE, LARGE))),
        (SMALL, Layout((SMALL,)), Layout((SMALL,) * 3)),
        (SMALL, Layout((SMALL,), (SMALL,)), Layout((SMALL,) * 3, (SMALL,))),
    ],
)
@pytest.mark.weakness(682)
def test_two_come_and_two_go(vgpu_type: VgpuType, before: Layout, after: Layout) -> None:
    other = Layout((LARGE,))
    allocations = {"r": {"VCPU": 3}, "a": {"VGPU": 2}}
    placed = [Placed("a", vgpu_type)] * 2
    come = occupied(host({"a": before, "b": other}, 1), allocations, placed)
    assert come == host({"a": after, "b": other}, 4, (6, 6, 5))
    assert vacated(come, allocations, placed) == host({"a": before, "b": other}, 1, (7, 7, 5))


def test_who_has_no_vgpu_leaves_the_gpus_as_they_are() -> None:
    layouts = {"a": Layout((SMALL,)), "b": Layout()}
    assert occupied(host(layouts, 0), {"r": {"VCPU": 2, "DISK_GB": 0}}, ()) == host(layouts, 2, (6, 5, 5))


def test_where_nothing_more_may_be_made_the_last_to_go_leaves_no_inventory() -> None:
    before = host({"a": Layout((SMALL,)), "b": Layout()}, 1, card=NO_TYPE)
    after = vacated(before, {"a": {"VGPU": 1}}, [Placed("a", SMALL)])
    card = after.tree.by_id()["a"]
    assert not card.inventories
    assert card.traits == frozenset({OPERATORS})
