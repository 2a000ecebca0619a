"""Cards with slots: mixed-size and MIG, against exhaustive search on small cards and against the lists of the driver."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.model import capacity, catalog, partitioners
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, Spot, VgpuType
from lamina.model.ids import PciAddress
from lamina.model.partitioners import mig, mixed_size
from lamina.model.partitioners.slots import Shape, most_packed

ADDRESS = PciAddress(0, 0x81, 0, 0)
GENERATIONS = ("ampere", "ada", "hopper", "blackwell")


def card(key: str, partitioning: Partitioning, *enabled: str, max_instances: int | None = None) -> Gpu:
    """A card of the catalog; with no word for a type, every type that can be made is enabled."""
    known = catalog.card(key)
    assert partitioning in known.cuts(Framework.VFIO)
    gpu = Gpu(
        address=ADDRESS,
        model=known.board,
        framework=Framework.VFIO,
        partitioning=partitioning,
        framebuffer_mb=known.framebuffer_mb,
        types=known.types,
        enabled_types=(),
        max_instances=max_instances,
        virtual_functions=known.virtual_functions,
        generation=known.generation,
    )
    names = (t.name for t in known.types if partitioners.can_be_made(gpu, t) and (not enabled or t.name.split("-", 1)[1] in enabled))
    return Gpu(**{f: getattr(gpu, f) for f in gpu.__dataclass_fields__} | {"enabled_types": tuple(names)})


# ---------------------------------------------------------------------------------------------------- the driver's lists


def multiples(step: int, below: int) -> tuple[int, ...]:
    return tuple(range(0, below, step))


ONE_OF_48 = (0, 2, 3, 5, 6, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24, 26, 27, 29, 30, 33, 35, 36, 38, 39, 41, 42, 44, 45, 47)
ONE_OF_48_ADA = (0, 5, 6, 11, 12, 17, 18, 23, 24, 29, 30, 35, 36, 41, 42, 47)
TWO_OF_48 = (0, 4, 6, 10, 12, 16, 18, 22, 24, 28, 30, 34, 36, 40, 42, 46)
OF_48 = {
    2: TWO_OF_48,
    3: multiples(3, 48),
    4: (0, 8, 12, 20, 24, 32, 36, 44),
    6: multiples(6, 48),
    8: (0, 16, 24, 40),
    12: (0, 12, 24, 36),
    16: (0, 32),
    24: (0, 24),
    48: (0,),
}
OF_24 = {
    2: (0, 4, 6, 10, 12, 16, 18, 22),
    3: multiples(3, 24),
    4: (0, 8, 12, 20),
    6: (0, 6, 12, 18),
    8: (0, 16),
    12: (0, 12),
    24: (0,),
}
OF_16 = {1: tuple(s for s in range(16) if s != 8), 2: multiples(2, 16), 4: multiples(4, 16), 8: (0, 8), 16: (0,)}
OF_80 = {
    4: (0, 6, 10, 16, 20, 26, 30, 36, 40, 46, 50, 56, 60, 66, 70, 76),
    8: (0, 12, 20, 32, 40, 52, 60, 72),
    10: multiples(10, 80),
    16: (0, 24, 40, 64),
    20: multiples(20, 80),
    40: (0, 40),
    80: (0,),
}
#: as the driver computes them (NVIDIA/open-gpu-kernel-modules 595.45.04)
STARTS = {
    "nvidia-a40": {1: ONE_OF_48} | OF_48,
    "nvidia-l40": {1: ONE_OF_48_ADA} | OF_48,
    "nvidia-l40s": {1: ONE_OF_48_ADA} | OF_48,
    "nvidia-rtx-6000-ada": {1: ONE_OF_48_ADA} | OF_48,
    "nvidia-a10": {1: (0, 2, 3, 5, 6, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23)} | OF_24,
    "nvidia-l4": {1: (0, 5, 6, 11, 12, 17, 18, 23)} | OF_24,
    "nvidia-a16": OF_16,
    "nvidia-a2": OF_16,
    "nvidia-a100-40gb": {
        4: (0, 6, 10, 16, 20, 26, 30, 36),
        5: multiples(5, 40),
        8: (0, 12, 20, 32),
        10: multiples(10, 40),
        20: (0, 20),
        40: (0,),
    },
    "nvidia-a100-80gb": OF_80,
    "nvidia-h100-pcie": OF_80 | {5: multiples(5, 80)},
    "nvidia-rtx-pro-6000": {size: multiples(size, 96) for size in (3, 4, 6, 8, 12, 16, 24, 32, 48, 96)},
}


def test_every_card_that_can_be_cut_into_mixed_sizes_is_in_the_drivers_table() -> None:
    assert STARTS.keys() == {c.key for c in catalog.cards().values() if Partitioning.MIXED_SIZE in c.cuts(Framework.VFIO)}


@pytest.mark.parametrize("key", STARTS)
def test_starts_are_the_drivers(key: str) -> None:
    gpu = card(key, Partitioning.MIXED_SIZE)
    found = {t.framebuffer_mb // 1024: partitioners.placements(gpu, Layout(), t) for t in gpu.enabled}
    assert found == STARTS[key]


def test_a_card_has_a_slot_for_each_whole_gibibyte_and_a_begun_one_is_taken_whole() -> None:
    gpu = dataclasses.replace(card("nvidia-a40", Partitioning.MIXED_SIZE), framebuffer_mb=48 * 1024 + 1023)
    assert partitioners.slots(gpu) == 48
    for framebuffer, size in ((512, 1), (1024, 1), (1025, 2), (24 * 1024, 24)):
        assert mixed_size.shape(gpu, VgpuType("1", "1", framebuffer, 1)).size == size
    assert mixed_size.shape(gpu, VgpuType("1", "NVIDIA A100-1-5C", 5120, 1)).starts == ()


@pytest.mark.parametrize("generation", GENERATIONS)
def test_what_just_fits_has_one_place_and_what_does_not_has_none(generation: str) -> None:
    for size in (1, 2, 3):
        assert mixed_size.starts(generation, size, size) == (0,)
        assert mixed_size.starts(generation, size - 1, size) == ()


def test_of_the_smallest_one_place_in_sixteen_is_left_out_all_along_the_card() -> None:
    assert mixed_size.starts("ampere", 32, 1) == tuple(slot for slot in range(32) if slot not in (8, 24))


@pytest.mark.parametrize("key", ["nvidia-a100-40gb", "nvidia-a100-80gb", "nvidia-h100-pcie"])
def test_mig_backed_types_fit_as_often_as_their_card_allows(key: str) -> None:
    gpu = card(key, Partitioning.MIG)
    rooms = {t.name: partitioners.room(gpu, Layout(), t) for t in gpu.enabled}
    assert rooms == {t.name: t.max_instances for t in gpu.enabled}
    profiles = [p for t in gpu.enabled if (p := mig.profile(gpu, t)) is not None]
    assert {p.id for p in profiles} == {19, 20, 15, 14, 9, 5, 0}
    assert len(profiles) == len(gpu.enabled)


@pytest.mark.parametrize(
    ("standing", "rooms"),
    [
        # nvidia-smi mig -lgip of a card with these: free instances of 1g, 1g+me, 1g of double memory, 2g, 3g, 4g, 7g
        ([("3-40C", 4)], [4, 1, 2, 2, 1, 1, 0]),
        ([("3-40C", 0)], [3, 1, 2, 1, 1, 0, 0]),
        ([("1-10C", 6)], [6, 1, 3, 3, 1, 1, 0]),
        ([("1-10CME", 0)], [6, 0, 3, 2, 1, 0, 0]),
        ([("4-40C", 0), ("3-40C", 4)], [0, 0, 0, 0, 0, 0, 0]),
        ([("7-80C", 0)], [0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_gpu_instances_leave_room_by_their_slices(standing: list[tuple[str, int]], rooms: list[int]) -> None:
    gpu = card("nvidia-h100-pcie", Partitioning.MIG)
    layout = Layout.of(Spot(gpu.type_named(f"NVIDIA H100-{word}"), start) for word, start in standing)
    words = ("1-10C", "1-10CME", "1-20C", "2-20C", "3-40C", "4-40C", "7-80C")
    assert [partitioners.room(gpu, layout, gpu.type_named(f"NVIDIA H100-{word}")) for word in words] == rooms


# ---------------------------------------------------------------------------------------------------- properties


@st.composite
def mixed_cards(draw: st.DrawFn) -> Gpu:
    """A small card cut into mixed sizes, so small that every layout can be looked at."""
    region = draw(st.sampled_from((6, 8, 12)))
    sizes = draw(st.lists(st.sampled_from([s for s in (1, 2, 3, 4, 6, 8, 12) if s <= region]), min_size=1, max_size=3, unique=True))
    types = tuple(VgpuType(str(n), f"type-{size}", size * 1024, region // size) for n, size in enumerate(sizes))
    return Gpu(
        address=ADDRESS,
        model="drawn",
        framework=Framework.VFIO,
        partitioning=Partitioning.MIXED_SIZE,
        framebuffer_mb=region * 1024,
        types=types,
        enabled_types=tuple(t.name for t in types),
        max_instances=draw(st.none() | st.integers(1, 5)),
        virtual_functions=draw(st.integers(1, 8)),
        generation=draw(st.sampled_from(GENERATIONS)),
    )


cards = mixed_cards() | st.sampled_from(("nvidia-a100-40gb", "nvidia-h100-pcie")).map(lambda key: card(key, Partitioning.MIG))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Gpu, Layout]:
    """A card and what it can have come to: ours and foreign, put wherever the driver allows."""
    gpu = draw(cards)
    ours: list[Spot] = []
    foreign: list[Spot] = []
    for vgpu_type, others in draw(st.lists(st.tuples(st.sampled_from(gpu.types), st.booleans()), max_size=6)):
        free = partitioners.placements(gpu, Layout.of(ours, foreign), vgpu_type)
        if free and partitioners.kernel_room(gpu, Layout.of(ours, foreign), vgpu_type):
            (foreign if others else ours).append(Spot(vgpu_type, draw(st.sampled_from(free))))
    return gpu, Layout.of(ours, foreign)


def shape_of(gpu: Gpu, vgpu_type: VgpuType) -> Shape:
    return mig.shape(gpu, vgpu_type) if gpu.partitioning is Partitioning.MIG else mixed_size.shape(gpu, vgpu_type)


def slots_of(gpu: Gpu, spots: Iterable[Spot]) -> list[int]:
    return [slot for t, start in spots for slot in range(start or 0, (start or 0) + shape_of(gpu, t).size)]


def legal(gpu: Gpu, spots: tuple[Spot, ...]) -> bool:
    """Said of the whole layout: each stands where its type may start, none on another's slots, none too many of a type."""
    types = [spot.type for spot in spots]
    taken = slots_of(gpu, spots)
    return (
        all(start in shape_of(gpu, t).starts for t, start in spots)
        and len(set(taken)) == len(taken)
        and all(0 <= slot < (partitioners.slots(gpu) or 0) for slot in taken)
        and all(types.count(t) <= t.max_instances for t in types)
        and len(spots) <= (gpu.virtual_functions or 0)
    )


def most_found(gpu: Gpu, spots: tuple[Spot, ...], vgpu_type: VgpuType) -> int:
    """By trying every start for every further one."""

    def deeper(now: tuple[Spot, ...], least: int) -> Iterator[int]:
        yield 0
        for start in shape_of(gpu, vgpu_type).starts:
            more = (*now, Spot(vgpu_type, start))
            if start >= least and legal(gpu, more):
                yield 1 + max(deeper(more, start + 1))

    return max(deeper(spots, 0))


def allowed(gpu: Gpu, layout: Layout, found: int) -> int:
    return found if gpu.max_instances is None else max(0, min(found, gpu.max_instances - len(layout.ours)))


@given(cases())
@pytest.mark.weakness(682)
def test_room_is_what_can_in_fact_be_placed(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    assert legal(gpu, layout.spots)
    for vgpu_type in gpu.enabled:
        found = most_found(gpu, layout.spots, vgpu_type)
        assert partitioners.kernel_room(gpu, layout, vgpu_type) == found
        assert partitioners.room(gpu, layout, vgpu_type) == allowed(gpu, layout, found)


@given(cases(), st.integers(1, 3))
def test_what_fill_gives_is_legal_and_it_gives_up_only_when_nothing_fits(case: tuple[Gpu, Layout], count: int) -> None:
    gpu, layout = case
    spots = partitioners.fill(gpu, layout, gpu.enabled, count)
    if spots is None:
        assert all(partitioners.room(gpu, layout, t) < count for t in gpu.enabled)
        return
    assert len(spots) == count
    assert len({spot.type for spot in spots}) == 1
    assert legal(gpu, layout.spots + spots)


@given(cases())
def test_placing_at_the_best_start_takes_one_of_its_room_and_makes_none(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    for vgpu_type in gpu.enabled:
        start = partitioners.best_start(gpu, layout, vgpu_type)
        if partitioners.room(gpu, layout, vgpu_type):
            assert start in partitioners.placements(gpu, layout, vgpu_type)
            after = layout.plus(vgpu_type, start)
            assert partitioners.room(gpu, after, vgpu_type) == partitioners.room(gpu, layout, vgpu_type) - 1
            assert all(partitioners.room(gpu, after, t) <= partitioners.room(gpu, layout, t) for t in gpu.enabled)
            assert after.minus(vgpu_type, start) == layout
            backwards = Layout.of(after.spots[len(after.ours) - 1 :: -1], after.spots[: len(after.ours) - 1 : -1])
            assert backwards.in_order() == after.in_order()


@given(cases())
def test_no_other_start_leaves_more(case: tuple[Gpu, Layout]) -> None:
    """The measure, said again: slots that each shape could fill alone, summed over the shapes of enabled types."""
    gpu, layout = case

    def left(vgpu_type: VgpuType, start: int | None) -> int:
        taken = 0
        for slot in slots_of(gpu, (*layout.spots, Spot(vgpu_type, start))):
            taken |= 1 << slot
        return sum(shape.size * shape.most(taken) for shape in {shape_of(gpu, t) for t in gpu.enabled})

    for vgpu_type in gpu.enabled:
        best = partitioners.best_start(gpu, layout, vgpu_type)
        for start in partitioners.placements(gpu, layout, vgpu_type):
            assert left(vgpu_type, start) <= left(vgpu_type, best)


@given(cases())
@settings(deadline=None)
def test_room_repacked_is_the_best_of_all_arrangements(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    there = layout.spots[len(layout.ours) :]

    @functools.cache
    def arrangements(left: tuple[VgpuType, ...], spots: frozenset[Spot]) -> frozenset[frozenset[Spot]]:
        if not left:
            return frozenset((spots,))
        found: set[frozenset[Spot]] = set()
        for start in shape_of(gpu, left[0]).starts:
            spot = Spot(left[0], start)
            if spot not in spots and legal(gpu, (*spots, spot)):
                found |= arrangements(left[1:], spots | {spot})
        return frozenset(found)

    packed = arrangements(tuple(sorted(layout.ours, key=lambda t: t.name)), frozenset(there))
    for vgpu_type in gpu.enabled:
        best = max(most_found(gpu, tuple(spots), vgpu_type) for spots in packed)
        assert partitioners.room_repacked(gpu, layout, vgpu_type) == allowed(gpu, layout, best)


@given(cases())
def test_only_what_has_a_place_is_offered_and_capacity_is_what_fits_most_often(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    offered = partitioners.offered_types(gpu, layout)
    assert all(bool(partitioners.placements(gpu, layout, t)) == (t in offered) for t in gpu.enabled)
    inventory = capacity.gpu_inventory(gpu, layout)
    free = inventory.total - inventory.reserved - len(layout.ours) if inventory is not None else 0
    assert free == max(partitioners.room(gpu, layout, t) for t in gpu.enabled)
    assert [(r.type, r.now, r.repacked) for r in capacity.rooms(gpu, layout)] == [
        (t.name, partitioners.room(gpu, layout, t), partitioners.room_repacked(gpu, layout, t)) for t in gpu.enabled
    ]


@given(cases())
def test_a_foreign_device_whose_place_nobody_knows_stands_where_the_driver_puts_one(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    for vgpu_type in (t for t in gpu.types if layout.all.count(t) < t.max_instances):
        free = partitioners.placements(gpu, layout, vgpu_type)
        starts = (*(layout.foreign_starts or (None,) * len(layout.foreign)), None)
        unknown = Layout(layout.ours, (*layout.foreign, vgpu_type), layout.starts, starts)
        first = Layout(layout.ours, unknown.foreign, layout.starts, (*starts[:-1], free[0] if free else None))
        for other in gpu.enabled:
            room = partitioners.room(gpu, unknown, other)
            assert room == partitioners.room(gpu, first, other)
            assert free or room == 0


# ---------------------------------------------------------------------------------------------------- examples


def test_a_gap_that_repacking_closes() -> None:
    gpu = card("nvidia-l40s", Partitioning.MIXED_SIZE, "8Q", "24Q")
    small, large = gpu.enabled
    scattered = Layout.of([Spot(small, 0), Spot(small, 24)])
    assert (partitioners.room(gpu, scattered, large), partitioners.room_repacked(gpu, scattered, large)) == (0, 1)
    foreign = Layout.of([Spot(small, 0)], [Spot(small, 24)])
    assert partitioners.room_repacked(gpu, foreign, large) == 1
    both = Layout.of([], [Spot(small, 0), Spot(small, 24)])
    assert partitioners.room_repacked(gpu, both, large) == 0


def test_the_best_start_keeps_the_large_place_free() -> None:
    gpu = card("nvidia-l40s", Partitioning.MIXED_SIZE, "8Q", "24Q")
    small, large = gpu.enabled
    assert [spot.start for spot in partitioners.fill(gpu, Layout(), (small,), 2) or ()] == [0, 16]
    third = partitioners.best_start(gpu, Layout.of([Spot(small, 24)]), small)
    assert third == 40
    assert partitioners.fill(gpu, Layout.of([Spot(small, 0), Spot(small, 16)]), (large,), 1) == (Spot(large, 24),)


def test_types_of_the_other_kind_cannot_be_made() -> None:
    for partitioning in (Partitioning.SAME_SIZE, Partitioning.MIXED_SIZE, Partitioning.MIG):
        gpu = card("nvidia-h100-pcie", partitioning)
        others = [t for t in gpu.types if t.mig_backed != (partitioning is Partitioning.MIG)]
        assert others
        assert all(partitioners.kernel_room(gpu, Layout(), t) == 0 for t in others)
        assert not any(t.mig_backed != (partitioning is Partitioning.MIG) for t in gpu.enabled)


def test_an_operators_limit_and_the_functions_bind_repacking_too() -> None:
    gpu = card("nvidia-h100-pcie", Partitioning.MIG, "1-10C", max_instances=2)
    (small,) = gpu.enabled
    assert (partitioners.room(gpu, Layout(), small), partitioners.room_repacked(gpu, Layout(), small)) == (2, 2)


@pytest.mark.parametrize(("vf", "most"), [(None, 16), (20, 16), (7, 7)])
def test_functions_limit_what_slots_would_allow(vf: int | None, most: int) -> None:
    gpu = card("nvidia-h100-pcie", Partitioning.MIXED_SIZE, "5C")
    limited = Gpu(**{f: getattr(gpu, f) for f in gpu.__dataclass_fields__} | {"virtual_functions": vf})
    assert partitioners.room(limited, Layout(), limited.enabled[0]) == most


def test_packing_counts_nothing_where_what_is_held_does_not_fit() -> None:
    half = Shape(4, (0, 4))
    assert most_packed(8, 0, frozenset({(half, 1)}), Shape(2, (0, 2, 4, 6))) == 2
    assert most_packed(8, 0b1, frozenset({(half, 2)}), Shape(1, (7,))) == 0


def uniform(size: int, most: int, region: int = 48) -> Gpu:
    """A card that takes one size only, wherever it likes."""
    only = VgpuType("1", "only", size * 1024, most)
    return Gpu(
        address=ADDRESS,
        model="by hand",
        framework=Framework.VFIO,
        partitioning=Partitioning.MIXED_SIZE,
        framebuffer_mb=region * 1024,
        types=(only,),
        enabled_types=("only",),
        generation="blackwell",
    )


@given(st.integers(1, 4), st.sets(st.integers(0, 9)), st.integers(0, (1 << 13) - 1))
@pytest.mark.weakness(682)
def test_the_most_of_a_shape_is_the_most_of_all_sets_of_its_starts(size: int, starts: set[int], taken: int) -> None:
    """Starts may lie so near to each other that one is in the way of the next."""
    shape = Shape(size, tuple(sorted(starts)))

    def found(begin: int) -> int:
        later = (s for s in shape.starts if s >= begin and all(not taken & 1 << slot for slot in range(s, s + size)))
        return max((1 + found(start + size) for start in later), default=0)

    assert shape.most(taken) == found(0)


@pytest.mark.parametrize(("standing", "left"), [(0, 32), (20, 12), (31, 1), (32, 0), (33, 0)])
def test_the_driver_makes_no_more_than_thirty_two_on_a_gpu(standing: int, left: int) -> None:
    gpu = uniform(1, 48)
    (only,) = gpu.types
    layout = Layout.of([], [Spot(only, start) for start in range(standing)])
    assert partitioners.partitioner_of(gpu).room(gpu, layout, only) == left
    assert len(partitioners.placements(gpu, layout, only)) == (48 - standing if left else 0)


def test_more_than_may_be_of_a_type_leaves_no_room_and_not_less() -> None:
    gpu = uniform(4, 2)
    (only,) = gpu.types
    layout = Layout.of([], [Spot(only, start) for start in (0, 4, 8)])
    assert partitioners.partitioner_of(gpu).room(gpu, layout, only) == 0
    assert partitioners.placements(gpu, layout, only) == ()


def test_of_those_whose_place_nobody_knows_the_largest_is_put_first() -> None:
    gpu = card("nvidia-h100-pcie", Partitioning.MIG)
    small, large = (gpu.type_named(f"NVIDIA H100-{word}") for word in ("1-10C", "3-40C"))
    for foreign in ((small, large), (large, small)):
        layout = Layout(foreign=foreign)
        assert partitioners.placements(gpu, layout, small) == (5, 6)
        assert partitioners.room(gpu, layout, small) == 2
