"""Allocation candidates against a reference that tries every assignment, and against the rules by example."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.model.providers import Candidate, Inventory, Provider, ProviderTree, trees_of
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.scheduling.candidates import MOST_PERMUTATIONS, SHARES, candidates, permuted, why_not

CLASSES = ("VCPU", "VGPU", "DISK_GB")
TRAITS = ("CUSTOM_A", "CUSTOM_B")
AGGREGATES = ("agg1", "agg2")

Key = tuple[frozenset[tuple[str, frozenset[tuple[str, int]]]], object]


def provider(
    name: str,
    parent: str | None = None,
    root: str | None = None,
    *,
    traits: Iterable[str] = (),
    aggregates: Iterable[str] = (),
    used: Mapping[str, int] | None = None,
    **totals: int,
) -> Provider:
    return Provider(
        id=name,
        name=name,
        generation=0,
        root_id=root or parent or name,
        parent_id=parent,
        inventories={n: Inventory(total) for n, total in totals.items()},
        used=dict.fromkeys(totals, 0) | dict(used or {}),
        traits=frozenset(traits),
        aggregates=frozenset(aggregates),
    )


def host(name: str = "host", gpus: int = 8, vgpus: int = 1) -> ProviderTree:
    root = provider(name, VCPU=64)
    return trees_of([root, *(provider(f"{name}_gpu{i:02}", name, VGPU=vgpus) for i in range(gpus))])[0]


# ------------------------------------------------------------------------------------------------ the reference


def reference(trees: list[ProviderTree], request: CandidateRequest) -> Iterator[Candidate]:
    """Every assignment of a provider to every group (to every class of the unnumbered one), tested after the fact."""
    root_of = {p.id: tree.root for tree in trees for p in tree.providers}
    for tree in trees:
        reached = {a for p in tree.providers for a in p.aggregates}
        around = [p for t in trees for p in t.providers if t is tree or (SHARES in p.traits and p.aggregates & reached)]
        wants = [(g, r) for g in request.groups for r in ([g.resources] if g.suffix else [{n: a} for n, a in g.resources.items()])]
        for chosen in itertools.product(around, repeat=len(wants)):
            if _allowed(tree, root_of, request, list(zip(wants, chosen, strict=True))):
                allocations: dict[str, dict[str, int]] = {}
                mappings: dict[str, tuple[str, ...]] = {}
                for (group, resources), p in zip(wants, chosen, strict=True):
                    for name, amount in resources.items():
                        sums = allocations.setdefault(p.id, {})
                        sums[name] = sums.get(name, 0) + amount
                    mappings[group.suffix] = tuple(sorted({*mappings.get(group.suffix, ()), p.id}))
                yield Candidate(tree.root.id, allocations, mappings)


def _allowed(
    tree: ProviderTree,
    root_of: Mapping[str, Provider],
    request: CandidateRequest,
    assigned: list[tuple[tuple[RequestGroup, Mapping[str, int]], Provider]],
) -> bool:
    if not request.root_required <= tree.root.traits or request.root_forbidden & tree.root.traits:
        return False
    sums: dict[tuple[str, str], int] = {}
    for (group, resources), p in assigned:
        for name, amount in resources.items():
            sums[p.id, name] = sums.get((p.id, name), 0) + amount
            if p.refuses(name, amount) is not None or p.refuses(name, sums[p.id, name]) is not None:
                return False
        if not _group_allows(tree, root_of, group, p):
            return False
    for group in request.groups:
        traits = frozenset().union(*(p.traits for (g, _), p in assigned if g is group))
        if not all(choice & traits for choice in group.required):
            return False
    numbered = [p.id for (g, _), p in assigned if g.suffix]
    if request.group_policy == "isolate" and len(set(numbered)) < len(numbered):
        return False
    for together in request.same_subtree:
        ids = {p.id for (g, _), p in assigned if g.suffix in together}
        if ids and not any(ids <= tree.below(top) for top in ids):
            return False
    return True


def _group_allows(tree: ProviderTree, root_of: Mapping[str, Provider], group: RequestGroup, p: Provider) -> bool:
    if group.in_tree is not None and root_of[p.id] != root_of.get(group.in_tree):
        return False
    if group.in_tree is not None and not group.suffix and root_of[p.id] != tree.root:  # what is shared from there does not do
        return False
    if group.forbidden & p.traits:
        return False
    lent = frozenset() if group.suffix else root_of[p.id].aggregates
    if group.not_member_of & (p.aggregates | lent):
        return False
    member = all(choice & p.aggregates for choice in group.member_of)
    return member or (not group.suffix and all(choice & lent for choice in group.member_of))


def keys(found: Iterable[Candidate], request: CandidateRequest) -> set[Key]:
    """Candidates as values; the providers of interchangeable groups in one order."""
    tied = frozenset().union(*request.same_subtree)
    result: set[Key] = set()
    for candidate in found:
        of_kind: dict[object, list[frozenset[str]]] = {}
        for group in request.groups:
            kind = (group.suffix if group.suffix in tied else bool(group.suffix), repr(_plain(group)))
            of_kind.setdefault(kind, []).append(frozenset(candidate.mappings[group.suffix]))
        mapped = frozenset((kind, repr(sorted(sorted(one) for one in ids))) for kind, ids in of_kind.items())
        result.add((frozenset((p, frozenset(a.items())) for p, a in candidate.allocations.items()), mapped))
    return result


def _plain(group: RequestGroup) -> tuple[object, ...]:
    return (
        sorted(group.resources.items()),
        [sorted(c) for c in group.required],
        sorted(group.forbidden),
        [sorted(c) for c in group.member_of],
        sorted(group.not_member_of),
        group.in_tree,
    )


# ------------------------------------------------------------------------------------------------ the search is the reference

some_traits = st.frozensets(st.sampled_from(TRAITS))
some_aggregates = st.frozensets(st.sampled_from(AGGREGATES))
choices_of_traits = st.lists(st.frozensets(st.sampled_from(TRAITS), min_size=1), max_size=1).map(tuple)
choices_of_aggregates = st.lists(st.frozensets(st.sampled_from(AGGREGATES), min_size=1), max_size=1).map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> list[ProviderTree]:
    providers = []
    for number in range(draw(st.integers(1, 2))):
        ids: list[str] = []
        for index in range(draw(st.integers(1, 4))):
            parent = draw(st.sampled_from(ids)) if ids else None
            totals = draw(st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 3), max_size=2))
            traits = draw(some_traits) | ({SHARES} if draw(st.integers(0, 4)) == 0 else set())
            name = f"p{number}{index}"
            used = {c: draw(st.integers(0, n)) for c, n in totals.items()}
            root = ids[0] if ids else None
            providers.append(provider(name, parent, root, traits=traits, aggregates=draw(some_aggregates), used=used, **totals))
            ids.append(name)
    return trees_of(providers)


@st.composite
def requests(draw: st.DrawFn) -> CandidateRequest:
    groups = []
    suffixes = ["1", "2", "_3"][: draw(st.integers(0, 3))]
    amounts = st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 2), min_size=1, max_size=2)
    alike = draw(st.booleans())
    shape = draw(amounts)
    for suffix in ([""] if draw(st.booleans()) or not suffixes else []) + suffixes:
        plain = alike and suffix != ""
        groups.append(
            RequestGroup(
                suffix,
                shape if plain else draw(amounts),
                () if plain else draw(choices_of_traits),
                frozenset() if plain or draw(st.integers(0, 2)) else draw(some_traits),
                () if plain or draw(st.integers(0, 2)) else draw(choices_of_aggregates),
                frozenset() if plain or draw(st.integers(0, 2)) else draw(some_aggregates),
                draw(st.sampled_from([None, None, None, "p00", "p11"])) if not plain else None,
            )
        )
    together = (frozenset(draw(st.sets(st.sampled_from(suffixes), min_size=2))),) if len(suffixes) > 1 and draw(st.booleans()) else ()
    root_required = draw(some_traits) if draw(st.integers(0, 5)) == 0 else frozenset()
    root_forbidden = draw(some_traits) if draw(st.integers(0, 5)) == 0 else frozenset()
    return CandidateRequest(tuple(groups), draw(st.sampled_from(["none", "isolate"])), together, root_required, root_forbidden)


@settings(max_examples=300, deadline=None)
@given(worlds(), requests())
def test_the_search_finds_what_the_reference_finds(trees: list[ProviderTree], request: CandidateRequest) -> None:
    found = list(candidates(trees, request))
    assert keys(found, request) == keys(reference(trees, request), request)
    # two hosts that share with each other may both give what is on both
    given_by = [(candidate.root_id, *keys([candidate], request)) for candidate in found]
    assert len(set(given_by)) == len(given_by), "one candidate was given twice"


@settings(max_examples=100, deadline=None)
@given(worlds(), requests())
def test_the_order_is_always_the_same_and_a_limit_cuts_it(trees: list[ProviderTree], request: CandidateRequest) -> None:
    found = list(candidates(trees, request))
    assert list(candidates(trees, request)) == found
    assert list(candidates(trees, request, limit=2)) == found[:2]


@settings(max_examples=100, deadline=None)
@given(worlds(), requests())
def test_why_not_always_has_something_to_say(trees: list[ProviderTree], request: CandidateRequest) -> None:
    for tree in trees:
        if not list(candidates([tree], request)):
            assert why_not(tree, request)


# ------------------------------------------------------------------------------------------------ by example


def vgpu_groups(count: int, amount: int = 1) -> tuple[RequestGroup, ...]:
    return tuple(RequestGroup(str(n), {"VGPU": amount}) for n in range(1, count + 1))


def test_equal_groups_are_not_permuted() -> None:
    request = CandidateRequest(vgpu_groups(8), "isolate")
    (only,) = candidates([host(gpus=8)], request)
    assert only.mappings == {str(n): (f"host_gpu{n - 1:02}",) for n in range(1, 9)}


def ways(found: Iterable[Candidate]) -> list[tuple[tuple[str, ...], ...]]:
    """Of each candidate the providers of its groups, by the groups' suffixes."""
    return [tuple(ids for _, ids in sorted(c.mappings.items())) for c in found]


def test_permuted_every_equal_group_changes_places_and_the_own_way_comes_first() -> None:
    request = CandidateRequest(vgpu_groups(3), "isolate")
    own = list(candidates([host(gpus=4)], request))
    all_of_them = ways(permuted(own, request))
    assert len(all_of_them) == len(set(all_of_them)) == len(own) * 6
    assert all_of_them[::6] == ways(own)
    for place, one in enumerate(ways(own)):
        assert sorted(all_of_them[6 * place : 6 * place + 6]) == sorted(itertools.permutations(one))
    assert {frozenset(c.allocations) for c in permuted(own, request)} == {frozenset(c.allocations) for c in own}


def test_permuted_groups_on_one_provider_are_given_once() -> None:
    request = CandidateRequest(vgpu_groups(2), "none")
    found = ways(permuted(candidates([host(gpus=2, vgpus=2)], request), request))
    first, second = ("host_gpu00",), ("host_gpu01",)
    assert found == [(first, first), (first, second), (second, first), (second, second)]


def test_groups_that_differ_keep_their_places_and_so_do_those_that_are_tied() -> None:
    differing = CandidateRequest((RequestGroup("1", {"VGPU": 1}), RequestGroup("2", {"VGPU": 2})), "isolate")
    tied = CandidateRequest(vgpu_groups(2), "none", same_subtree=(frozenset({"1", "2"}),))
    for request in (differing, tied):
        own = list(candidates([host(gpus=3, vgpus=2)], request))
        assert own
        assert list(permuted(own, request)) == own
    mixed = CandidateRequest((*vgpu_groups(2), RequestGroup("3", {"VGPU": 2})), "isolate")
    own = list(candidates([host(gpus=3, vgpus=2)], mixed))
    assert len(ways(permuted(own, mixed))) == 2 * len(own)


def test_more_ways_than_anybody_reads_are_not_given() -> None:
    for groups, times in ((4, MOST_PERMUTATIONS), (5, 1)):
        request = CandidateRequest(vgpu_groups(groups), "isolate")
        own = list(candidates([host(gpus=5)], request))
        assert len(list(permuted(own, request))) == times * len(own)


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from(["isolate", "none"]))
def test_permuted_gives_all_that_the_reference_finds(groups: int, gpus: int, vgpus: int, group_policy: Literal["isolate", "none"]) -> None:
    request = CandidateRequest(vgpu_groups(groups), group_policy)
    trees = [host(gpus=gpus, vgpus=vgpus)]
    found = ways(permuted(candidates(trees, request), request))
    assert len(found) == len(set(found))
    assert set(found) == set(ways(reference(trees, request)))


def test_more_isolated_groups_than_gpus_end_at_once() -> None:
    distinct = tuple(RequestGroup(str(n), {"VGPU": n}) for n in range(1, 10))
    assert list(candidates([host(gpus=8, vgpus=16)], CandidateRequest(distinct, "isolate"))) == []


def test_many_groups_on_many_gpus_give_the_first_ones_at_once() -> None:
    request = CandidateRequest((RequestGroup("", {"VCPU": 8}), *vgpu_groups(8)), "isolate")
    assert len(list(candidates([host(gpus=16)], request, limit=10))) == 10


def test_groups_count_together_on_one_provider() -> None:
    request = CandidateRequest(vgpu_groups(3, amount=2), "none")
    found = list(candidates([host(gpus=2, vgpus=4)], request))
    assert [c.allocations for c in found] == [
        {"host_gpu00": {"VGPU": 4}, "host_gpu01": {"VGPU": 2}},
        {"host_gpu00": {"VGPU": 2}, "host_gpu01": {"VGPU": 4}},
    ]


def test_a_request_too_hard_to_search_is_given_up() -> None:
    # thirty different pieces, none below a third of a GPU, for ten GPUs: far too many ways to fail to try them all
    groups = tuple(RequestGroup(str(n), {"VGPU": 334 + n}) for n in range(30))
    assert list(candidates([host(gpus=10, vgpus=1000)], CandidateRequest(groups, "none"))) == []


def test_a_shared_provider_is_given_once_for_all_trees_that_it_serves() -> None:
    shared = provider("nfs", traits=[SHARES], aggregates=["agg1"], DISK_GB=100)
    trees = trees_of([shared, *(provider(f"cn{n}", aggregates=["agg1"], VCPU=4) for n in (1, 2))])
    assert len(list(candidates(trees, CandidateRequest((RequestGroup("", {"DISK_GB": 1}),))))) == 1
    both = list(candidates(trees, CandidateRequest((RequestGroup("", {"DISK_GB": 1, "VCPU": 1}),))))
    assert [set(c.allocations) for c in both] == [{"cn1", "nfs"}, {"cn2", "nfs"}]


def test_a_group_without_resources_takes_a_provider_and_nothing_of_it() -> None:
    numa = [provider("numa", "host", "host", traits=["CUSTOM_A"]), provider("gpu", "numa", "host", VGPU=1)]
    far = provider("far", "host", "host", VGPU=1)
    trees = trees_of([provider("host"), *numa, far])
    groups = (RequestGroup("_numa", {}, (frozenset({"CUSTOM_A"}),)), RequestGroup("_gpu", {"VGPU": 1}))
    (found,) = candidates(trees, CandidateRequest(groups, "none", (frozenset({"_numa", "_gpu"}),)))
    assert found.allocations == {"gpu": {"VGPU": 1}}
    assert found.mappings == {"_numa": ("numa",), "_gpu": ("gpu",)}


def test_why_not_names_what_is_full() -> None:
    gpu = provider("host1_pci_0000_81_00_0", "host1", VGPU=16, used={"VGPU": 16}, traits=["CUSTOM_A"])
    (tree,) = trees_of([provider("host1", VCPU=4), gpu])

    def told(group: RequestGroup) -> str:
        return why_not(tree, CandidateRequest((group,)))

    assert told(RequestGroup("", {"VGPU": 1})) == "VGPU: 1 does not fit: 16 of 16 are used on host1_pci_0000_81_00_0"
    assert told(RequestGroup("", {"VGPU": 1}, (frozenset({"CUSTOM_X"}),))) == "no provider with trait CUSTOM_X"
    assert told(RequestGroup("", {"DISK_GB": 1})) == "no provider has an inventory of DISK_GB"
    assert told(RequestGroup("1", {"VGPU": 1, "VCPU": 1})) == "no provider has all of VCPU, VGPU"
    assert why_not(host(gpus=1, vgpus=2), CandidateRequest(vgpu_groups(2), "isolate")) == (
        "no combination of providers serves all groups together, the 2 numbered groups on a provider each"
    )
