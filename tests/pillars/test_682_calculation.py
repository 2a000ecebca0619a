"""CWE-682, incorrect calculation: amounts, capacities, addresses and times are what exact arithmetic says, to the last unit.

The reference is always `fractions.Fraction` or plain counting, never the expression of the code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import decimal
import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from hypothesis.stateful import precondition as when

from lamina.model import capacity, partitioners, requests
from lamina.model.capacity import Room
from lamina.model.errors import BadRequest, Conflict, LaminaError
from lamina.model.flavors import MOST as MOST_OF_A_FLAVOR
from lamina.model.flavors import Flavor
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, VgpuType, framebuffer_of_name
from lamina.model.ids import PciAddress
from lamina.model.partitioners import mig
from lamina.model.partitioners.slots import Shape
from lamina.model.providers import MOST, MOST_RATIO, Inventory, Provider, trees_of
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.operations import delete, resize
from lamina.saga.log import State
from lamina.saga.recovery import Found, plan
from lamina.store import allocations, providers
from lamina.store.database import Database
from tests.faults.desk import Desk
from tests.faults.world import CALLER, ONE, TWO, World

pytestmark = pytest.mark.weakness(682)

# ------------------------------------------------------------------------------------------------ capacity


@pytest.mark.weakness(1339)
def test_every_capacity_of_small_totals_is_exact() -> None:
    """All totals to 64 with all ratios of one digit to 16.9, and all of two to 2: what a float gets wrong 94 times of 108,736."""
    ratios = [tenth / 10 for tenth in range(1, 170)] + [hundredth / 100 for hundredth in range(1, 200)]
    wrong_as_floats = 0
    for ratio in ratios:
        exact = Fraction(str(ratio))
        for total in range(1, 65):
            expected = math.floor(total * exact)
            assert Inventory(total, allocation_ratio=ratio).capacity == expected
            wrong_as_floats += int(total * ratio) != expected
    assert wrong_as_floats > 10, "the test would not notice floats"


@given(st.integers(1, MOST), st.data(), st.floats(min_value=1e-30, max_value=MOST_RATIO))
def test_a_capacity_is_the_floor_of_what_is_written(total: int, data: st.DataObject, ratio: float) -> None:
    reserved = data.draw(st.integers(0, total))
    shown = decimal.Decimal(repr(ratio))  # what a client sees in JSON
    assert Inventory(total, reserved, allocation_ratio=ratio).capacity == math.floor((total - reserved) * Fraction(shown))


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 5), st.integers(1, 40), st.integers(1, 5))
def test_the_last_unit_is_given_and_no_more(total: int, reserved: int, least: int, most: int, step: int) -> None:
    """Filled one by one with the least that may be taken, nothing is over in the end and not one unit is left that could be had."""
    reserved = min(reserved, total)
    inventory = Inventory(total, reserved, least, most, step)
    used = 0
    amount = next((a for a in range(1, most + 1) if a >= least and a % step == 0), None)
    if amount is None:
        assert all(inventory.refuses(a, 0) for a in range(1, total + 2))
        return
    while inventory.refuses(amount, used) is None:
        used += amount
    assert used <= total - reserved < used + amount
    assert inventory.capacity == total - reserved


@pytest.mark.parametrize(
    ("amount", "told"), [(1, "min_unit of 2"), (9, "max_unit of 8"), (3, "step_size of 2"), (8, "8 does not fit: 3 of 10 are used")]
)
def test_a_refusal_tells_the_rule_and_its_figures(amount: int, told: str) -> None:
    refused = Inventory(10, 0, 2, 8, 2).refuses(amount, 3)
    assert refused is not None
    assert told in refused
    assert Inventory(10, 0, 2, 8, 2).refuses(6, 4) is None


@pytest.mark.parametrize("field", ["total", "reserved", "min_unit", "max_unit", "step_size"])
@pytest.mark.weakness(190)
def test_the_bounds_of_an_inventory_are_bounds(field: str) -> None:
    least = 0 if field == "reserved" else 1
    most = 4 if field == "reserved" else MOST
    fine = {"total": 4}
    for value in (least, most):
        Inventory(**(fine | {field: value}))
    for value in (least - 1, MOST + 1, -MOST, 2**63, 10**40):
        with pytest.raises(BadRequest, match=field):
            Inventory(**(fine | {field: value}))


@pytest.mark.parametrize("ratio", [math.nextafter(0, 1), 1e-9, 1.0, MOST_RATIO])
def test_a_ratio_within_bounds_is_one(ratio: float) -> None:
    assert Inventory(1, allocation_ratio=ratio).capacity == math.floor(Fraction(repr(ratio)))


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.inf, -math.inf, math.nan, math.nextafter(MOST_RATIO, math.inf)])
def test_a_ratio_that_is_none(ratio: float) -> None:
    with pytest.raises(BadRequest, match="allocation_ratio"):
        Inventory(4, allocation_ratio=ratio)


def test_nothing_is_taken_of_what_a_provider_does_not_have() -> None:
    provider = Provider("p", "p", 0, "p", inventories={"VCPU": Inventory(4)}, used={"VCPU": 3})
    assert provider.refuses("VCPU", 1) is None
    assert provider.refuses("VCPU", 2) == "2 does not fit: 3 of 4 are used"
    assert provider.refuses("VGPU", 1) == "no inventory of VGPU"
    assert dataclasses.replace(provider, used={}).refuses("VCPU", 4) is None
    assert trees_of([provider])[0].by_id() == {"p": provider}


# ------------------------------------------------------------------------------------------------ vGPUs of a GPU

SMALL, LARGE = VgpuType("11", "small", 512, 4), VgpuType("12", "large", 1024, 2)


def _gpu(partitioning: Partitioning, **changes: object) -> Gpu:
    gpu = Gpu(PciAddress(0, 1, 0, 0), "", Framework.MDEV, partitioning, 2048, (SMALL, LARGE), ("small", "large"))
    return dataclasses.replace(gpu, **changes)  # type: ignore[arg-type]


@given(st.sampled_from([Partitioning.SAME_SIZE, Partitioning.SHARED_POOL]), st.none() | st.integers(0, 6), st.none() | st.integers(0, 6))
def test_capacity_less_what_is_used_is_what_may_still_be_made(cut: Partitioning, limit: int | None, functions: int | None) -> None:
    """Along every way of filling a GPU, to the last vGPU, with a foreign one on it or none."""
    gpu = _gpu(cut, max_instances=limit, virtual_functions=functions)
    seen = set()
    waiting = [Layout(), Layout(foreign=(SMALL,))]
    while waiting:
        layout = waiting.pop()
        if layout in seen or len(layout.all) > (6 if functions is None else functions):
            continue
        seen.add(layout)
        rooms = {t.name: partitioners.room(gpu, layout, t) for t in gpu.enabled}
        inventory = capacity.gpu_inventory(gpu, layout)
        free = inventory.capacity - len(layout.ours) if inventory is not None else 0
        assert free == max(rooms.values())
        if inventory is not None:
            assert (inventory.reserved, inventory.total) == (len(layout.foreign), len(layout.all) + free)
            assert inventory.max_unit == inventory.total
        assert capacity.gpu_traits(gpu, layout) == {t.trait for t in partitioners.offered_types(gpu, layout)}
        assert capacity.rooms(gpu, layout) == tuple(Room(name, room, room) for name, room in rooms.items())
        waiting += [layout.plus(t) for t in gpu.enabled if rooms[t.name]]
    assert len(seen) > 1 or 0 in (limit, functions)


def test_nothing_may_be_made_where_nothing_is_enabled() -> None:
    gpu = _gpu(Partitioning.SAME_SIZE, enabled_types=())
    assert capacity.gpu_inventory(gpu, Layout(foreign=(SMALL,))) is None
    assert capacity.gpu_inventory(_gpu(Partitioning.SAME_SIZE, max_instances=0), Layout()) is None
    assert capacity.all_type_traits(gpu) == {"CUSTOM_SMALL", "CUSTOM_LARGE"}


def test_rooms_of_several_gpus_are_added_by_type() -> None:
    rooms = [Room("a", 1, 2), Room("b", 4, 8), Room("a", 16, 32)]
    assert capacity.total(rooms) == (Room("a", 17, 34), Room("b", 4, 8))
    assert capacity.total([]) == ()


@pytest.mark.parametrize(
    ("cut", "standing", "rooms"),
    [
        (Partitioning.SAME_SIZE, (), (4, 2)),
        (Partitioning.SAME_SIZE, (SMALL,) * 3, (1, 0)),
        (Partitioning.SAME_SIZE, (SMALL,) * 4, (0, 0)),
        (Partitioning.SAME_SIZE, (LARGE,), (0, 1)),
        (Partitioning.SHARED_POOL, (LARGE,), (2, 1)),
        (Partitioning.SHARED_POOL, (LARGE, SMALL), (1, 0)),
        (Partitioning.SHARED_POOL, (SMALL,) * 4, (0, 0)),
        (Partitioning.SHARED_POOL, (SMALL,) * 3, (1, 0)),
    ],
)
def test_the_last_vgpu(cut: Partitioning, standing: tuple[VgpuType, ...], rooms: tuple[int, int]) -> None:
    gpu = _gpu(cut)
    for layout in (Layout(standing), Layout(foreign=standing)):
        found = tuple(partitioners.kernel_room(gpu, layout, t) for t in (SMALL, LARGE))
        assert found == rooms
        rule = partitioners.partitioner_of(gpu)
        assert tuple(rule.room(gpu, layout, t) for t in (SMALL, LARGE)) == rooms
        if cut is Partitioning.SHARED_POOL:
            assert tuple(rule.offered(gpu, layout, t) for t in (SMALL, LARGE)) == tuple(room > 0 for room in rooms)
        assert tuple(partitioners.room_repacked(gpu, layout, t) for t in (SMALL, LARGE)) == rooms
        assert (partitioners.slots(gpu), partitioners.placements(gpu, layout, SMALL), partitioners.best_start(gpu, layout, SMALL)) == (
            None,
            (),
            None,
        )


@pytest.mark.parametrize(
    ("name", "mib", "number", "size", "starts"),
    [
        ("NVIDIA A100-1-5C", 5120, 19, 1, (0, 1, 2, 3, 4, 5, 6)),
        ("NVIDIA A100-1-5CME", 5120, 20, 1, (0, 1, 2, 3, 4, 5, 6)),
        ("NVIDIA A100-1-10C", 10240, 15, 2, (0, 2, 4, 6)),
        ("NVIDIA A100-2-10C", 10240, 14, 2, (0, 2, 4)),
        ("NVIDIA A100-3-20C", 20480, 9, 4, (0, 4)),
        ("NVIDIA A100-4-20C", 20480, 5, 4, (0,)),
        ("NVIDIA A100-7-40C", 40960, 0, 8, (0,)),
    ],
)
def test_gpu_instances_stand_where_the_driver_lets_them(name: str, mib: int, number: int, size: int, starts: tuple[int, ...]) -> None:
    """What ``nvidia-smi mig -lgip`` and ``-lgipp`` print of an A100 of 40 GB."""
    gpu = _gpu(Partitioning.MIG, framebuffer_mb=40960)
    vgpu_type = VgpuType("1", name, mib, 7)
    assert mig.profile(gpu, vgpu_type) == mig.Profile(number, Shape(size, starts))
    assert mig.shape(gpu, vgpu_type).starts == starts
    assert mig.profile(gpu, SMALL) is None
    assert mig.MIG.slots(gpu) == 8


@pytest.mark.parametrize("cut", [Partitioning.SAME_SIZE, Partitioning.SHARED_POOL])
def test_room_is_never_less_than_none(cut: Partitioning) -> None:
    """Also where more stands than may, as after an operator has changed the card."""
    gpu = _gpu(cut)
    rule = partitioners.partitioner_of(gpu)
    for over in ((SMALL,) * 6, (LARGE,) * 4, (SMALL, LARGE) * 3):
        assert [rule.room(gpu, Layout(over), t) for t in (SMALL, LARGE)] == [0, 0]
        assert [partitioners.room(gpu, Layout(over), t) for t in (SMALL, LARGE)] == [0, 0]


@pytest.mark.parametrize(
    ("name", "mib"), [("NVIDIA A40-8Q", 8192), ("GRID T4-0B", 512), ("NVIDIA A100-1-5CME", 5120), ("NVIDIA A40-48C", 49152)]
)
@pytest.mark.weakness(1284)
def test_a_types_name_tells_its_memory_in_mib(name: str, mib: int) -> None:
    assert framebuffer_of_name(name) == mib


# ------------------------------------------------------------------------------------------------ what is asked for


@given(st.integers(0, 2**20), st.integers(0, 2**20), st.integers(0, 2**40))
@example(0, 0, 1)
@example(0, 0, 1024)
@example(0, 0, 1025)
@pytest.mark.weakness(190)
def test_a_begun_gib_is_counted_whole(disk: int, ephemeral: int, swap_mb: int) -> None:
    flavor = Flavor("f", "f", 1, 1, disk, ephemeral_gb=ephemeral, swap_mb=swap_mb)
    assert flavor.total_disk_gb == disk + ephemeral + math.ceil(Fraction(swap_mb, 1024))


@pytest.mark.parametrize(
    ("field", "least"), [("vcpus", 1), ("memory_mb", 1), ("disk_gb", 0), ("ephemeral_gb", 0), ("swap_mb", 0)], ids=lambda value: str(value)
)
@pytest.mark.weakness(1284)
def test_the_figures_of_a_flavor_have_bounds(field: str, least: int) -> None:
    flavor = Flavor("f", "f", 1, 1, 0)
    for value in (least, MOST_OF_A_FLAVOR):
        assert dataclasses.replace(flavor, **{field: value}).checked()  # type: ignore[arg-type]
    for value in (least - 1, MOST_OF_A_FLAVOR + 1, -(2**31), 2**64):
        with pytest.raises(BadRequest):
            dataclasses.replace(flavor, **{field: value}).checked()  # type: ignore[arg-type]


def test_parts_of_a_disk_are_bound_together() -> None:
    with pytest.raises(BadRequest, match="together are more than"):
        Flavor("f", "f", 1, 1, MOST_OF_A_FLAVOR, ephemeral_gb=1).checked()
    assert Flavor("f", "f", 1, 1, MOST_OF_A_FLAVOR - 2, ephemeral_gb=1, swap_mb=1024).checked()


@given(st.text(st.sampled_from("0123456789-+. e_\u0661"), max_size=12))
@example("2147483647")
@example("2147483648")
@example("4294967297")
@example("00000000001")
@pytest.mark.weakness(1284)
def test_an_amount_is_a_whole_number_within_bounds_or_none(text: str) -> None:
    fine = text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= 2**31 - 1
    if fine:
        assert requests.parse_amount(text, "x") == int(text)
    else:
        with pytest.raises(BadRequest, match=r"x: .* is not a whole number from 1 to 2147483647"):
            requests.parse_amount(text, "x")


@given(st.lists(st.dictionaries(st.sampled_from(["VCPU", "VGPU", "CUSTOM_A"]), st.integers(1, 2**31 - 1), max_size=3), max_size=4))
def test_the_whole_of_a_request_is_the_sum_of_its_groups(groups: list[dict[str, int]]) -> None:
    asked = CandidateRequest(tuple(RequestGroup(str(n), group) for n, group in enumerate(groups)))
    names = {name for group in groups for name in group}
    assert asked.total() == {name: sum(group.get(name, 0) for group in groups) for name in names}


# ------------------------------------------------------------------------------------------------ addresses


@given(
    st.builds(PciAddress, st.integers(0, 0xFFFF), st.integers(0, 0x3F), st.integers(0, 0x1F), st.integers(0, 7)),
    st.integers(0, 63),
    st.integers(1, 300),
    st.integers(1, 4),
)
def test_a_virtual_function_is_so_many_functions_further(address: PciAddress, index: int, offset: int, stride: int) -> None:
    def number(at: PciAddress) -> int:
        return (at.bus * 32 + at.slot) * 8 + at.function

    function = address.virtual_function(index, offset, stride)
    assert function.domain == address.domain
    assert number(function) - number(address) == offset + index * stride
    assert number(address.virtual_function(index)) - number(address) == 4 + index


@pytest.mark.parametrize("place", range(4))
def test_each_part_of_an_address_has_its_own_bounds(place: int) -> None:
    most = (0xFFFF, 0xFF, 0x1F, 7)
    parts = list(most)
    assert str(PciAddress(*most)) == "ffff:ff:1f.7"
    for wrong in (-1, most[place] + 1):
        parts[place] = wrong
        with pytest.raises(BadRequest, match="out of range"):
            PciAddress(*parts)
    parts[place] = 0
    assert PciAddress(*parts) < PciAddress(*most)


# ------------------------------------------------------------------------------------------------ time


@given(st.floats(0, 2e9), st.floats(-10, 10))
@example(1e9, 0.0)
def test_a_lease_is_over_at_the_moment_that_it_names_and_not_before(now: float, left: float) -> None:
    found = Found("saga", "create", "server", State.RUNNING, "another", now + left, 1)
    taken = plan([found], me="me", mine=(), now=now, alone=False, kinds={"create"})
    assert bool(taken.take) == (Fraction(now + left) <= Fraction(now))


# ------------------------------------------------------------------------------------------------ conservation

PROVIDERS = {
    "host": {"VCPU": Inventory(8, 1, allocation_ratio=1.5)},
    "gpu": {"VGPU": Inventory(4, max_unit=2)},
    "odd": {"VGPU": Inventory(9, step_size=3)},
}
_AMOUNTS = st.fixed_dictionaries(
    {},
    optional={
        "host": st.fixed_dictionaries({"VCPU": st.integers(1, 6)}),
        "gpu": st.fixed_dictionaries({"VGPU": st.integers(1, 3)}),
        "odd": st.fixed_dictionaries({"VGPU": st.integers(1, 6)}),
    },
)
_CONSUMERS = st.sampled_from("abcd")
Held = dict[str, dict[str, dict[str, int]]]


class Conservation(RuleBasedStateMachine):
    """What consumers hold, kept a second time as sums of plain numbers; nothing is made and nothing vanishes."""

    desk: Desk

    @initialize()
    def begin(self) -> None:
        self.desk.put_back()
        self.db: Database = self.desk.db
        self.held: Held = {}
        with self.db.write() as tx:
            for name, inventories in PROVIDERS.items():
                providers.create(tx, name, name, parent_id=None, now=0.0)
                providers.set_inventories(tx, providers.get(tx, name), inventories, now=0.0)

    def _fits(self, after: Held, before: Held) -> bool:
        for name, inventories in PROVIDERS.items():
            for resource_class, inventory in inventories.items():
                used = sum(of.get(name, {}).get(resource_class, 0) for of in after.values())
                room = math.floor((inventory.total - inventory.reserved) * Fraction(repr(inventory.allocation_ratio)))
                if used > room:
                    return False
                for consumer, of in after.items():
                    amount = of.get(name, {}).get(resource_class, 0)
                    if of is not before.get(consumer) and amount and (amount > inventory.max_unit or amount % inventory.step_size):
                        return False
        return True

    @rule(consumer=_CONSUMERS, wanted=_AMOUNTS)
    def replace(self, consumer: str, wanted: dict[str, dict[str, int]]) -> None:
        after = {name: of for name, of in (self.held | {consumer: wanted}).items() if of}
        try:
            with self.db.write() as tx:
                allocations.replace(tx, consumer, wanted, project_id="p", user_id="u", consumer_type="INSTANCE", now=1.0)
        except Conflict:
            assert not self._fits(after, self.held), "refused although it fits"
        else:
            assert self._fits(after, self.held), "given although it does not fit"
            self.held = after

    @when(lambda self: self.held)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        """One gives all that it holds to another, in one call."""
        giver, taker = data.draw(st.sampled_from(sorted(self.held))), data.draw(_CONSUMERS)
        if giver == taker:
            return
        wanted = self.held[giver]
        after = {name: of for name, of in self.held.items() if name not in (giver, taker)} | {taker: wanted}
        with self.db.write() as tx:
            both = [allocations.Replacement(taker, wanted, "p", "u"), allocations.Replacement(giver, {}, "p", "u")]
            allocations.replace_many(tx, both, now=1.0)
        self.held = after

    @rule(consumer=_CONSUMERS)
    def remove(self, consumer: str) -> None:
        with self.db.write() as tx:
            assert allocations.remove(tx, consumer) == (consumer in self.held)
        self.held.pop(consumer, None)

    @rule(giver=_CONSUMERS, taker=_CONSUMERS)
    def move(self, giver: str, taker: str) -> None:
        try:
            with self.db.write() as tx:
                allocations.move(tx, giver, taker, consumer_type="MIGRATION", now=1.0)
        except Conflict:
            assert taker in self.held
        else:
            if giver in self.held:
                self.held[taker] = self.held.pop(giver)

    @invariant()
    def nothing_is_made_and_nothing_vanishes(self) -> None:
        with self.db.read() as tx:
            for name, inventories in PROVIDERS.items():
                found = providers.get(tx, name)
                for resource_class in inventories:
                    used = sum(of.get(name, {}).get(resource_class, 0) for of in self.held.values())
                    assert found.used.get(resource_class, 0) == used
            for consumer in "abcd":
                kept = allocations.of_consumer(tx, consumer)
                assert (kept.allocations if kept is not None else None) == self.held.get(consumer)
            together = allocations.usages(tx, "p")
            told = sum(amount for usage in together.values() for amount in usage.amounts.values())
            assert told == sum(n for of in self.held.values() for amounts in of.values() for n in amounts.values())


@pytest.mark.weakness(682)
def test_what_is_held_is_conserved(desk: Desk) -> None:
    machine = type("Conservation", (Conservation,), {"desk": desk})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))


def test_a_resize_that_comes_to_nothing_costs_nothing(desk: Desk) -> None:
    """Rebuilt, resized, refused and deleted again: what is paid is what stands, each time."""
    world = World.on(desk, "mdev")
    server = world.created(TWO)
    before = world.free()
    too_much = dataclasses.replace(ONE, id="much", name="much", vcpus=1000)
    with contextlib.suppress(LaminaError):  # at once, or by the operation
        resize.request(world.plane, CALLER, server.id, too_much)
    world.settle()
    assert world.free() == before
    world.check()
    delete.request(world.plane, CALLER, server.id)
    world.settle()
    assert world.free() == {}
