"""Plans of defragmentation: each can be carried out move by move, on a fleet of its own, and does what it promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.model import capacity
from lamina.model.errors import NoValidHost
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, VgpuType
from lamina.model.ids import PciAddress
from lamina.model.policies import PolicyName
from lamina.model.providers import Inventory, Provider, ProviderTree
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.model.resources import type_trait
from lamina.scheduling.choice import Choice, choose
from lamina.scheduling.defragmentation import SOURCES_AT_ONCE, Lower, Movable, Plan, RoomFor, plan, stun_seconds
from lamina.scheduling.field import Field
from lamina.scheduling.filters import Wanted
from lamina.scheduling.occupying import occupied, vacated
from lamina.store.hosts import GpuRecord, Host
from lamina.store.snapshots import GpuSnapshot, Snapshot

TYPES = tuple(VgpuType(f"nvidia-{gib}", f"nvidia-{gib}", gib * 1024, 24 // gib) for gib in (4, 8, 12, 24))
SIZES = {t.framebuffer_mb // 1024: t for t in TYPES}


def card(address: int, partitioning: Partitioning) -> Gpu:
    return Gpu(
        address=PciAddress(0, address, 0, 0),
        model="by hand",
        framework=Framework.MDEV,
        partitioning=partitioning,
        framebuffer_mb=24 * 1024,
        types=TYPES,
        enabled_types=tuple(t.name for t in TYPES),
    )


def empty_host(name: str, gpus: int, partitioning: Partitioning, vcpus: int = 64) -> Snapshot:
    facts: dict[str, object] = {field.name: None for field in dataclasses.fields(Host)}
    facts |= {"name": name, "provider_id": f"{name}-id", "zone": "nova", "enabled": True, "networks": []}
    root = Provider(f"{name}-id", name, 0, f"{name}-id", None, {"VCPU": Inventory(vcpus)}, {"VCPU": 0})
    cards = {f"{name}-gpu{n}": card(0x81 + n, partitioning) for n in range(gpus)}
    children = []
    for provider_id, each in cards.items():
        inventory = capacity.gpu_inventory(each, Layout())
        assert inventory is not None
        traits = capacity.gpu_traits(each, Layout())
        children.append(Provider(provider_id, provider_id, 0, root.id, root.id, {"VGPU": inventory}, {"VGPU": 0}, traits))
    known = {p: GpuSnapshot(GpuRecord(name, each.address, p, each, (), present=True), Layout()) for p, each in cards.items()}
    return Snapshot(ProviderTree((root, *children)), Host(**facts), known)  # type: ignore[arg-type]


def wanting(gib: int, gpus: int = 1, vcpus: int = 1) -> CandidateRequest:
    required = (frozenset({type_trait(SIZES[gib].name)}),)
    groups = tuple(RequestGroup(str(n + 1), {"VGPU": 1}, required) for n in range(gpus))
    return CandidateRequest((RequestGroup("", {"VCPU": vcpus}), *groups), "isolate" if gpus > 1 else None)


class Fleet:
    """Hosts, and the servers on them, all placed by the real choice."""

    def __init__(self, hosts: Iterable[Snapshot], demand: dict[int, float]) -> None:
        self.field = Field()
        self.roots = []
        for each in hosts:
            self.field.put(each)
            self.roots.append(each.tree.root.id)
        self.expected = [(wanting(gib), times) for gib, times in demand.items()]
        self.field.expect(self.expected)
        self.servers: dict[str, Movable] = {}

    def place(self, request: CandidateRequest, host: str | None = None, policy: PolicyName = PolicyName.SPREAD) -> str:
        """Raises `NoValidHost`."""
        choice = choose(self.field, Wanted(request, host=host), policy)
        name = f"s{len(self.servers)}"
        self.field.put(occupied(choice.snapshot, choice.candidate.allocations, choice.placed))
        self.servers[name] = self._on(name, choice, Wanted(request, excluded=frozenset({choice.host.name})), policy)
        return name

    def _on(self, name: str, choice: Choice, wanted: Wanted, policy: PolicyName) -> Movable:
        return Movable(name, name, choice.host.provider_id, wanted, policy, choice.candidate.allocations, choice.placed)

    def take_away(self, name: str) -> None:
        gone = self.servers.pop(name)
        self.field.put(vacated(self.at(gone.root_id), gone.held, gone.vgpus))
        self.servers = dict(self.servers)

    def at(self, root_id: str) -> Snapshot:
        snapshot = self.field.snapshot(root_id)
        assert snapshot is not None
        return snapshot

    def snapshots(self) -> list[Snapshot]:
        return [self.at(root_id) for root_id in self.roots]

    def plan(self, goal: RoomFor | Lower, *, fixed: Iterable[str] = (), most_moves: int = 20, down: frozenset[str] = frozenset()) -> Plan:
        movables = [server for name, server in self.servers.items() if name not in set(fixed)]
        return plan(self.snapshots(), self.expected, movables, goal, most_moves=most_moves, down=down)

    def carry_out(self, made: Plan) -> None:
        """Each move as a migration does it: the target is claimed by name while the source is held, then the source goes."""
        for move in made.moves:
            server = self.servers[move.server_id]
            source = self.at(server.root_id)
            assert source.host is not None
            assert source.host.name == move.from_host
            assert tuple(str(source.gpus[placed.provider_id].record.address) for placed in server.vgpus) == move.from_gpus
            alone = Field(self.field.demand)
            alone.put(next(s for s in self.snapshots() if s.host is not None and s.host.name == move.to_host))
            choice = choose(alone, dataclasses.replace(server.wanted, host=move.to_host), server.policy)
            assert choice.host.name == move.to_host
            assert tuple(str(choice.snapshot.gpus[p.provider_id].record.address) for p in choice.placed) == move.to_gpus
            assert tuple(p.type.name for p in choice.placed) == move.types
            self.field.put(occupied(choice.snapshot, choice.candidate.allocations, choice.placed))
            self.field.put(vacated(self.at(server.root_id), server.held, server.vgpus))
            self.servers[move.server_id] = self._on(move.server_id, choice, server.wanted, server.policy)
            self.must_be_within_capacity()

    def must_be_within_capacity(self) -> None:
        for snapshot in self.snapshots():
            for provider in snapshot.tree.providers:
                for name, used in provider.used.items():
                    assert used <= provider.inventories[name].capacity
            for known in snapshot.gpus.values():
                assert sum(t.framebuffer_mb for t in known.layout.all) <= known.gpu.framebuffer_mb

    def fits(self, goal: RoomFor) -> int:
        """How many the real choice places, one after the other, over all hosts."""
        placed = 0
        try:
            while placed < goal.count:
                self.place(goal.request, policy=goal.policy)
                placed += 1
        except NoValidHost:
            pass
        return placed


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """A fleet on which servers have come and gone."""
    cut = draw(st.sampled_from([Partitioning.SAME_SIZE, Partitioning.SHARED_POOL]))
    hosts = [empty_host(f"h{n}", draw(st.integers(1, 2)), cut, draw(st.sampled_from([4, 64]))) for n in range(draw(st.integers(2, 4)))]
    fleet = Fleet(hosts, {4: 8.0, 12: 2.0, 24: 1.0})
    for gib in draw(st.lists(st.sampled_from([4, 4, 4, 8, 12, 24]), max_size=24)):
        try:
            fleet.place(wanting(gib), policy=draw(st.sampled_from(PolicyName)))
        except NoValidHost:
            continue
    for name in draw(st.lists(st.sampled_from(sorted(fleet.servers)), unique=True)) if fleet.servers else ():
        fleet.take_away(name)
    return fleet


def fixed_of(draw: st.DataObject, fleet: Fleet) -> Sequence[str]:
    return draw.draw(st.lists(st.sampled_from(sorted(fleet.servers)), max_size=3)) if fleet.servers else []


@settings(max_examples=60, deadline=None)
@given(fleet=fleets(), draw=st.data(), most=st.integers(1, 6))
def test_what_lowers_fragmentation_can_be_done_move_by_move_and_does_lower_it(fleet: Fleet, draw: st.DataObject, most: int) -> None:
    fixed = fixed_of(draw, fleet)
    made = fleet.plan(Lower(), fixed=fixed, most_moves=most)
    assert len(made.moves) <= most
    assert len({move.server_id for move in made.moves}) == len(made.moves)
    assert not {move.server_id for move in made.moves} & set(fixed)
    assert made.after.useless_mb < made.before.useless_mb if made.moves else made.after == made.before
    fleet.carry_out(made)
    useless, free = fleet.field.useless()
    assert (round(useless), round(free)) == (made.after.useless_mb, made.after.free_mb)


@settings(max_examples=60, deadline=None)
@given(fleet=fleets(), draw=st.data(), gib=st.sampled_from([8, 12, 24]), count=st.integers(1, 4), policy=st.sampled_from(PolicyName))
def test_the_room_that_is_made_is_real(fleet: Fleet, draw: st.DataObject, gib: int, count: int, policy: PolicyName) -> None:
    fixed = fixed_of(draw, fleet)
    goal = RoomFor(wanting(gib), policy, count)
    made = fleet.plan(goal, fixed=fixed)
    assert not {move.server_id for move in made.moves} & set(fixed)
    assert made.before.fits is not None
    assert made.after.fits is not None
    assert made.after.fits > made.before.fits if made.moves else made.after == made.before
    fleet.carry_out(made)
    assert fleet.fits(goal) == made.after.fits


def scattered(partitioning: Partitioning = Partitioning.SAME_SIZE) -> Fleet:
    """Three hosts of one GPU, a small server on each: none has a whole GPU free."""
    fleet = Fleet([empty_host(f"h{n}", 1, partitioning) for n in range(3)], {4: 1.0, 24: 1.0})
    for n in range(3):
        fleet.place(wanting(4), host=f"h{n}")
    return fleet


def room_for(gib: int, count: int = 1, *, gpus: int = 1) -> RoomFor:
    return RoomFor(wanting(gib, gpus), PolicyName.SPREAD, count)


@pytest.mark.parametrize("partitioning", [Partitioning.SAME_SIZE, Partitioning.SHARED_POOL])
def test_one_move_makes_room_for_a_whole_gpu_and_two_for_two(partitioning: Partitioning) -> None:
    made = scattered(partitioning).plan(room_for(24))
    assert [(len(made.moves), made.before.fits, made.after.fits)] == [(1, 0, 1)]
    assert made.moves[0].from_host != made.moves[0].to_host
    assert (made.moves[0].types, made.moves[0].framebuffer_mb) == (("nvidia-4",), 4096)
    made = scattered(partitioning).plan(room_for(24, 2))
    assert (len(made.moves), made.after.fits) == (2, 2)


def test_a_goal_that_cannot_be_reached_whole_is_neared() -> None:
    made = scattered().plan(room_for(24, 3))
    assert (len(made.moves), made.before.fits, made.after.fits) == (2, 0, 2)
    assert len(scattered().plan(room_for(24, 3), most_moves=1).moves) == 1


def test_what_fits_already_needs_no_move() -> None:
    made = scattered().plan(room_for(4, 3))
    assert (made.moves, made.before.fits, made.after) == ((), 3, made.before)


def test_where_nothing_helps_the_plan_is_empty() -> None:
    fleet = scattered()
    assert fleet.plan(room_for(24), fixed=list(fleet.servers)).moves == ()
    assert fleet.plan(room_for(24, gpus=2)).moves == (), "no host has two GPUs"
    tidy = Fleet([empty_host("h0", 1, Partitioning.SAME_SIZE), empty_host("h1", 1, Partitioning.SAME_SIZE)], {4: 1.0, 24: 1.0})
    tidy.place(wanting(4))
    assert tidy.plan(Lower()).moves == ()


def test_without_any_demand_nothing_is_useless() -> None:
    fleet = Fleet([empty_host(f"h{n}", 1, Partitioning.SAME_SIZE) for n in range(2)], {})
    fleet.place(wanting(4), host="h0")
    made = fleet.plan(Lower())
    assert (made.moves, made.before.useless_mb, made.before.useless_share) == ((), 0, 0.0)


def test_a_gpu_is_emptied_though_the_first_move_alone_changes_nothing() -> None:
    """Two small ones on each of two cards that are cut into one size: only when both have left, the card is whole."""
    fleet = Fleet([empty_host(f"h{n}", 1, Partitioning.SAME_SIZE) for n in range(2)], {24: 1.0})
    for n in (0, 0, 1, 1):
        fleet.place(wanting(4), host=f"h{n}")
    for goal in (Lower(), room_for(24)):
        made = fleet.plan(goal)
        assert len({move.from_host for move in made.moves}) == 1
        assert len(made.moves) == 2
        assert fleet.plan(goal, most_moves=1).moves == ()


def pools(*standing: tuple[int, ...]) -> tuple[Fleet, list[str]]:
    """A host with one pool of 24 GiB for each tuple of sizes; and who is not on the first of them."""
    fleet = Fleet([empty_host(f"h{n}", 1, Partitioning.SHARED_POOL) for n in range(len(standing))], {4: 1.0})
    placed = [(n, fleet.place(wanting(gib), host=f"h{n}")) for n, sizes in enumerate(standing) for gib in sizes]
    return fleet, [name for n, name in placed if n]


def test_who_has_nowhere_to_go_is_passed_over_for_one_who_has() -> None:
    fleet, others = pools((12, 4, 4), (12, 8))
    made = fleet.plan(room_for(8), fixed=others)
    assert [(move.from_host, move.to_host, move.types) for move in made.moves] == [("h0", "h1", ("nvidia-4",))]


def test_of_equally_many_the_smaller_are_moved() -> None:
    fleet, others = pools((8, 4, 4), (8, 8))
    made = fleet.plan(room_for(12), fixed=others)
    assert [(move.from_host, move.types, move.framebuffer_mb) for move in made.moves] == [("h0", ("nvidia-4",), 4096)]


def test_one_server_far_down_the_list_is_fewer_than_two_at_its_top() -> None:
    fleet, _ = pools(*[(4, 4)] * (SOURCES_AT_ONCE + 1), (8,))
    made = fleet.plan(room_for(24))
    assert [(move.from_host, move.types) for move in made.moves] == [(f"h{SOURCES_AT_ONCE + 1}", ("nvidia-8",))]


def test_those_who_can_stay_stay() -> None:
    """One of the larger would be a move less, and has nowhere to go."""
    fleet, others = pools((8, 8, 4, 4), (8, 8, 4), (8, 8, 4))
    made = fleet.plan(room_for(8), fixed=others)
    assert sorted((move.to_host, move.types) for move in made.moves) == [("h1", ("nvidia-4",)), ("h2", ("nvidia-4",))]
    assert made.after.fits == 1


def test_a_server_with_two_vgpus_moves_with_both() -> None:
    fleet = Fleet([empty_host(f"h{n}", 2, Partitioning.SAME_SIZE) for n in range(2)], {4: 1.0, 24: 1.0})
    fleet.place(wanting(4, gpus=2), host="h0")
    fleet.place(wanting(4, gpus=2), host="h1")
    made = fleet.plan(room_for(24, 2, gpus=2))
    (move,) = made.moves
    assert (len(set(move.from_gpus)), len(set(move.to_gpus)), move.framebuffer_mb) == (2, 2, 8192)
    assert made.after.fits == 1
    fleet.carry_out(made)


def test_vcpus_are_room_too() -> None:
    """A host whose GPU is free and whose vCPUs are not is made free of a server that has no vGPU."""
    fleet = Fleet([empty_host("h0", 1, Partitioning.SAME_SIZE, vcpus=4), empty_host("h1", 0, Partitioning.SAME_SIZE, vcpus=4)], {24: 1.0})
    plain = CandidateRequest((RequestGroup("", {"VCPU": 4}),))
    fleet.place(plain, host="h0")
    (move,) = fleet.plan(room_for(24)).moves
    assert (move.to_host, move.framebuffer_mb, move.stun_seconds, move.types) == ("h1", 0, 0.0, ())


def test_nothing_is_moved_to_a_host_that_is_down_or_out_of_bounds() -> None:
    fleet = scattered()
    assert fleet.plan(room_for(24), down=frozenset({"h0", "h1", "h2"})).moves == ()
    made = fleet.plan(room_for(24), down=frozenset({"h0"}))
    assert {made.moves[0].from_host, made.moves[0].to_host} == {"h1", "h2"}
    for name, server in fleet.servers.items():
        fleet.servers[name] = dataclasses.replace(server, wanted=dataclasses.replace(server.wanted, zone="elsewhere"))
    assert fleet.plan(room_for(24)).moves == ()


@pytest.mark.parametrize(("gib", "seconds"), [(0, 0.0), (0.5, 2.0), (1, 2.0), (8, 12.0), (20, 25.5), (32, 39.0), (48, 57.0)])
def test_how_long_a_server_is_stunned(gib: float, seconds: float) -> None:
    assert stun_seconds(int(gib * 1024)) == seconds
