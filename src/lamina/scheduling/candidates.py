"""Allocation candidates: every way to satisfy a request within one provider tree and what is shared with it. Pure.

Rules (Placement API reference, "Allocation candidates"; Placement usage guide, "Provider tree modeling"):

- A group with a suffix takes all it asks from one provider. The group without takes each class from one provider
  anywhere in the tree; the providers it uses have the required traits together, and none has a forbidden one.
- In the group without a suffix, an aggregate of a root counts for all of its tree, and a forbidden one for what is shared with
  the tree too; in the others for the root alone.
- A provider with the trait MISC_SHARES_VIA_AGGREGATE serves every tree with a provider in one of its aggregates.
- ``in_tree`` of the group without a suffix names the tree itself, and nothing that is shared from elsewhere serves the group.
  That of another group names the tree of its one provider, which may be shared.
- ``isolate`` gives every suffixed group a provider of its own, one that asks for no resources included.
- One provider of a ``same_subtree`` set is an ancestor of all the others, or the only one.

The search assigns a provider to each *slot* (a suffixed group, or one class of the group without a suffix) in turn, the
slot with the fewest choices first. Groups that differ only by suffix are interchangeable: of the ways to permute their
providers only one is given, so that eight equal groups on eight GPUs are one candidate and not 40,320.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import os_traits

from lamina.model.providers import Candidate, Provider, ProviderTree
from lamina.model.requests import CandidateRequest, RequestGroup

SHARES = os_traits.MISC_SHARES_VIA_AGGREGATE

#: dead ends after which a tree is given up when no candidate came between: eight groups on sixteen GPUs stay far below,
#: and a request made to be hard (packing bins is) cannot hold a worker
MOST_DEAD_ENDS = 20_000
#: ways to let interchangeable groups change places that `permuted` gives: those of four groups
MOST_PERMUTATIONS = 24


@dataclasses.dataclass(frozen=True, slots=True)
class _Slot:
    """What one provider has to serve, and the providers that could, each by itself."""

    group: RequestGroup
    resources: Mapping[str, int]
    choices: tuple[Provider, ...]
    #: the slot before it that it is interchangeable with, and how many such come after it
    twin: int | None = None
    twins_after: int = 0


class World(Protocol):
    """What lies beyond one tree."""

    @property
    def sharing(self) -> Sequence[Provider]:
        """The providers that serve other trees too."""
        ...

    def root_of(self, provider_id: str) -> Provider | None:
        """The root of a provider's tree."""
        ...


class AllTrees:
    """The world as a list of trees."""

    def __init__(self, trees: Iterable[ProviderTree]) -> None:
        self._roots: dict[str, Provider] = {}
        sharing: list[Provider] = []
        for tree in trees:
            for provider in tree.providers:
                self._roots[provider.id] = tree.root
                if SHARES in provider.traits:
                    sharing.append(provider)
        self.sharing: Sequence[Provider] = sharing

    def root_of(self, provider_id: str) -> Provider | None:
        return self._roots.get(provider_id)


def candidates(
    trees: Iterable[ProviderTree], request: CandidateRequest, limit: int | None = None, *, world: World | None = None
) -> Iterator[Candidate]:
    """The candidates of these trees, in their order and that of their providers, found as they are asked for.

    What is shared and what an ``in_tree`` means is looked up in `world`; without one, `trees` are all that exist.
    """
    if world is None:
        trees = list(trees)
        world = AllTrees(trees)
    return islice(each_once(world, (found for tree in trees for found in of_tree(world, tree, request))), limit)


def each_once(world: World, found: Iterable[Candidate]) -> Iterator[Candidate]:
    """The candidates of several trees without those that an earlier tree had too, which takes shared providers."""
    if not world.sharing:
        yield from found
        return
    seen: set[object] = set()
    yield from (candidate for candidate in found if _is_new(candidate, seen))


def _is_new(candidate: Candidate, seen: set[object]) -> bool:
    """Whether the candidate was not given yet: one that takes from shared providers only turns up in many trees."""
    taken = frozenset((p, frozenset(amounts.items())) for p, amounts in candidate.allocations.items())
    key = (taken, frozenset((suffix, frozenset(ids)) for suffix, ids in candidate.mappings.items()))
    if key in seen:
        return False
    seen.add(key)
    return True


def _shared_with(world: World, tree: ProviderTree) -> tuple[Provider, ...]:
    if not world.sharing:
        return ()
    reached = frozenset().union(*(p.aggregates for p in tree.providers))
    return tuple(p for p in world.sharing if p.root_id != tree.root.id and p.aggregates & reached)


def of_tree(world: World, tree: ProviderTree, request: CandidateRequest) -> Iterator[Candidate]:
    """The candidates of one tree, found as they are asked for."""
    if _tree_refuses(tree, request) is None and (slots := _slots(world, tree, request)) is not None:
        yield from _Search(tree, request, slots).run()


def _tree_refuses(tree: ProviderTree, request: CandidateRequest) -> str | None:
    for group in request.groups:
        if not group.suffix and group.in_tree is not None and all(p.id != group.in_tree for p in tree.providers):
            return f"it is not the tree of {group.in_tree}"
    missing = sorted(request.root_required - tree.root.traits)
    if missing:
        return f"the root provider has no trait {', '.join(missing)}"
    unwanted = sorted(request.root_forbidden & tree.root.traits)
    return f"the root provider has the forbidden trait {', '.join(unwanted)}" if unwanted else None


def _slots(world: World, tree: ProviderTree, request: CandidateRequest) -> list[_Slot] | None:
    """The slots of a request on a tree, or None where one has nobody to serve it."""
    reachable = (*tree.providers, *_shared_with(world, tree))
    slots: list[_Slot] = []
    for group in request.groups:
        for piece in pieces(group):
            choices = tuple(p for p in reachable if _refuses(world, tree, group, piece, p) is None)
            if not choices:
                return None
            slots.append(_Slot(group, piece, choices))
    return _with_twins(sorted(slots, key=lambda slot: len(slot.choices)), request)


def pieces(group: RequestGroup) -> list[Mapping[str, int]]:
    """What has to come from one provider each."""
    return [group.resources] if group.suffix else [{name: amount} for name, amount in sorted(group.resources.items())]


def _with_twins(slots: list[_Slot], request: CandidateRequest) -> list[_Slot]:
    tied = frozenset().union(*request.same_subtree)
    chains: list[list[int]] = []
    for index, slot in enumerate(slots):
        if not slot.group.suffix or slot.group.suffix in tied:
            continue
        alike = (c for c in chains if dataclasses.replace(slots[c[0]].group, suffix=slot.group.suffix) == slot.group)
        chain = next(alike, None)
        if chain is None:
            chains.append([index])
        else:
            chain.append(index)
    for chain in chains:
        for place, index in enumerate(chain):
            before = chain[place - 1] if place else None
            slots[index] = dataclasses.replace(slots[index], twin=before, twins_after=len(chain) - 1 - place)
    return slots


def _refuses(world: World, tree: ProviderTree, group: RequestGroup, piece: Mapping[str, int], provider: Provider) -> str | None:
    """Why a provider cannot serve a slot of `tree` all by itself, or None. The first rule broken is told."""
    for name, amount in sorted(piece.items()):
        refused = provider.refuses(name, amount)
        if refused is not None:
            return f"{name}: {refused} on {provider.name}" if name in provider.inventories else f"{refused} on {provider.name}"
    if group.in_tree is not None:
        wanted = world.root_of(group.in_tree)
        if wanted is None or wanted.id != provider.root_id:
            return f"{provider.name} is not in the tree of {group.in_tree}"
    unwanted = sorted(group.forbidden & provider.traits)
    if unwanted:
        return f"{provider.name} has the forbidden trait {', '.join(unwanted)}"
    if group.suffix:
        for choice in group.required:
            if not choice & provider.traits:
                return f"{provider.name} has no trait {' or '.join(sorted(choice))}"
    members = [provider.aggregates] if group.suffix else [provider.aggregates, tree.root.aggregates]
    own = members if provider.root_id == tree.root.id else members[:1]
    if not any(all(choice & aggregates for choice in group.member_of) for aggregates in own):
        return f"{provider.name} is not a member of the aggregates asked for"
    if any(group.not_member_of & aggregates for aggregates in members):
        return f"{provider.name} is a member of a forbidden aggregate"
    return None


def permuted(found: Iterable[Candidate], request: CandidateRequest) -> Iterator[Candidate]:
    """The candidates with every way to let interchangeable groups change places, each candidate's own way first.

    Where there are more ways than `MOST_PERMUTATIONS` the candidates stay as they are.
    """
    chains = _interchangeable(request)
    if not chains or math.prod(math.factorial(len(chain)) for chain in chains) > MOST_PERMUTATIONS:
        yield from found
        return
    for one in found:
        ways = [dict.fromkeys(itertools.permutations([one.mappings[suffix] for suffix in chain])) for chain in chains]
        for way in itertools.product(*ways):
            changed = {suffix: ids for chain, places in zip(chains, way, strict=True) for suffix, ids in zip(chain, places, strict=True)}
            yield dataclasses.replace(one, mappings={**one.mappings, **changed})


def _interchangeable(request: CandidateRequest) -> list[list[str]]:
    """The suffixes of groups that differ by nothing else, two or more together."""
    tied = frozenset().union(*request.same_subtree)
    chains: list[list[RequestGroup]] = []
    for group in request.groups:
        if not group.suffix or group.suffix in tied:
            continue
        chain = next((chain for chain in chains if dataclasses.replace(chain[0], suffix=group.suffix) == group), None)
        if chain is None:
            chains.append([group])
        else:
            chain.append(group)
    return [[group.suffix for group in chain] for chain in chains if len(chain) > 1]


class _Search:
    """Depth first over the slots of one tree."""

    def __init__(self, tree: ProviderTree, request: CandidateRequest, slots: Sequence[_Slot]) -> None:
        self.tree = tree
        self.request = request
        self.slots = slots
        self.isolate = request.group_policy == "isolate"
        self.chosen: list[Provider] = []
        self.taken: dict[tuple[str, str], int] = {}
        self.dead_ends = 0

    def run(self) -> Iterator[Candidate]:
        if self.isolate and not self._can_isolate():
            return
        yield from self._from(0)

    def _from(self, index: int) -> Iterator[Candidate]:
        if index == len(self.slots):
            if self._traits_together() and self._same_subtrees():
                self.dead_ends = 0
                yield self._candidate()
            else:
                self.dead_ends += 1
            return
        slot = self.slots[index]
        for provider in self._choices(slot):
            if self.dead_ends > MOST_DEAD_ENDS:
                return
            if not self._fits(slot, provider):
                self.dead_ends += 1
                continue
            self._take(slot, provider, 1)
            self.chosen.append(provider)
            yield from self._from(index + 1)
            self.chosen.pop()
            self._take(slot, provider, -1)

    def _choices(self, slot: _Slot) -> Sequence[Provider]:
        """The providers to try: twins take theirs in order, and apart from each other where they are isolated."""
        first = 0 if slot.twin is None else slot.choices.index(self.chosen[slot.twin])
        if not self.isolate:
            return slot.choices[first:]
        return slot.choices[first + (slot.twin is not None) : len(slot.choices) - slot.twins_after]

    def _fits(self, slot: _Slot, provider: Provider) -> bool:
        """Whether the provider can serve the slot beside what it serves already."""
        if self.isolate and slot.group.suffix:
            apart = (p for other, p in zip(self.slots, self.chosen, strict=False) if other.group.suffix)
            if any(p.id == provider.id for p in apart):
                return False
        return all(
            provider.refuses(name, amount + self.taken.get((provider.id, name), 0)) is None for name, amount in slot.resources.items()
        )

    def _take(self, slot: _Slot, provider: Provider, sign: int) -> None:
        for name, amount in slot.resources.items():
            key = (provider.id, name)
            self.taken[key] = self.taken.get(key, 0) + sign * amount

    def _can_isolate(self) -> bool:
        """Whether every suffixed group can have a provider of its own: a perfect matching, by augmenting paths."""
        owner: dict[str, _Slot] = {}

        def place(slot: _Slot, tried: set[str]) -> bool:
            for provider in slot.choices:
                if provider.id not in tried:
                    tried.add(provider.id)
                    if provider.id not in owner or place(owner[provider.id], tried):
                        owner[provider.id] = slot
                        return True
            return False

        return all(place(slot, set()) for slot in self.slots if slot.group.suffix)

    def _traits_together(self) -> bool:
        """Whether the providers of the group without a suffix have its required traits between them."""
        for group in self.request.groups:
            if group.suffix or not group.required:
                continue
            chosen = [p for slot, p in zip(self.slots, self.chosen, strict=True) if not slot.group.suffix]
            traits = frozenset().union(*(p.traits for p in chosen))
            if not all(choice & traits for choice in group.required):
                return False
        return True

    def _same_subtrees(self) -> bool:
        for together in self.request.same_subtree:
            ids = {p.id for slot, p in zip(self.slots, self.chosen, strict=True) if slot.group.suffix in together}
            if len(ids) > 1 and not any(ids <= self.tree.below(top) for top in ids):
                return False
        return True

    def _candidate(self) -> Candidate:
        allocations: dict[str, dict[str, int]] = {}
        mappings: dict[str, tuple[str, ...]] = {}
        for slot, provider in zip(self.slots, self.chosen, strict=True):
            for name, amount in slot.resources.items():
                of_provider = allocations.setdefault(provider.id, {})
                of_provider[name] = of_provider.get(name, 0) + amount
            mapped = mappings.get(slot.group.suffix, ())
            if provider.id not in mapped:
                mappings[slot.group.suffix] = (*mapped, provider.id)
        return Candidate(self.tree.root.id, allocations, mappings)


def why_not(tree: ProviderTree, request: CandidateRequest) -> str:
    """A sentence for a person on why `tree`, by itself, has no candidate."""
    refused = _tree_refuses(tree, request)
    if refused is not None:
        return refused
    world = AllTrees([tree])
    for group in request.groups:
        for choice in group.required:
            if not any(choice & p.traits for p in tree.providers):
                return f"no provider with trait {' or '.join(sorted(choice))}"
        for piece in pieces(group):
            refused = _why_none(world, tree, group, piece)
            if refused is not None:
                return refused
    suffixed = sum(1 for group in request.groups if group.suffix)
    apart = f", the {suffixed} numbered groups on a provider each" if request.group_policy == "isolate" and suffixed > 1 else ""
    return f"no combination of providers serves all groups together{apart}"


def _why_none(world: World, tree: ProviderTree, group: RequestGroup, piece: Mapping[str, int]) -> str | None:
    for name in sorted(piece):
        if not any(name in p.inventories for p in tree.providers):
            return f"no provider has an inventory of {name}"
    having = [p for p in tree.providers if piece.keys() <= p.inventories.keys()]
    if not having:
        return f"no provider has all of {', '.join(sorted(piece))}"
    reasons = [_refuses(world, tree, group, piece, p) for p in having]
    if None in reasons:
        return None
    more = f" (and {len(reasons) - 3} more providers refuse)" if len(reasons) > 3 else ""
    return ", ".join(reason for reason in reasons[:3] if reason) + more
