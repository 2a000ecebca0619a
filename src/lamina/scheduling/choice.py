"""The choice: which host a server goes to, and which of its GPUs give it what. Pure but for what it looks at.

A policy orders the hosts whose numbers promise room; the first of them that every filter lets through and that has a
candidate which the partitioners of its GPUs allow is taken, its GPUs tried in the policy's order too. Of GPUs that the
policy holds to be equal it takes those on the fewest NUMA nodes: a domain's memory and CPUs can be near to one node only.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from lamina.model.driver_advisories import DriverTrust
from lamina.model.errors import NoValidHost
from lamina.model.policies import PolicyName
from lamina.model.providers import Candidate, ProviderTree
from lamina.scheduling import filters, vgpus
from lamina.scheduling.candidates import candidates, why_not
from lamina.scheduling.field import Field, World
from lamina.scheduling.filters import HostState, Wanted
from lamina.scheduling.stock import Figures, Numbers
from lamina.store.hosts import Host
from lamina.store.snapshots import Snapshot

#: most candidates looked at on one host; more differ only in which of many alike GPUs they name
MOST_CANDIDATES = 1000
#: most sets of NUMA nodes that are tried for a server whose GPUs could be nearer to each other; four nodes have 14
MOST_NODE_SETS = 16
#: one host in so many counts as one of the best, and at most so many do, where several choose at once
PER_BEST, MOST_BEST = 8, 32
#: most hosts that a refusal gives its reasons for
MOST_REASONS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """Where a server would go."""

    snapshot: Snapshot
    host: Host
    candidate: Candidate
    placed: tuple[vgpus.Placed, ...]


def choose(field: Field, wanted: Wanted, policy: PolicyName, down: frozenset[str] = frozenset(), lot: int = 0) -> Choice:
    """The best host by the policy. `down` names hosts whose compute service is down. Raises `NoValidHost`.

    Where hosts are spread over, those who choose at the same time would all meet on the emptiest: with different lots each
    begins with another of the best, and of equals.
    """
    found = find(field, wanted, policy, down, lot)
    if isinstance(found, Choice):
        return found
    raise NoValidHost(found | dict(itertools.islice(_unpromising(field, wanted, down, found), MOST_REASONS)))


def find(
    field: Field, wanted: Wanted, policy: PolicyName, down: frozenset[str] = frozenset(), lot: int = 0
) -> Choice | dict[str, str]:
    """As `choose`; where there is none, the reasons of those hosts that promised room."""
    world = World(field.stock, tuple(field.stock.sharing))
    ask = field.kind(wanted.request)
    scores = field.scores(policy, ask)
    refused: dict[str, str] = {}
    lot = lot if policy is PolicyName.SPREAD else 0
    for slot in _in_order(field, wanted, field.promising(wanted.request, ask), scores.hosts, lot):
        snapshot = field.at(slot)
        if snapshot is None or snapshot.host is None:
            continue
        reason = filters.why_not(_state(snapshot, snapshot.host, field.trust, down), wanted)
        if reason is None:
            scored = scores.gpus[slot].tolist()
            found = _on_host(snapshot, snapshot.host, _by_score(snapshot, scored), wanted, world)
            if isinstance(found, Choice):
                return _nearest(found, scored, wanted, world)
            reason = found
        refused[snapshot.host.name] = reason
    return refused


def _in_order(field: Field, wanted: Wanted, slots: Numbers, scores: Figures, lot: int) -> list[int]:
    """What its group wishes first, then the best scores, by name among equals; the last resort comes last.

    With a lot equals begin with another one of them, and the best with another one of the best.
    """
    if lot and len(slots):
        slots = np.roll(slots, -(lot % len(slots)))
    ordered: list[int] = slots[np.argsort(scores[slots], kind="stable")].tolist()
    best = min(MOST_BEST, len(ordered) // PER_BEST)
    if lot and best > 1:
        turn = lot % best
        ordered[:best] = ordered[turn:best] + ordered[:turn]
    if wanted.company is None and wanted.last_resort is None:
        return ordered
    return sorted(ordered, key=lambda slot: _put_off(field.at(slot), wanted))


def _put_off(snapshot: Snapshot | None, wanted: Wanted) -> tuple[bool, int]:
    """By what a host is put behind others whatever its score is; less is better."""
    name = snapshot.host.name if snapshot is not None and snapshot.host is not None else ""
    return name == wanted.last_resort, wanted.company.dislike(name) if wanted.company is not None else 0


def _state(snapshot: Snapshot, host: Host, trust: DriverTrust | None, down: frozenset[str]) -> HostState:
    gpus = [known.gpu for known in snapshot.gpus.values()]
    return HostState(
        host.name,
        host.provider_id,
        host.zone,
        host.enabled,
        host.name not in down,
        frozenset(host.networks),
        frozenset(gpu.resource_class for gpu in gpus),
        trust.problem(gpus) if trust is not None and trust.refuse else None,
    )


def _by_score(snapshot: Snapshot, scores: Iterable[float], nodes: Collection[int | None] | None = None) -> ProviderTree:
    """The tree with its GPUs in the order of their scores, those on `nodes` first; everything else stays where it is."""
    if len(snapshot.gpus) < 2:
        return snapshot.tree
    places = [place for place, p in enumerate(snapshot.tree.providers) if p.id in snapshot.gpus]
    members = snapshot.tree.providers
    far = [nodes is not None and snapshot.gpus[members[place].id].gpu.numa_node not in nodes for place in places]
    best_first = sorted(zip(far, scores, places, strict=False))
    ordered = list(members)
    for place, (_, _, source) in zip(places, best_first, strict=True):
        ordered[place] = members[source]
    return ProviderTree(tuple(ordered))


def _nearest(first: Choice, scores: Sequence[float], wanted: Wanted, world: World) -> Choice:
    """Of what scores no worse than `first` on its host, what is on the fewest NUMA nodes; `first` where nothing is on fewer."""
    spanned = _nodes(first)
    if len(spanned) < 2:
        return first
    snapshot = first.snapshot
    known = dict.fromkeys(snapshot.gpus[p.id].gpu.numa_node for p in snapshot.tree.providers if p.id in snapshot.gpus)
    sets = itertools.chain.from_iterable(itertools.combinations(known, count) for count in range(1, len(spanned)))
    for nodes in itertools.islice(sets, MOST_NODE_SETS):
        found = _on_host(snapshot, first.host, _by_score(snapshot, scores, nodes), wanted, world)
        if isinstance(found, Choice) and _nodes(found) <= set(nodes) and _score(found, scores) <= _score(first, scores):
            return found
    return first


def _nodes(choice: Choice) -> set[int | None]:
    """The NUMA nodes of its GPUs; those of which nobody knows where they are count as one."""
    return {choice.snapshot.gpus[placed.provider_id].gpu.numa_node for placed in choice.placed}


def _score(choice: Choice, scores: Sequence[float]) -> float:
    ids = (p.id for p in choice.snapshot.tree.providers if p.id in choice.snapshot.gpus)
    score_of = dict(zip(ids, scores, strict=False))
    return sum(score_of[placed.provider_id] for placed in choice.placed)


def _on_host(snapshot: Snapshot, host: Host, tree: ProviderTree, wanted: Wanted, world: World) -> Choice | str:
    """The first candidate that the GPUs' layouts allow, or why there is none."""
    gpus = {provider_id: known.gpu for provider_id, known in snapshot.gpus.items()}
    layouts = {provider_id: known.layout for provider_id, known in snapshot.gpus.items()}
    looked_at = 0
    for candidate in itertools.islice(candidates([tree], wanted.request, world=world), MOST_CANDIDATES):
        placed = vgpus.place(candidate, wanted.request, gpus, layouts)
        if placed is not None:
            return Choice(snapshot, host, candidate, placed)
        looked_at += 1
    if looked_at:
        return f"no GPU's layout allows it (candidates looked at: {looked_at})"
    return why_not(snapshot.tree, wanted.request)


def _unpromising(field: Field, wanted: Wanted, down: frozenset[str], known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Why each of the other hosts was passed over."""
    named = frozenset(known)
    world = World(field.stock, tuple(field.stock.sharing))
    for tree in field.stock.all():
        snapshot = field.snapshot(tree.root.id)
        if snapshot is not None and snapshot.host is not None and snapshot.host.name not in named:
            reason = filters.why_not(_state(snapshot, snapshot.host, field.trust, down), wanted)
            if reason is None:
                refused = _on_host(snapshot, snapshot.host, tree, wanted, world)
                reason = refused if isinstance(refused, str) else "it has changed meanwhile"
            yield snapshot.host.name, reason
