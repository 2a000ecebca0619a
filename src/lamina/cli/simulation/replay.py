"""Replays of a trace through the engine that places servers: its field, its policies, its partitioners, its choice.

Two loads. *Fill-up* (Weng et al., USENIX ATC 2023): the tasks in random order, then drawn again until they ask for 130 %
of the fleet's GPUs; nobody leaves, what does not fit is turned away. *Churn*: tasks drawn at random arrive at exponential
intervals and stay for exponential times, so that on average they ask for a given share of the fleet; four lives long, of
which the second half counts. In a churn servers may be moved for a task that would be turned away, by the plan that
`lamina defrag` would make for it.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

from lamina.cli.simulation.trace import Cutting, Task, Trace, fleet, granted, request_of
from lamina.model.policies import PolicyName
from lamina.model.requests import CandidateRequest
from lamina.scheduling import defragmentation
from lamina.scheduling.choice import Choice, choose, find
from lamina.scheduling.defragmentation import Movable, Move, RoomFor
from lamina.scheduling.field import Field
from lamina.scheduling.filters import Wanted
from lamina.scheduling.occupying import occupied, vacated

#: how much is asked for in the end of a fill-up, of the fleet's GPUs
FILL = 1.3
#: how many mean stays a churn lasts, and from where on it counts
LIVES, COUNTED_FROM = 4.0, 2.0

Progress = Callable[[float], None]


@dataclasses.dataclass(slots=True)
class Result:
    """What one replay came to. Shares are of 1; refusals are by size class."""

    seed: int
    #: share of asked-for GPUs -> share of GPUs allocated then
    allocated: dict[float, float] = dataclasses.field(default_factory=dict)
    #: tasks that came, and of those were turned away, by size class: up to where all GPUs are asked for, or while it counts
    arrived: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    #: GPU thousandths asked for and turned away in the same time, in the sizes of the types
    demanded_milli: int = 0
    refused_milli: int = 0
    #: share asked for when the first task with a GPU was turned away
    first_refusal: float | None = None
    #: free framebuffer that the demand cannot use, share of all
    fragmentation: float = 0.0
    #: servers moved in the time that counts, and the framebuffer that they had, in MiB
    moves: int = 0
    moved_mb: int = 0
    decisions: int = 0
    seconds: float = 0.0

    def refused_share(self, size_class: str) -> float:
        return self.refused[size_class] / self.arrived[size_class] if self.arrived[size_class] else 0.0

    @property
    def refused_demand(self) -> float:
        return self.refused_milli / self.demanded_milli if self.demanded_milli else 0.0


class _Run:
    """The field and what it is asked."""

    def __init__(self, trace: Trace, cutting: Cutting, policy: PolicyName, seed: int) -> None:
        self.trace = trace
        self.policy = policy
        self.dice = random.Random(seed)  # noqa: S311 (a simulation's draws)
        self.result = Result(seed)
        self.requests: dict[Task, CandidateRequest] = {task: request_of(task, cutting) for task in set(trace.tasks)}
        #: thousandths of GPUs that a task is given, which types may round up
        self.granted = {task: granted(task, cutting) for task in self.requests}
        self.expected = [(self.requests[task], float(times)) for task, times in Counter(trace.tasks).items()]
        #: everybody who is there, by name
        self.placed: dict[str, Movable] = {}
        self._roots: list[str] = []
        self.field = Field()
        for snapshot in fleet(trace, cutting):
            self.field.put(snapshot)
            self._roots.append(snapshot.tree.root.id)
        self.field.expect(self.expected)

    def place(self, task: Task) -> str | None:
        """The name of the server that the task got, or None where it was turned away."""
        begun = time.perf_counter()
        found = find(self.field, Wanted(self.requests[task]), self.policy)
        self.result.decisions += 1
        name = f"task-{self.result.decisions}" if isinstance(found, Choice) else None
        if isinstance(found, Choice) and name is not None:
            self._settle(name, self.requests[task], found)
        self.result.seconds += time.perf_counter() - begun
        return name

    def _settle(self, name: str, request: CandidateRequest, choice: Choice) -> None:
        self.field.put(occupied(choice.snapshot, choice.candidate.allocations, choice.placed))
        wanted = Wanted(request, excluded=frozenset({choice.host.name}))
        root_id = choice.snapshot.tree.root.id
        self.placed[name] = Movable(name, name, root_id, wanted, self.policy, choice.candidate.allocations, choice.placed)

    def leave(self, name: str) -> None:
        begun = time.perf_counter()
        self._vacate(self.placed.pop(name))
        self.result.seconds += time.perf_counter() - begun

    def _vacate(self, server: Movable) -> None:
        now = self.field.snapshot(server.root_id)
        if now is not None:
            self.field.put(vacated(now, server.held, server.vgpus))

    def make_room(self, task: Task, most_moves: int) -> list[Move]:
        """Move servers, as few as need be, so that the task fits; nobody where so many moves would not do."""
        fleet_now = [snapshot for root_id in self._roots if (snapshot := self.field.snapshot(root_id)) is not None]
        goal = RoomFor(self.requests[task], self.policy, 1)
        plan = defragmentation.plan(fleet_now, self.expected, self.placed.values(), goal, most_moves=most_moves)
        if not plan.after.fits:
            return []
        for move in plan.moves:
            server = self.placed[move.server_id]
            target = choose(self.field, dataclasses.replace(server.wanted, host=move.to_host), server.policy)
            self._settle(server.server_id, server.wanted.request, target)  # both hosts hold it for a while, as in a migration
            self._vacate(server)
        return list(plan.moves)

    def count(self, task: Task, *, refused: bool) -> None:
        self.result.arrived[task.size_class] += 1
        self.result.demanded_milli += self.granted[task]
        if refused:
            self.result.refused[task.size_class] += 1
            self.result.refused_milli += self.granted[task]


def fill_up(trace: Trace, cutting: Cutting, policy: PolicyName, seed: int, progress: Progress = lambda _share: None) -> Result:
    """Allocation at 100 % and 130 % asked for; refusals are counted up to 100 %."""
    run = _Run(trace, cutting, policy, seed)
    asked = allocated = 0
    marks = [1.0, FILL]
    for task in _drawn(trace, run.dice):
        found = run.place(task)
        share = asked / trace.milli
        if share <= 1.0:
            run.count(task, refused=found is None)
        if found is None and task.milli and run.result.first_refusal is None:
            run.result.first_refusal = share
        asked += task.milli
        allocated += task.milli if found is not None else 0
        while marks and asked >= marks[0] * trace.milli:
            run.result.allocated[marks.pop(0)] = allocated / trace.milli
        progress(min(1.0, asked / (FILL * trace.milli)))
        if not marks:
            break
    run.result.fragmentation = run.field.fragmentation()
    return run.result


def _drawn(trace: Trace, dice: random.Random) -> Iterator[Task]:
    tasks = list(trace.tasks)
    dice.shuffle(tasks)
    yield from tasks
    while True:
        yield dice.choice(trace.tasks)


def churn(
    trace: Trace,
    cutting: Cutting,
    policy: PolicyName,
    seed: int,
    load: float,
    progress: Progress = lambda _share: None,
    *,
    most_moves: int = 0,
) -> Result:
    """Refusals while on average `load` of the GPUs is asked for, in the sizes of the types.

    At most `most_moves` servers are moved for a task that wants GPUs and would be turned away.
    """
    run = _Run(trace, cutting, policy, seed)
    mean = sum(run.granted[task] for task in trace.tasks) / len(trace.tasks)
    rate = load * trace.milli / mean  # arrivals in one mean stay
    now, shares, samples = 0.0, 0.0, 0
    leaving: list[tuple[float, str, int]] = []
    held = 0
    while (now := now + run.dice.expovariate(rate)) < LIVES:
        while leaving and leaving[0][0] <= now:
            _, name, milli = heapq.heappop(leaving)
            run.leave(name)
            held -= milli
        task = run.dice.choice(trace.tasks)
        stay = run.dice.expovariate(1.0)
        moves: list[Move] = []
        found = run.place(task)
        if found is None and task.gpus and most_moves and (moves := run.make_room(task, most_moves)):
            found = run.place(task)
        if found is not None:
            heapq.heappush(leaving, (now + stay, found, run.granted[task]))
            held += run.granted[task]
        if now >= COUNTED_FROM:
            run.count(task, refused=found is None)
            run.result.moves += len(moves)
            run.result.moved_mb += sum(move.framebuffer_mb for move in moves)
            shares, samples = shares + held / trace.milli, samples + 1
        progress(now / LIVES)
    run.result.allocated[load] = shares / samples if samples else 0.0
    run.result.fragmentation = run.field.fragmentation()
    return run.result
