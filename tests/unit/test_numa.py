"""A server's vGPUs come from GPUs of one NUMA node where its host offers the choice, and where the policy does not mind."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import capacity
from lamina.model.gpus import Layout
from lamina.model.ids import PciAddress
from lamina.model.policies import PolicyName
from lamina.model.providers import Provider, ProviderTree
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.scheduling.choice import Choice, choose
from lamina.scheduling.field import Field
from lamina.scheduling.filters import Wanted
from lamina.store.hosts import GpuRecord
from lamina.store.snapshots import GpuSnapshot, Snapshot
from tests.unit.test_scheduling import SMALL, gpu, snapshot

#: of each GPU: its NUMA node, and how many of its four small vGPUs are taken
Cards = list[tuple[int | None, int]]
CARDS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=2, max_size=6)


def host(cards: Cards) -> Snapshot:
    """A host with these GPUs, whose providers are called by their places."""
    bare = snapshot("host", gpu(), Layout())
    members, gpus = [bare.tree.root], {}
    for place, (node, taken) in enumerate(cards):
        card, layout = gpu(address=PciAddress.parse(f"0000:{place + 1:02x}:00.0"), numa_node=node), Layout((SMALL,) * taken)
        inventory = capacity.gpu_inventory(card, layout)
        stock = {"VGPU": inventory} if inventory is not None else {}
        used = dict.fromkeys(stock, taken)
        root = bare.tree.root.id
        members.append(Provider(str(place), f"gpu{place}", 0, root, root, stock, used, capacity.gpu_traits(card, layout)))
        gpus[str(place)] = GpuSnapshot(GpuRecord("host", card.address, str(place), card, (), present=True), layout)
    return Snapshot(ProviderTree(tuple(members)), bare.host, gpus)


def several(count: int) -> CandidateRequest:
    """One vGPU of each of so many GPUs."""
    return CandidateRequest((RequestGroup("", {"VCPU": 1}), *(RequestGroup(str(n), {"VGPU": 1}) for n in range(count))), "isolate")


def chosen(cards: Cards, count: int, policy: PolicyName = PolicyName.FIRST_FIT) -> Choice:
    field = Field()
    field.put(host(cards))
    return choose(field, Wanted(several(count)), policy)


def places(choice: Choice) -> list[int]:
    return sorted(int(placed.provider_id) for placed in choice.placed)


@pytest.mark.parametrize(
    ("cards", "count", "expected"),
    [
        ([(0, 0), (1, 0), (0, 0), (1, 0)], 2, [0, 2]),
        ([(0, 0), (1, 0), (0, 4), (1, 0)], 2, [1, 3]),  # the second of node 0 is full
        ([(0, 0), (1, 0), (2, 0), (2, 0), (1, 0), (1, 0)], 3, [1, 4, 5]),
        ([(0, 0), (1, 0), (2, 0), (1, 0)], 3, [0, 1, 3]),  # no node has three; two nodes do
        ([(0, 0), (1, 0)], 2, [0, 1]),  # far is better than not at all
        ([(None, 0), (None, 0), (0, 0), (0, 0)], 2, [0, 1]),
        ([(0, 0), (1, 0), (1, 0)], 1, [0]),
    ],
)
def test_gpus_of_one_node_are_taken_where_there_are_enough(cards: Cards, count: int, expected: list[int]) -> None:
    assert places(chosen(cards, count)) == expected


def test_what_the_policy_prefers_comes_before_nearness() -> None:
    cards: Cards = [(0, 3), (1, 3), (0, 0), (1, 0)]
    assert places(chosen(cards, 2, PolicyName.PACK)) == [0, 1]
    assert places(chosen(cards, 2, PolicyName.SPREAD)) == [0, 2]
    assert places(chosen([(0, 3), (1, 3), (1, 3)], 2, PolicyName.PACK)) == [1, 2]


@given(CARDS, st.integers(2, 3), st.sampled_from(list(PolicyName)))
def test_nothing_that_scores_the_same_is_on_fewer_nodes(cards: Cards, count: int, policy: PolicyName) -> None:
    """Against every way there is: those that no policy could tell apart, as they have the same layouts."""
    free = [place for place, (_, taken) in enumerate(cards) if taken < 4]
    if len(free) < count:
        return
    found = places(chosen(cards, count, policy))
    taken = sorted(cards[place][1] for place in found)
    alike = [way for way in itertools.combinations(free, count) if sorted(cards[place][1] for place in way) == taken]
    assert len({cards[place][0] for place in found}) == min(len({cards[place][0] for place in way}) for way in alike)


@given(CARDS, st.integers(1, 3), st.sampled_from(list(PolicyName)))
def test_where_gpus_are_costs_no_room_and_no_score(cards: Cards, count: int, policy: PolicyName) -> None:
    """The same layouts are filled as on a machine that does not tell where its GPUs are."""
    if sum(taken < 4 for _, taken in cards) < count:
        return
    near, anywhere = (chosen([(node if told else None, taken) for node, taken in cards], count, policy) for told in (True, False))
    if policy in (PolicyName.PACK, PolicyName.BEST_FIT, PolicyName.FRAGMENTATION):
        assert sorted(cards[p][1] for p in places(near)) == sorted(cards[p][1] for p in places(anywhere))
    assert len(set(places(near))) == count

