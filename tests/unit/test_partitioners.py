"""Partitioners against a reference that places vGPUs one by one by the rules as the driver states them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from lamina.model import partitioners
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, VgpuType
from lamina.model.ids import PciAddress

SIZES = (512, 1024, 2048, 4096)


@st.composite
def gpus(draw: st.DrawFn) -> Gpu:
    """A small card; as on real ones, types of one size go on it equally often."""
    most = {size: draw(st.integers(1, 6)) for size in SIZES}
    sizes = draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=3))
    types = tuple(VgpuType(str(n), f"type-{n}", size, most[size]) for n, size in enumerate(sizes))
    return Gpu(
        address=PciAddress(0, 0x81, 0, 0),
        model="drawn",
        framework=Framework.MDEV,
        partitioning=draw(st.sampled_from((Partitioning.SAME_SIZE, Partitioning.SHARED_POOL))),
        framebuffer_mb=draw(st.integers(1, 5)) * 2048,
        types=types,
        enabled_types=tuple(t.name for t in types if draw(st.booleans())),
        max_instances=draw(st.none() | st.integers(1, 4)),
        virtual_functions=draw(st.none() | st.integers(1, 5)),
    )


def legal(gpu: Gpu, standing: tuple[VgpuType, ...]) -> bool:
    """Whether the card takes these vGPUs, said of the whole layout and not of the next step."""
    if gpu.virtual_functions is not None and len(standing) > gpu.virtual_functions:
        return False
    if gpu.partitioning is Partitioning.SAME_SIZE:
        one_size = len({t.framebuffer_mb for t in standing}) <= 1
        return one_size and all(len(standing) <= min(t.max_instances, partitioners.MOST_VGPUS) for t in standing)
    fits = sum(t.framebuffer_mb for t in standing) <= gpu.framebuffer_mb
    return fits and all(standing.count(t) <= t.max_instances for t in set(standing))


@st.composite
def layouts(draw: st.DrawFn, gpu: Gpu) -> Layout:
    """A layout that the card can have come to: some of it ours, some foreign."""
    standing: tuple[VgpuType, ...] = ()
    for vgpu_type in draw(st.lists(st.sampled_from(gpu.types), max_size=6)):
        if legal(gpu, (*standing, vgpu_type)):
            standing = (*standing, vgpu_type)
    cut = draw(st.integers(0, len(standing)))
    return Layout(ours=standing[:cut], foreign=standing[cut:])


gpus_with_layouts = gpus().flatmap(lambda gpu: st.tuples(st.just(gpu), layouts(gpu)))


@given(gpus_with_layouts)
def test_the_kernels_room_is_what_can_be_placed(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    for vgpu_type in gpu.types:
        placed = next(n for n in itertools.count() if not legal(gpu, layout.all + (vgpu_type,) * (n + 1)))
        assert partitioners.kernel_room(gpu, layout, vgpu_type) == placed


@given(gpus_with_layouts)
def test_laminas_room_is_the_kernels_within_the_operators_limit(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    for vgpu_type in gpu.types:
        room = partitioners.room(gpu, layout, vgpu_type)
        if vgpu_type.name not in gpu.enabled_types:
            assert room == 0
        elif gpu.max_instances is None:
            assert room == partitioners.kernel_room(gpu, layout, vgpu_type)
        else:
            left = max(0, gpu.max_instances - len(layout.ours))
            assert room == min(left, partitioners.kernel_room(gpu, layout, vgpu_type))


@given(gpus_with_layouts)
def test_each_vgpu_of_a_kind_takes_one_of_its_room(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    for vgpu_type in gpu.enabled:
        room = partitioners.room(gpu, layout, vgpu_type)
        if room:
            grown = layout.plus(vgpu_type)
            assert partitioners.room(gpu, grown, vgpu_type) == room - 1
            assert Layout(grown.ours[:-1], grown.foreign) == layout


@given(gpus_with_layouts)
def test_a_vgpu_never_makes_room(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    for placed in gpu.enabled:
        if partitioners.room(gpu, layout, placed):
            for other in gpu.types:
                assert partitioners.room(gpu, layout.plus(placed), other) <= partitioners.room(gpu, layout, other)


@given(gpus_with_layouts, st.integers(1, 4))
def test_what_fill_gives_fits_and_it_gives_up_only_when_nothing_fits(case: tuple[Gpu, Layout], count: int) -> None:
    gpu, layout = case
    filled = partitioners.fill(gpu, layout, gpu.enabled, count)
    if filled is None:
        assert all(partitioners.room(gpu, layout, t) < count for t in gpu.enabled)
        return
    assert len(filled) == count
    assert len(set(filled)) == 1
    assert legal(gpu, layout.all + tuple(spot.type for spot in filled))
    assert partitioners.room(gpu, layout, filled[0].type) >= count


@given(gpus_with_layouts)
def test_what_is_not_offered_has_no_room(case: tuple[Gpu, Layout]) -> None:
    gpu, layout = case
    offered = partitioners.offered_types(gpu, layout)
    assert all(partitioners.room(gpu, layout, t) == 0 for t in gpu.types if t not in offered)


def card(partitioning: Partitioning, max_instances: int | None = None) -> Gpu:
    small, large = VgpuType("11", "small", 512, 4), VgpuType("12", "large", 1024, 2)
    return Gpu(
        PciAddress(0, 1, 0, 0), "", Framework.MDEV, partitioning, 2048, (small, large), ("small", "large"), max_instances=max_instances
    )


def test_the_first_vgpu_settles_the_size_and_the_last_one_frees_it() -> None:
    gpu = card(Partitioning.SAME_SIZE)
    small, large = gpu.types
    settled = Layout((small,))
    assert [partitioners.room(gpu, settled, t) for t in (small, large)] == [3, 0]
    assert partitioners.offered_types(gpu, settled) == (small,)
    assert [partitioners.room(gpu, Layout(), t) for t in (small, large)] == [4, 2]


def test_series_of_one_size_share_a_gpu_and_its_count() -> None:
    q, c = VgpuType("1", "NVIDIA A40-8Q", 8192, 6), VgpuType("2", "NVIDIA A40-8C", 8192, 6)
    gpu = Gpu(PciAddress(0, 1, 0, 0), "", Framework.VFIO, Partitioning.SAME_SIZE, 49152, (q, c), (q.name, c.name))
    assert partitioners.room(gpu, Layout((q, q)), c) == 4


def test_a_pool_takes_sizes_side_by_side() -> None:
    gpu = card(Partitioning.SHARED_POOL)
    small, large = gpu.types
    assert partitioners.room(gpu, Layout((large,)), small) == 2
    assert partitioners.room(gpu, Layout((large, small)), large) == 0


def test_no_gpu_takes_more_than_thirty_two() -> None:
    tiny = VgpuType("1", "tiny", 512, 4096)
    gpu = Gpu(PciAddress(0, 1, 0, 0), "", Framework.MDEV, Partitioning.SAME_SIZE, 1 << 20, (tiny,), ("tiny",))
    assert partitioners.room(gpu, Layout(), tiny) == 32


def test_foreign_vgpus_take_the_cards_room_and_not_the_operators() -> None:
    gpu = card(Partitioning.SAME_SIZE, max_instances=2)
    small = gpu.types[0]
    assert partitioners.room(gpu, Layout(foreign=(small,)), small) == 2
    assert partitioners.room(gpu, Layout(foreign=(small, small, small)), small) == 1


def test_a_request_follows_the_type_that_stands() -> None:
    gpu = card(Partitioning.SHARED_POOL)
    small, large = gpu.types
    assert partitioners.fill(gpu, Layout(), (small, large), 1) == ((small, None),)
    assert partitioners.fill(gpu, Layout((large,)), (small, large), 1) == ((large, None),)
