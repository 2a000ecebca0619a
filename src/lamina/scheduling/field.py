"""The field that is chosen from: hosts with their trees, what is left on them, and the states of their GPUs. In memory.

Scores of a policy are kept for each kind of request and worked out anew only for hosts that changed since.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lamina.model.driver_advisories import DriverTrust
from lamina.model.policies import PolicyName
from lamina.model.providers import Candidate, Provider, ProviderTree
from lamina.model.requests import CandidateRequest
from lamina.scheduling import policies
from lamina.scheduling.candidates import each_once
from lamina.scheduling.gpu_states import ABSENT, GpuStates, other_amounts, wants
from lamina.scheduling.kept_candidates import KeptCandidates
from lamina.scheduling.policies import Ask, Demand, Scores, View
from lamina.scheduling.stock import Numbers, Stock
from lamina.store.snapshots import Snapshot

#: kinds of request whose scores are kept
_MOST_KEPT = 256


@dataclasses.dataclass(slots=True)
class _Kept:
    """Scores by slot, and the version of the field that they are of."""

    scores: Scores
    version: int


class Field:
    """Not safe for threads by itself."""

    def __init__(self, demand: Demand | None = None, trust: DriverTrust | None = None) -> None:
        """`trust` says of hosts' drivers whether new vGPUs are made by them; without it they are by every one."""
        self.trust = trust
        self.stock = Stock()
        self._states = GpuStates()
        self._snapshots: dict[int, Snapshot] = {}
        self.demand = demand
        self._expected: dict[Ask, float] = {}
        #: slots x most GPUs of a host
        self._gpus = np.full((64, 1), ABSENT, np.int32)
        #: slot -> the version of the field at its last change
        self._versions = np.zeros(64, np.int64)
        self._version = 0
        self._gpu_classes: set[str] = set()
        self._kept: dict[tuple[PolicyName, Ask], _Kept] = {}
        self._candidates = KeptCandidates()

    # ------------------------------------------------------------------------------------------------ keeping

    def put(self, snapshot: Snapshot) -> None:
        """Have this tree, in place of what was known under its root's id, and of those whose roots stand in it now."""
        for provider in snapshot.tree.providers[1:]:
            self.remove(provider.id)
        slot = self.stock.put(snapshot.tree)
        self._snapshots[slot] = snapshot
        ids = [p.id for p in snapshot.tree.providers if p.id in snapshot.gpus]
        self._make_room(slot, len(ids))
        self._gpus[slot] = ABSENT
        for column, provider_id in enumerate(ids):
            known = snapshot.gpus[provider_id]
            self._gpu_classes.add(known.gpu.resource_class)
            self._gpus[slot, column] = self._states.number(known.gpu, known.layout)
        self._changed(slot)

    def remove(self, root_id: str) -> None:
        """Forget the tree of this root, if it is known."""
        slot = self.stock.slot_of(root_id)
        if slot is not None:
            self.stock.remove(root_id)
            del self._snapshots[slot]
            self._gpus[slot] = ABSENT
            self._changed(slot)

    def _changed(self, slot: int) -> None:
        self._version += 1
        self._versions[slot] = self._version

    def _make_room(self, slot: int, gpus: int) -> None:
        rows, columns = self._gpus.shape
        if slot >= rows or gpus > columns:
            more = max(rows, 2 * slot) if slot >= rows else rows
            grown = np.full((more, max(columns, gpus)), ABSENT, np.int32)
            grown[:rows, :columns] = self._gpus
            self._gpus = grown
            self._versions = np.concatenate([self._versions, np.zeros(more - rows, np.int64)])
            self._kept.clear()

    def expect(self, requests: Iterable[tuple[CandidateRequest, float]]) -> None:
        """Say what is expected to be asked for from now on, and how often each.

        What asks for no GPU does not count.
        """
        kinds: dict[Ask, float] = {}
        for request, times in requests:
            ask = self.kind(request)
            if ask.wants:
                kinds[ask] = kinds.get(ask, 0.0) + times
        if kinds != self._expected:
            self._expected = kinds
            self.demand = Demand(kinds) if kinds else None
            self._kept.clear()

    # ------------------------------------------------------------------------------------------------ asking

    def snapshot(self, root_id: str) -> Snapshot | None:
        slot = self.stock.slot_of(root_id)
        return self._snapshots.get(slot) if slot is not None else None

    def at(self, slot: int) -> Snapshot | None:
        return self._snapshots.get(slot)

    def kind(self, request: CandidateRequest) -> Ask:
        """The request as policies see it."""
        return Ask(tuple(sorted(other_amounts(request, self._gpu_classes).items())), tuple(wants(request, self._gpu_classes)))

    def promising(self, request: CandidateRequest, ask: Ask) -> Numbers:
        """The slots of trees that could serve the request, as far as numbers and the layouts of GPUs tell, by name."""
        slots = self.stock.promising(request)
        for want in dict.fromkeys(ask.wants):
            fitting = (self._states.after(want, self._gpus[slots]) != ABSENT).sum(axis=1)
            slots = slots[fitting >= (1 if request.group_policy != "isolate" else ask.wants.count(want))]
        return slots

    def scores(self, name: PolicyName, ask: Ask) -> Scores:
        """Of all slots, those that nobody uses included."""
        key = (name, ask)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[key] = _Kept(Scores(np.zeros(self._versions.size), np.zeros(self._gpus.shape)), -1)
        changed = np.flatnonzero(self._versions > kept.version)
        if changed.size:
            fresh = policies.POLICIES[name](self._view(changed, ask), ask)
            kept.scores.hosts[changed] = fresh.hosts
            kept.scores.gpus[changed] = fresh.gpus
            kept.version = self._version
        return kept.scores

    def fragmentation(self) -> float:
        """Which part of the free framebuffer the demand cannot use, from 0 to 1."""
        useless, free = self.useless()
        return useless / free if free else 0.0

    def useless(self) -> tuple[float, float]:
        """How much free framebuffer the demand cannot use, and how much is free in all, in MiB."""
        view = self._view(np.arange(self._versions.size))
        return float(policies.waste(view).sum()), float(self._states.free()[view.gpus].sum())

    def _view(self, slots: Numbers, *asks: Ask) -> View:
        names = {name for ask in asks for name, _ in ask.amounts}
        if self.demand is not None:
            names |= self.demand.needs.keys()
        left, whole = {}, {}
        used = slots < self.stock.slots
        for name in names:
            sums = self.stock.sums(name)
            left[name], whole[name] = (np.where(used, figures[np.where(used, slots, 0)], 0.0) for figures in sums)
        return View(left, whole, self._gpus[slots], self._states, self.demand)

    def candidates(self, request: CandidateRequest) -> Iterator[Candidate]:
        """Every candidate, by the names of the roots, found as they are asked for; the field may change meanwhile."""
        world = World(self.stock, tuple(self.stock.sharing))
        number = self._candidates.number(world, request)
        slots = self._candidates.where(number, request, self.stock, self._versions, self._version)
        trees = (tree for slot in _few_at_a_time(slots) if (tree := self.stock.tree_at(slot)) is not None)
        return each_once(world, (found for tree in trees for found in self._candidates.in_tree(number, request, world, tree)))


def _few_at_a_time(slots: Numbers) -> Iterator[int]:
    """Most callers stop after the first ones."""
    for first in range(0, slots.size, 32):
        yield from slots[first : first + 32].tolist()


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """What lies beyond one tree, for a search that goes on while the field changes."""

    _stock: Stock
    sharing: Sequence[Provider]

    def root_of(self, provider_id: str) -> Provider | None:
        tree: ProviderTree | None = self._stock.tree_of(provider_id)
        return tree.root if tree is not None else None
