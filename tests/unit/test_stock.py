"""The columns name every tree that the exact search finds a candidate in, whatever came and went before."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.model.providers import Inventory, Provider, ProviderTree, trees_of
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.scheduling.candidates import AllTrees, candidates
from lamina.scheduling.stock import Stock
from tests.unit.test_candidates import host, keys, provider, requests, worlds


def found_through(stock: Stock, request: CandidateRequest) -> list[ProviderTree]:
    return [tree for slot in stock.promising(request).tolist() if (tree := stock.tree_at(slot)) is not None]


def stocked(*generations: list[ProviderTree]) -> Stock:
    """A stock that held each of these worlds in turn, and holds the last."""
    stock = Stock()
    before: list[ProviderTree] = []
    for trees in generations:
        for gone in before:
            if gone.root.id not in {tree.root.id for tree in trees}:
                stock.remove(gone.root.id)
        for tree in trees:
            stock.put(tree)
        before = trees
    return stock


@settings(max_examples=300)
@given(worlds(), worlds(), requests())
def test_no_tree_with_a_candidate_is_left_out(before: list[ProviderTree], trees: list[ProviderTree], request: CandidateRequest) -> None:
    stock = stocked(before, trees)
    promising = found_through(stock, request)
    assert keys(candidates(promising, request, world=AllTrees(trees)), request) == keys(candidates(trees, request), request)
    assert [tree.root.name for tree in promising] == sorted(tree.root.name for tree in promising)
    assert [tree.root.name for tree in stock.all()] == sorted(tree.root.name for tree in trees)
    assert {p.id for p in stock.sharing} == {p.id for p in AllTrees(trees).sharing}


def vgpus(count: int, isolate: bool = True) -> CandidateRequest:
    groups = tuple(RequestGroup(str(i), {"VGPU": 1}) for i in range(count))
    return CandidateRequest(groups, "isolate" if isolate else "none")


def test_trees_that_cannot_serve_are_turned_down_by_numbers_alone() -> None:
    stock = stocked([host("small", gpus=4), host("large", gpus=8)])
    assert [tree.root.name for tree in found_through(stock, vgpus(5))] == ["large"]
    assert found_through(stock, vgpus(9)) == []
    assert len(found_through(stock, CandidateRequest((RequestGroup("", {"VCPU": 64}),)))) == 2
    assert found_through(stock, CandidateRequest((RequestGroup("", {"VCPU": 65}),))) == []
    assert found_through(stock, CandidateRequest((RequestGroup("", {"NOBODYS": 1}),))) == []


def test_what_is_used_counts_at_once() -> None:
    stock = stocked([host(gpus=1)], [trees_of([provider("host", VCPU=64), provider("host_gpu00", "host", VGPU=1, used={"VGPU": 1})])[0]])
    assert found_through(stock, vgpus(1)) == []


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_units_are_kept(amount: int, least: int, step: int, most: int) -> None:
    inventory = Inventory(10, min_unit=least, step_size=step, max_unit=most)
    tree = ProviderTree((Provider("p", "p", 0, "p", inventories={"VGPU": inventory}, used={"VGPU": 0}),))
    named = found_through(stocked([tree]), CandidateRequest((RequestGroup("1", {"VGPU": amount}),)))
    assert bool(named) == (inventory.refuses(amount, 0) is None)


def test_a_thousand_hosts_come_and_go() -> None:
    stock = stocked([host(f"host{i:04}", gpus=2) for i in range(1000)], [host(f"host{i:04}", gpus=2) for i in range(0, 1000, 2)])
    assert len(stock) == 500
    assert len(found_through(stock, vgpus(2))) == 500
    for tree in stock.all():
        stock.remove(tree.root.id)
    assert found_through(stock, vgpus(1)) == []
    stock.put(host("host0001", gpus=3))
    assert [tree.root.name for tree in found_through(stock, vgpus(3))] == ["host0001"]
