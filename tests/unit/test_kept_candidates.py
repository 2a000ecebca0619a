"""What is kept of a request is what it would find anew, whatever changed meanwhile."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.model.providers import ProviderTree, trees_of
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.scheduling import kept_candidates
from lamina.scheduling.candidates import candidates
from lamina.scheduling.field import Field
from lamina.store.snapshots import Snapshot
from tests.unit.test_candidates import host, keys, provider, requests, worlds


class Kept:
    """A field through which the same requests go again and again, beside the trees that are in it."""

    def __init__(self) -> None:
        self.field = Field()
        self.trees: dict[str, ProviderTree] = {}

    def become(self, trees: list[ProviderTree]) -> None:
        """Trees that are equal stay the same ones, as in an index that reads again only what has changed."""
        for gone in self.trees.keys() - {tree.root.id for tree in trees}:
            self.field.remove(gone)
            del self.trees[gone]
        for tree in trees:
            if self.trees.get(tree.root.id) != tree:
                self.trees[tree.root.id] = tree
                self.field.put(Snapshot(tree))

    def must_find(self, request: CandidateRequest) -> None:
        trees = sorted(self.trees.values(), key=lambda tree: tree.root.name)
        wanted = list(candidates(trees, request))
        found = list(self.field.candidates(request))
        assert keys(found, request) == keys(wanted, request)
        assert len(found) == len(wanted)


@settings(max_examples=300, deadline=None)
@given(st.lists(worlds(), min_size=2, max_size=4), st.lists(requests(), min_size=1, max_size=3))
def test_the_same_as_anew(generations: list[list[ProviderTree]], asked: list[CandidateRequest]) -> None:
    kept = Kept()
    for trees in generations:
        kept.become(trees)
        for request in [*asked, *asked]:
            kept.must_find(request)


def vgpus(amount: int, trait: str | None = None) -> CandidateRequest:
    required = () if trait is None else (frozenset({trait}),)
    return CandidateRequest((RequestGroup("", {"VCPU": 1}), RequestGroup("1", {"VGPU": amount}, required=required)), "none")


@pytest.mark.parametrize(("kinds", "of_all", "of_tree"), [(256, 4096, 16), (2, 3, 1), (1, 1, 0)])
def test_a_fleet_that_fills_and_empties(monkeypatch: pytest.MonkeyPatch, kinds: int, of_all: int, of_tree: int) -> None:
    """However little is kept, nothing is found that is not there, and nothing left out."""
    for name, value in (("MOST_KINDS", kinds), ("MOST_TREES", of_all), ("MOST_OF_TREE", of_tree), ("MOST_CHANGED", 3)):
        monkeypatch.setattr(kept_candidates, name, value)
    draw = random.Random(kinds)  # noqa: S311
    kept = Kept()
    asked = [vgpus(1), vgpus(2), vgpus(1, "CUSTOM_A"), CandidateRequest((RequestGroup("", {"VCPU": 8}),))]
    kept.become([host(f"host{n}", gpus=2) for n in range(6)])
    for _ in range(120):
        name = f"host{draw.randrange(8)}"
        trees = {tree.root.name: tree for tree in kept.trees.values()}
        if draw.random() < 0.15:
            trees.pop(name, None)
        else:
            used = {"VGPU": draw.randrange(3)}
            root = provider(name, VCPU=8, used={"VCPU": draw.randrange(9)})
            trees[name] = trees_of([root, provider(f"{name}_gpu", name, VGPU=2, used=used)])[0]
        kept.become(list(trees.values()))
        for request in draw.sample(asked, 2):
            kept.must_find(request)


def test_one_who_stops_early_hides_nothing_from_the_next() -> None:
    kept = Kept()
    kept.become([host(f"host{n}", gpus=3) for n in range(3)])
    request = vgpus(1)
    assert len(list(itertools.islice(kept.field.candidates(request), 4))) == 4
    kept.must_find(request)
    assert len(list(itertools.islice(kept.field.candidates(request), 7))) == 7
    kept.must_find(request)


def test_a_search_goes_on_while_the_field_changes() -> None:
    kept = Kept()
    kept.become([host(f"host{n}", gpus=1) for n in range(3)])
    found = kept.field.candidates(vgpus(1))
    next(found)
    kept.become([host("host2", gpus=2)])
    assert len(list(found)) == 2
    kept.must_find(vgpus(1))
