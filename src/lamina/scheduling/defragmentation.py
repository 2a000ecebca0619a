"""Defragmentation: which servers to move so that there is room for more, or less of what is free is of no use. Pure.

A goal is a figure of each host by itself (how many of a flavor fit on it, or how much free framebuffer the demand cannot
use there), so what a move does is seen on its two hosts alone. The search is greedy. Every host tells which of its servers
would have to leave, all from one GPU first, and what that would do for its figure; of those departures the best are played
through, each server to the host where it harms the goal least, chosen there by the same `choose` and the same policy by
which a migration is placed. The plan keeps what helped most for each server moved. A server is moved once at most, so no
move waits for a later one: each is possible at its turn.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from lamina.model.errors import NoValidHost
from lamina.model.policies import PolicyName
from lamina.model.requests import CandidateRequest
from lamina.scheduling.choice import Choice, choose
from lamina.scheduling.field import Field
from lamina.scheduling.filters import Wanted
from lamina.scheduling.occupying import Amounts, occupied, vacated
from lamina.scheduling.policies import Demand
from lamina.scheduling.vgpus import Placed
from lamina.store.snapshots import Snapshot

#: most hosts looked at for departures in one round, those with the most free (or useless) framebuffer; most departures
#: played through, and most targets looked at for a server
MOST_SOURCES, MOST_TRIED, MOST_TARGETS = 200, 32, 4
#: hosts looked at together when room is made: where one server of theirs is enough the others need not be looked at
SOURCES_AT_ONCE = 16
#: least that a move has to make useful, as a part of the framebuffer that it moves: for less no server is stunned
LEAST_GAIN = 0.1

# What VMware measured of vMotion with vSphere 7, by the framebuffer of the vGPU: GiB, seconds.
_STUN_GIB = (1.0, 8.0, 32.0)
_STUN_SECONDS = (2.0, 12.0, 39.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Movable:
    """A server that may be moved. ``wanted`` is what a migration of it asks for, its own host excluded."""

    server_id: str
    name: str
    #: of the tree of its host
    root_id: str
    wanted: Wanted
    policy: PolicyName
    held: Amounts
    vgpus: tuple[Placed, ...]

    @property
    def framebuffer_mb(self) -> int:
        return sum(placed.type.framebuffer_mb for placed in self.vgpus)


@dataclasses.dataclass(frozen=True, slots=True)
class RoomFor:
    """The goal that `count` servers can be placed which ask for this."""

    request: CandidateRequest
    policy: PolicyName
    count: int
    #: what they ask of aggregates, as in `Wanted`
    aggregates: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Lower:
    """The goal that less of the free framebuffer is of no use to the requests that are expected."""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """One server to another host. GPUs are addresses; those and the types are in the order of its vGPUs."""

    server_id: str
    server_name: str
    from_host: str
    from_gpus: tuple[str, ...]
    to_host: str
    to_gpus: tuple[str, ...]
    types: tuple[str, ...]
    framebuffer_mb: int
    #: for how long a live migration would halt it, as far as one can tell beforehand
    stun_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """How a fleet stands: free framebuffer, what of it the demand cannot use, and how many of the wanted fit (at most `count`)."""

    free_mb: int
    useless_mb: int
    #: None where the goal is not to make room
    fits: int | None = None

    @property
    def useless_share(self) -> float:
        """From 0 to 1."""
        return self.useless_mb / self.free_mb if self.free_mb else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Moves in the order in which they can be made; none where none would help."""

    moves: tuple[Move, ...]
    before: Standing
    after: Standing


def stun_seconds(framebuffer_mb: int) -> float:
    """An estimate of how long a live migration halts a server with so much framebuffer; 0 for one without."""
    gib = framebuffer_mb / 1024
    if gib > _STUN_GIB[-1]:
        slope = (_STUN_SECONDS[-1] - _STUN_SECONDS[-2]) / (_STUN_GIB[-1] - _STUN_GIB[-2])
        return round(_STUN_SECONDS[-1] + slope * (gib - _STUN_GIB[-1]), 1)
    return round(float(np.interp(gib, _STUN_GIB, _STUN_SECONDS)), 1) if gib else 0.0


def plan(
    snapshots: Iterable[Snapshot],
    expected: Iterable[tuple[CandidateRequest, float]],
    movables: Iterable[Movable],
    goal: RoomFor | Lower,
    *,
    most_moves: int,
    down: frozenset[str] = frozenset(),
) -> Plan:
    """The moves that bring a fleet nearest to a goal, as few as there need to be.

    `expected` is what will be asked for and how often each, as `Field.expect` takes it; `down` names hosts whose compute
    service is down, to which nothing is moved.
    """
    search = _Search(snapshots, expected, movables, goal, down)
    before = search.standing()
    moves: list[Move] = []
    while len(moves) < most_moves and not search.reached() and (found := search.next_moves(most_moves - len(moves))):
        moves += found
    return Plan(tuple(moves), before, search.standing() if moves else before)


@dataclasses.dataclass(frozen=True, slots=True)
class _Departure:
    """Servers that leave one host, and by how much that alone raises the host's figure."""

    servers: tuple[Movable, ...]
    relief: float

    @property
    def framebuffer_mb(self) -> int:
        return sum(server.framebuffer_mb for server in self.servers)


def _costs(departure: _Departure) -> tuple[int, float, int]:
    """What making room costs: less is better."""
    return len(departure.servers), -departure.relief, departure.framebuffer_mb


class _Host:
    """One host by itself, beside the providers that no host stands behind: all that a migration to a named host looks at."""

    def __init__(self, demand: Demand | None, hostless: Iterable[Snapshot], goal: RoomFor | Lower, down: frozenset[str]) -> None:
        self._field = Field(demand)
        self._root_id: str | None = None
        #: by host and what is taken of it: the same departures are played through round after round
        self._figures: dict[Hashable, float] = {}
        self._goal = goal
        self._down = down
        for snapshot in hostless:
            self._field.put(snapshot)

    def put(self, snapshot: Snapshot) -> None:
        if snapshot.host is not None:
            if self._root_id not in (None, snapshot.tree.root.id):
                self._field.remove(str(self._root_id))
            self._root_id = snapshot.tree.root.id
        else:
            self._figures.clear()
        self._field.put(snapshot)

    def choice(self, snapshot: Snapshot, wanted: Wanted, policy: PolicyName) -> Choice | None:
        """What a server would get of the host, or None."""
        self.put(snapshot)
        if snapshot.host is None or not self._field.promising(wanted.request, self._field.kind(wanted.request)).size:
            return None
        try:
            return choose(self._field, dataclasses.replace(wanted, host=snapshot.host.name), policy, self._down)
        except NoValidHost:
            return None

    def figure(self, snapshot: Snapshot) -> float:
        """The goal's figure of the host as it is in this snapshot; more is better."""
        layouts = tuple(known.layout for known in snapshot.gpus.values())
        key = snapshot.tree.root.id, layouts, tuple(tuple(provider.used.items()) for provider in snapshot.tree.providers)
        if key not in self._figures:
            self._figures[key] = self._figure(snapshot)
        return self._figures[key]

    def _figure(self, snapshot: Snapshot) -> float:
        if isinstance(self._goal, Lower):
            self.put(snapshot)
            return -self._field.useless()[0]
        fits = 0
        while fits < self._goal.count:
            choice = self.choice(snapshot, Wanted(self._goal.request, aggregates=self._goal.aggregates), self._goal.policy)
            if choice is None:
                break
            snapshot = occupied(snapshot, choice.candidate.allocations, choice.placed)
            fits += 1
        return float(fits)


class _Search:
    """The fleet while it is planned: what has been decided is done on it at once."""

    def __init__(
        self,
        snapshots: Iterable[Snapshot],
        expected: Iterable[tuple[CandidateRequest, float]],
        movables: Iterable[Movable],
        goal: RoomFor | Lower,
        down: frozenset[str],
    ) -> None:
        self._goal = goal
        self._field = Field()
        known = list(snapshots)
        for snapshot in known:
            self._field.put(snapshot)
        self._field.expect(expected)
        self._one = _Host(self._field.demand, [s for s in known if s.host is None], goal, down)
        self._roots = [s.tree.root.id for s in known if s.host is not None]
        self._figures = dict.fromkeys(self._roots, 0.0)
        for root_id in self._worth_a_look():
            self._figures[root_id] = self._one.figure(self._at(root_id))
        self._movables: dict[str, list[Movable]] = {}
        for movable in sorted(movables, key=lambda m: (-m.framebuffer_mb, m.server_id)):
            self._movables.setdefault(movable.root_id, []).append(movable)
        #: by root; what is told of a host holds until something comes or goes there
        self._departures: dict[str, list[_Departure]] = {}

    def _worth_a_look(self) -> list[str]:
        """The hosts whose figure may be another than 0."""
        if isinstance(self._goal, Lower):
            return self._roots
        request = self._goal.request
        promising = [self._field.at(slot) for slot in self._field.promising(request, self._field.kind(request)).tolist()]
        roots = {snapshot.tree.root.id for snapshot in promising if snapshot is not None}
        return [root_id for root_id in self._roots if root_id in roots]

    def _at(self, root_id: str) -> Snapshot:
        snapshot = self._field.snapshot(root_id)
        assert snapshot is not None  # noqa: S101 - no tree is taken out
        return snapshot

    # ------------------------------------------------------------------------------------------------ how it stands

    def standing(self) -> Standing:
        useless, free = self._field.useless()
        fits = min(self._goal.count, int(sum(self._figures.values()))) if isinstance(self._goal, RoomFor) else None
        return Standing(round(free), round(useless), fits)

    def reached(self) -> bool:
        return isinstance(self._goal, RoomFor) and sum(self._figures.values()) >= self._goal.count

    # ------------------------------------------------------------------------------------------------ departures

    def next_moves(self, most: int) -> list[Move]:
        """What helps most for each server moved, done on the fleet; nothing where nothing helps."""
        best = self._lowest(most) if isinstance(self._goal, Lower) else self._fewest(most)
        if best is None:
            return []
        moves = self._play(best.servers)
        assert moves is not None  # noqa: S101 - it was played already
        gone = {server.server_id for server in best.servers}
        source = best.servers[0].root_id
        self._movables[source] = [m for m in self._movables[source] if m.server_id not in gone]
        return moves

    def _lowest(self, most: int) -> _Departure | None:
        """The departure that raises the figure most for each server moved."""
        departures = self._departures_from(self._sources(), most)
        departures.sort(key=lambda d: -d.relief / len(d.servers))
        gains = [(self._gain(d) / len(d.servers), d) for d in departures[:MOST_TRIED]]
        gain, best = max(gains, key=lambda tried: tried[0], default=(0.0, None))
        return best if gain > 0 else None

    def _fewest(self, most: int) -> _Departure | None:
        """The departure of fewest servers that makes room."""
        sources, later = self._sources(), list[_Departure]()
        tries = MOST_TRIED
        for start in range(0, len(sources), SOURCES_AT_ONCE):
            found = sorted(self._departures_from(sources[start : start + SOURCES_AT_ONCE], most), key=_costs)
            alone = [d for d in found if len(d.servers) == 1]
            for departure in alone[:tries]:
                if self._gain(departure) > 0:
                    return departure
            later += found[min(tries, len(alone)) :]
            tries = max(0, tries - len(alone))
        return next((d for d in sorted(later, key=_costs)[:MOST_TRIED] if self._gain(d) > 0), None)

    def _departures_from(self, sources: Iterable[str], most: int) -> list[_Departure]:
        return [d for root_id in sources for d in self._departures_of(root_id) if len(d.servers) <= most]

    def _sources(self) -> list[str]:
        """Hosts with servers to move, the most promising first."""
        having = [root_id for root_id in self._roots if self._movables.get(root_id)]
        if isinstance(self._goal, Lower):
            return sorted(having, key=lambda root_id: self._figures[root_id])[:MOST_SOURCES]
        return sorted(having, key=lambda root_id: -_free_mb(self._at(root_id)))[:MOST_SOURCES]

    def _departures_of(self, root_id: str) -> list[_Departure]:
        if root_id not in self._departures:
            found = self._making_room(root_id) if isinstance(self._goal, RoomFor) else self._lowering(root_id)
            self._departures[root_id] = list(found)
        return self._departures[root_id]

    def _relief(self, root_id: str, servers: Iterable[Movable]) -> float:
        return self._one.figure(_without(self._at(root_id), servers)) - self._figures[root_id]

    def _lowering(self, root_id: str) -> Iterator[_Departure]:
        """Each of the servers of a GPU alone, as the place it leaves counts too; and two, three, … all of them, the largest first."""
        for group in self._by_gpu(root_id):
            alone = [[server] for server in _distinct(group)]
            for servers in alone + [group[:count] for count in range(2, len(group) + 1)]:
                yield _Departure(tuple(servers), self._relief(root_id, servers))

    def _making_room(self, root_id: str) -> Iterator[_Departure]:
        """Fewest servers without which one more fits: each of a GPU's alone, and its largest, or smallest, before the host's others."""
        everybody = self._movables[root_id]
        if self._relief(root_id, everybody) <= 0:
            return
        found: list[tuple[Movable, ...]] = []
        for group in self._by_gpu(root_id) or [[]]:
            others = [m for m in everybody if m not in group]
            found += [self._needed(root_id, order) for order in (group + others, group[::-1] + others[::-1])]
            found += [(server,) for server in _distinct(group) if self._relief(root_id, [server]) > 0]
        for servers in {tuple(m.server_id for m in group): group for group in found}.values():
            yield _Departure(servers, self._relief(root_id, servers))

    def _needed(self, root_id: str, order: Sequence[Movable]) -> tuple[Movable, ...]:
        """Of the first in `order` without whom one more fits those who cannot stay; without all of `order` it does."""
        enough = next(n for n in range(1, len(order) + 1) if n == len(order) or self._relief(root_id, order[:n]) > 0)
        needed = list(order[:enough])
        for server in order[:enough]:
            others = [m for m in needed if m is not server]
            if others and self._relief(root_id, others) > 0:
                needed = others
        return tuple(sorted(needed, key=lambda m: m.server_id))

    def _by_gpu(self, root_id: str) -> list[list[Movable]]:
        """The movable servers of each GPU of a host, the largest first."""
        groups = [
            [m for m in self._movables[root_id] if any(placed.provider_id == gpu for placed in m.vgpus)] for gpu in self._at(root_id).gpus
        ]
        return [group for group in groups if group]

    # ------------------------------------------------------------------------------------------------ moves

    def _gain(self, departure: _Departure) -> float:
        """By how much the goal's figure would rise, 0 where not enough or where a server has nowhere to go. Leaves all as it is."""
        before, kept = dict(self._figures), dict(self._departures)
        trees: dict[str, Snapshot] = {}
        done = self._play(departure.servers, trees) is not None
        gain = sum(self._figures[root_id] - before[root_id] for root_id in trees if root_id in before) if done else 0.0
        for snapshot in trees.values():
            self._put(snapshot)
        self._figures, self._departures = before, kept
        least = LEAST_GAIN * departure.framebuffer_mb if isinstance(self._goal, Lower) else 1.0
        return gain if gain >= least else 0.0

    def _play(self, servers: Sequence[Movable], replaced: dict[str, Snapshot] | None = None) -> list[Move] | None:
        """Move these servers one after the other, or None where one of them has nowhere to go.

        Into `replaced` go the trees that have changed, by root, as they were.
        """
        replaced = {} if replaced is None else replaced
        moves: list[Move] = []
        for server in servers:
            choice = self._target(server)
            if choice is None:
                return None
            moves.append(self._move(server, choice))
            roots = self._change(choice.candidate.allocations, choice.placed, replaced, leaving=False)
            roots |= self._change(server.held, server.vgpus, replaced, leaving=True)
            for root_id in roots & self._figures.keys():
                self._figures[root_id] = self._one.figure(self._at(root_id))
                self._departures.pop(root_id, None)
        return moves

    def _target(self, server: Movable) -> Choice | None:
        """Of the hosts that the fragmentation policy likes best the one where the goal's figure suffers least."""
        request = server.wanted.request
        ask = self._field.kind(request)
        slots = self._field.promising(request, ask)
        scores = self._field.scores(PolicyName.FRAGMENTATION, ask).hosts[slots]
        best: tuple[float, Choice] | None = None
        for choice in itertools.islice(self._choices(slots[np.argsort(scores, kind="stable")].tolist(), server), MOST_TARGETS):
            after = occupied(choice.snapshot, *_of_tree(choice.snapshot, choice.candidate.allocations, choice.placed))
            change = self._one.figure(after) - self._figures[choice.host.provider_id]
            if best is None or change > best[0]:
                best = change, choice
        return best[1] if best is not None else None

    def _choices(self, slots: Iterable[int], server: Movable) -> Iterator[Choice]:
        for slot in slots:
            snapshot = self._field.at(slot)
            if snapshot is not None and snapshot.tree.root.id != server.root_id:
                choice = self._one.choice(snapshot, server.wanted, server.policy)
                if choice is not None:
                    yield choice

    def _change(self, held: Amounts, placed: Collection[Placed], replaced: dict[str, Snapshot], *, leaving: bool) -> set[str]:
        """Take, or give back, on every tree that is concerned. Their roots."""
        trees = [tree for provider_id in held if (tree := self._field.stock.tree_of(provider_id)) is not None]
        roots = {tree.root.id for tree in trees}
        for root_id in roots:
            snapshot = self._at(root_id)
            replaced.setdefault(root_id, snapshot)
            do = vacated if leaving else occupied
            self._put(do(snapshot, *_of_tree(snapshot, held, placed)))
        return roots

    def _put(self, snapshot: Snapshot) -> None:
        self._field.put(snapshot)
        if snapshot.host is None:
            self._one.put(snapshot)

    def _move(self, server: Movable, choice: Choice) -> Move:
        source = self._at(server.root_id)
        return Move(
            server_id=server.server_id,
            server_name=server.name,
            from_host=source.host.name if source.host is not None else source.tree.root.name,
            from_gpus=tuple(str(source.gpus[placed.provider_id].record.address) for placed in server.vgpus),
            to_host=choice.host.name,
            to_gpus=tuple(str(choice.snapshot.gpus[placed.provider_id].record.address) for placed in choice.placed),
            types=tuple(placed.type.name for placed in choice.placed),
            framebuffer_mb=server.framebuffer_mb,
            stun_seconds=stun_seconds(server.framebuffer_mb),
        )


def _distinct(servers: Iterable[Movable]) -> list[Movable]:
    """One of each who are alike in all that a move can tell."""
    found: list[Movable] = []
    for one in servers:
        if not any((one.vgpus, one.held, one.wanted, one.policy) == (o.vgpus, o.held, o.wanted, o.policy) for o in found):
            found.append(one)
    return found


def _without(snapshot: Snapshot, servers: Iterable[Movable]) -> Snapshot:
    held: dict[str, dict[str, int]] = {}
    vgpus: list[Placed] = []
    for server in servers:
        amounts, theirs = _of_tree(snapshot, server.held, server.vgpus)
        vgpus += theirs
        for provider_id, taken in amounts.items():
            of_provider = held.setdefault(provider_id, {})
            for name, amount in taken.items():
                of_provider[name] = of_provider.get(name, 0) + amount
    return vacated(snapshot, held, vgpus)


def _of_tree(snapshot: Snapshot, held: Amounts, placed: Iterable[Placed]) -> tuple[Amounts, list[Placed]]:
    """What of this is in one tree."""
    members = {provider.id for provider in snapshot.tree.providers}
    return {p: amounts for p, amounts in held.items() if p in members}, [each for each in placed if each.provider_id in members]


def _free_mb(snapshot: Snapshot) -> int:
    return sum(known.gpu.framebuffer_mb - sum(t.framebuffer_mb for t in known.layout.all) for known in snapshot.gpus.values())
