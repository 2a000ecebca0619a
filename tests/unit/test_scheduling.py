"""Filters, policies, the choice of vGPU types, and what Placement is shown of a GPU."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import capacity, partitioners
from lamina.model.errors import NoValidHost
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, VgpuType
from lamina.model.ids import PciAddress
from lamina.model.policies import PolicyName
from lamina.model.providers import Candidate, Inventory, Provider, ProviderTree
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.scheduling import candidates, choice, filters, vgpus
from lamina.scheduling.field import Field
from lamina.scheduling.filters import HostState, Wanted
from lamina.store.hosts import GpuRecord, Host
from lamina.store.snapshots import GpuSnapshot, Snapshot

SMALL = VgpuType("11", "nvidia-11", 512, 4)
LARGE = VgpuType("12", "nvidia-12", 1024, 2)


def gpu(**changes: object) -> Gpu:
    made = Gpu(
        address=PciAddress.parse("0000:81:00.0"),
        model="by hand",
        framework=Framework.MDEV,
        partitioning=Partitioning.SAME_SIZE,
        framebuffer_mb=2048,
        types=(SMALL, LARGE),
        enabled_types=("nvidia-11", "nvidia-12"),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def tree(name: str, card: Gpu, layout: Layout) -> ProviderTree:
    root = Provider(f"{name}-id", name, 0, f"{name}-id", None, {"VCPU": Inventory(8)}, {"VCPU": 0})
    inventory = capacity.gpu_inventory(card, layout)
    child = Provider(
        f"{name}-gpu",
        f"{name}_gpu",
        0,
        root.id,
        root.id,
        {"VGPU": inventory} if inventory else {},
        {"VGPU": len(layout.ours)},
        capacity.gpu_traits(card, layout),
    )
    return ProviderTree((root, child))


def host(name: str, **changes: object) -> HostState:
    return dataclasses.replace(HostState(name, f"{name}-id", "nova", enabled=True, up=True), **changes)  # type: ignore[arg-type]


def request(amount: int = 1, *, required: tuple[str, ...] = (), forbidden: frozenset[str] = frozenset()) -> CandidateRequest:
    wanted = tuple(frozenset({name}) for name in required)
    return CandidateRequest((RequestGroup("", {"VCPU": 1, "VGPU": amount}, wanted, forbidden),))


def snapshot(name: str, card: Gpu, layout: Layout, **changes: object) -> Snapshot:
    facts: dict[str, object] = {field.name: None for field in dataclasses.fields(Host)}
    facts |= {"name": name, "provider_id": f"{name}-id", "zone": "nova", "enabled": True, "networks": []}
    recorded = Host(**facts | changes)  # type: ignore[arg-type]
    record = GpuRecord(name, card.address, f"{name}-gpu", card, (), present=True)
    return Snapshot(tree(name, card, layout), recorded, {f"{name}-gpu": GpuSnapshot(record, layout)})


def field(names: dict[str, Layout], card: Gpu | None = None) -> Field:
    made = Field()
    for name, layout in names.items():
        made.put(snapshot(name, card or gpu(), layout))
    return made


def choose(names: dict[str, Layout], wanted: Wanted, policy: PolicyName = PolicyName.SPREAD) -> choice.Choice:
    return choice.choose(field(names), wanted, policy)


@pytest.mark.parametrize(
    ("state", "wanted", "reason"),
    [
        (host("a"), Wanted(request()), None),
        (host("a"), Wanted(request(), host="b"), "not the host asked for (b)"),
        (host("a"), Wanted(request(), excluded=frozenset({"a"})), "excluded: tried already, or to be left"),
        (host("a", up=False), Wanted(request()), "its compute service is down"),
        (host("a", enabled=False), Wanted(request()), "its compute service is disabled"),
        (host("a"), Wanted(request(), zone="elsewhere"), "not in availability zone elsewhere"),
        (host("a", networks=frozenset({"x", "y"})), Wanted(request(), networks=frozenset({"x"})), None),
        (host("a", networks=frozenset({"y"})), Wanted(request(), networks=frozenset({"y", "x"})), "has no network x"),
    ],
)
def test_each_filter_says_why(state: HostState, wanted: Wanted, reason: str | None) -> None:
    assert filters.why_not(state, wanted) == reason


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        (PolicyName.SPREAD, ["empty", "half", "most"]),
        (PolicyName.PACK, ["most", "half", "empty"]),
        (PolicyName.BEST_FIT, ["most", "half", "empty"]),
        (PolicyName.FIRST_FIT, ["empty", "half", "most"]),
    ],
)
def test_policies_order_hosts(policy: PolicyName, order: list[str]) -> None:
    names = {"most": Layout((SMALL,) * 3), "half": Layout((SMALL,) * 2), "empty": Layout()}
    for place, first in enumerate(order):
        wanted = Wanted(request(), excluded=frozenset(order[:place]))
        assert choose(names, wanted, policy).host.name == first
    last = choose(names, Wanted(request(), last_resort=order[0]), policy)
    assert last.host.name == order[1]
    assert choose({order[0]: names[order[0]]}, Wanted(request(), last_resort=order[0]), policy).host.name == order[0]


def test_hosts_that_change_are_scored_anew() -> None:
    hosts = field({"a": Layout((SMALL,)), "b": Layout()})
    assert choice.choose(hosts, Wanted(request()), PolicyName.SPREAD).host.name == "b"
    hosts.put(snapshot("b", gpu(), Layout((SMALL,) * 2)))
    assert choice.choose(hosts, Wanted(request()), PolicyName.SPREAD).host.name == "a"
    hosts.remove("a-id")
    assert choice.choose(hosts, Wanted(request()), PolicyName.SPREAD).host.name == "b"
    hosts.remove("b-id")
    with pytest.raises(NoValidHost, match="there is no host"):
        choice.choose(hosts, Wanted(request()), PolicyName.SPREAD)


def test_fragmentation_keeps_the_size_that_others_will_ask_for() -> None:
    """An empty GPU serves large ones; a small one goes where the card is bound to small ones already."""
    large, small = request(required=("CUSTOM_NVIDIA_12",)), request(required=("CUSTOM_NVIDIA_11",))
    hosts = field({"a": Layout(), "b": Layout((SMALL,)), "c": Layout((LARGE,))})
    hosts.expect([(large, 1.0), (small, 1.0)])
    assert choice.choose(hosts, Wanted(small), PolicyName.FRAGMENTATION).host.name == "b"
    assert choice.choose(hosts, Wanted(large), PolicyName.FRAGMENTATION).host.name == "c"


def test_those_who_choose_at_once_begin_with_different_ones_of_the_best() -> None:
    names = [f"host-{number:02}" for number in range(40)]
    best = names[:5]
    hosts = field({name: Layout((SMALL,) * (0 if name in best else 2)) for name in names})

    def firsts(policy: PolicyName, lots: range) -> set[str]:
        return {choice.choose(hosts, Wanted(request()), policy, lot=lot).host.name for lot in lots}

    assert firsts(PolicyName.SPREAD, range(1)) == {"host-00"}
    assert firsts(PolicyName.SPREAD, range(1, 200)) == set(best)
    assert firsts(PolicyName.PACK, range(200)) == {"host-05"}, "who fills up hosts wishes to meet"
    only = Wanted(request(), excluded=frozenset(names) - {"host-30"})
    assert {choice.choose(hosts, only, PolicyName.SPREAD, lot=lot).host.name for lot in range(40)} == {"host-30"}


def test_a_host_that_is_down_is_passed_over() -> None:
    with pytest.raises(NoValidHost, match="its compute service is down"):
        choice.choose(field({"a": Layout()}), Wanted(request()), PolicyName.SPREAD, frozenset({"a"}))


def test_the_type_asked_for_by_trait_is_the_type_that_is_made() -> None:
    for trait, vgpu_type in (("CUSTOM_NVIDIA_11", SMALL), ("CUSTOM_NVIDIA_12", LARGE)):
        found = choose({"a": Layout()}, Wanted(request(required=(trait,))))
        assert [p.type for p in found.placed] == [vgpu_type]


@pytest.mark.parametrize(
    ("required", "forbidden", "allowed"),
    [
        ((), (), (SMALL, LARGE)),
        (({"CUSTOM_RACK"},), (), (SMALL, LARGE)),
        (({"CUSTOM_RACK"}, {"CUSTOM_NVIDIA_12"}), (), (LARGE,)),
        (({"CUSTOM_RACK", "CUSTOM_NVIDIA_11"},), (), (SMALL,)),
        (({"CUSTOM_NVIDIA_11", "CUSTOM_NVIDIA_12"},), ("CUSTOM_NVIDIA_12",), (SMALL,)),
        (({"CUSTOM_NVIDIA_11"}, {"CUSTOM_NVIDIA_12"}), (), ()),
    ],
)
def test_only_traits_of_types_choose_types(
    required: tuple[set[str], ...], forbidden: tuple[str, ...], allowed: tuple[VgpuType, ...]
) -> None:
    group = RequestGroup("", {"VGPU": 1}, tuple(map(frozenset, required)), frozenset(forbidden))
    assert vgpus.allowed_types(gpu(), Layout(), group) == allowed


def test_a_gpu_bound_to_a_size_takes_no_other() -> None:
    with pytest.raises(NoValidHost) as caught:
        choose({"a": Layout((SMALL,))}, Wanted(request(required=("CUSTOM_NVIDIA_12",))))
    assert "CUSTOM_NVIDIA_12" in caught.value.message
    found = choose({"a": Layout((LARGE,))}, Wanted(request()))
    assert [p.type for p in found.placed] == [LARGE], "the standing size is taken, though the other is preferred"


def test_foreign_devices_take_room_and_bind_the_size() -> None:
    with pytest.raises(NoValidHost):
        choose({"a": Layout(foreign=(SMALL,) * 4)}, Wanted(request()))
    found = choose({"a": Layout(foreign=(LARGE,))}, Wanted(request()))
    assert [p.type for p in found.placed] == [LARGE]


def test_a_refusal_tells_of_every_host() -> None:
    wanted = Wanted(request(), excluded=frozenset({"b"}))
    with pytest.raises(NoValidHost) as caught:
        choose({"a": Layout((SMALL,) * 4), "b": Layout()}, wanted)
    assert caught.value.reasons.keys() == {"a", "b"}
    assert caught.value.message.startswith("No valid host was found. a: VGPU: ")


types = st.sampled_from([SMALL, LARGE])
layouts = st.builds(Layout, st.lists(types, max_size=5).map(tuple), st.lists(types, max_size=3).map(tuple))
cards = st.builds(
    gpu,
    partitioning=st.sampled_from((Partitioning.SAME_SIZE, Partitioning.SHARED_POOL)),
    max_instances=st.none() | st.integers(1, 5),
    virtual_functions=st.none() | st.integers(1, 6),
    enabled_types=st.sampled_from([(), ("nvidia-11",), ("nvidia-12",), ("nvidia-12", "nvidia-11")]),
)


@given(cards, layouts)
def test_the_inventory_is_what_can_in_fact_be_made(card: Gpu, layout: Layout) -> None:
    """Capacity left = the most that can be added one by one, found by trying."""

    def most(now: Layout) -> int:
        return max((1 + most(now.plus(t)) for t in card.enabled if partitioners.room(card, now, t)), default=0)

    inventory = capacity.gpu_inventory(card, layout)
    left = inventory.capacity - len(layout.ours) if inventory is not None else 0
    if card.partitioning is Partitioning.SAME_SIZE or len(card.enabled_types) == 1:
        assert left == most(layout)
    else:
        assert left <= most(layout)
    for vgpu_type in card.enabled:
        assert partitioners.room(card, layout, vgpu_type) == 0 or vgpu_type.trait in capacity.gpu_traits(card, layout)


@given(cards, layouts, st.integers(1, 4))
def test_what_is_placed_always_has_room(card: Gpu, layout: Layout, amount: int) -> None:
    candidate = next(iter(_candidates(card, layout, amount)), None)
    if candidate is None:
        return
    placed = vgpus.place(candidate, request(amount), {"a-gpu": card}, {"a-gpu": layout})
    if placed is not None:
        assert len(placed) == amount
        for each in placed:
            assert partitioners.room(card, layout, each.type) > 0
            layout = layout.plus(each.type)


def _candidates(card: Gpu, layout: Layout, amount: int) -> list[Candidate]:
    return list(candidates.candidates([tree("a", card, layout)], request(amount), 1))
