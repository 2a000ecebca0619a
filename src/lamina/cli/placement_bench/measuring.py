"""Figures of a Placement API: each is warmed up, taken for some seconds, and told as a median.

Rates are taken in slices of the time and the median slice counts, so that one stall is no figure. What was claimed is
given back before the next figure is taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lamina.cli.client import sentence_of
from lamina.cli.placement_bench import processes
from lamina.cli.placement_bench.fleet import GPUS, LOADERS, VGPUS, BenchHost, candidates_query, claims, isolated_query, load_isolated
from lamina.cli.placement_bench.wire import PATIENCE, Caller, Endpoint, TookTooLong
from lamina.model.errors import LaminaError, NotFound, Unavailable

#: parts that a rate is taken in, unless it is one of few events
SLICES = 5
FEW = 50
#: part of the time of a figure that goes before it
WARM_UP = 0.1
#: candidates of one answer
LIMIT = 10
#: how much of the fleet's vGPUs a figure may claim: a full fleet is another question
SHARE = 0.5
#: times that a claim which others came before is tried again, as a scheduler would
ATTEMPTS = 20
#: whose the claims are
OWNER = "bench"


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing of one server; ``value`` is None where it did not come within the time."""

    name: str
    #: hosts of the fleet and clients at one time
    hosts: int
    clients: int
    #: `ms` and `MiB` are better small, `/s` large
    unit: str
    value: float | None
    #: how many calls, claims or looks it is made of
    samples: int
    #: claims that others came before and that were tried again
    again: int = 0


def percentile(samples: Sequence[float], part: float) -> float:
    """The nearest rank: the smallest sample that at least `part` of all do not exceed."""
    return sorted(samples)[max(0, math.ceil(part * len(samples)) - 1)]


def rate(stamps: Sequence[float], began: float) -> float:
    """Events per second from `began` to the last: the median of equal slices of that time, of few events the mean. Pure."""
    slices = SLICES if len(stamps) >= FEW else 1
    width = (stamps[-1] - began) / slices
    counts = [0] * slices
    for stamp in stamps:
        counts[min(int((stamp - began) / width), slices - 1)] += 1
    return statistics.median(counts) / width


# ------------------------------------------------------------------------------------------------ one server


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """One loaded server, and for how many seconds each of its figures is taken."""

    endpoint: Endpoint
    hosts: list[BenchHost]
    seconds: float

    def candidates(self) -> list[Figure]:
        """How long one client waits for ten candidates, and what the server's processors do for it."""
        with _calling(self.endpoint) as caller:
            times, burnt = self._timed(caller, candidates_query(LIMIT), PATIENCE)
        found = [
            self._figure("candidates p50", 1, "ms", percentile(times, 0.5) * 1000, len(times)),
            self._figure("candidates p99", 1, "ms", percentile(times, 0.99) * 1000, len(times)),
        ]
        if burnt is not None:
            found.append(self._figure("candidates CPU", 1, "ms", burnt * 1000 / len(times), len(times)))
        return found

    def isolated(self) -> Figure:
        """How long one client waits for eight vGPUs on eight GPUs of one host. Begins with making the host."""
        load_isolated(self.endpoint)
        with _calling(self.endpoint) as caller:
            try:
                times, _ = self._timed(caller, isolated_query(LIMIT), max(self.seconds, 1.0))
            except TookTooLong:
                return self._figure("8 isolated groups p50", 1, "ms", None, 1)
        return self._figure("8 isolated groups p50", 1, "ms", percentile(times, 0.5) * 1000, len(times))

    def claims(self, clients: int) -> list[Figure]:
        """Durable claims a second, of hosts that are known."""

        def one(caller: Caller, todo: Iterator[dict[str, Any]], claimed: _Claimed) -> None:
            claimed.put(caller, next(todo))

        return self._claiming("claims", clients, one)

    def candidates_and_claims(self, clients: int) -> list[Figure]:
        """What a scheduler does: ask for candidates, take one, ask again where others came before."""
        query = candidates_query(LIMIT)

        def one(caller: Caller, _todo: Iterator[dict[str, Any]], claimed: _Claimed) -> None:
            for _ in range(ATTEMPTS):
                found = caller.must("GET", query)["allocation_requests"]
                if claimed.put(caller, random.choice(found)["allocations"]):  # noqa: S311 - no secret
                    return
            raise Unavailable(f"{self.endpoint.url}: none of {ATTEMPTS} candidates could be claimed.")

        return self._claiming("candidates + claims", clients, one)

    def memory(self) -> list[Figure]:
        if self.endpoint.pid is None:
            return []
        return [self._figure("memory", 1, "MiB", processes.resident_mib(self.endpoint.pid), 1)]

    def _figure(self, name: str, clients: int, unit: str, value: float | None, samples: int, again: int = 0) -> Figure:
        return Figure(name, len(self.hosts), clients, unit, value, samples, again)

    def _timed(self, caller: Caller, query: str, patience: float) -> tuple[list[float], float | None]:
        """Seconds of each call, and what they cost the server's processors in all. Raises `LaminaError` for an empty answer."""
        _must_find(caller.must("GET", query, patience=patience))
        warm = time.perf_counter() + WARM_UP * self.seconds
        while time.perf_counter() < warm:
            caller.must("GET", query, patience=patience)
        before = self._burnt()
        times: list[float] = []
        end = time.perf_counter() + self.seconds
        while not times or time.perf_counter() < end:
            started = time.perf_counter()
            caller.ask("GET", query, patience=patience)
            times.append(time.perf_counter() - started)
        after = self._burnt()
        return times, None if before is None or after is None else after - before

    def _burnt(self) -> float | None:
        return None if self.endpoint.pid is None else processes.seconds_burnt(self.endpoint.pid)

    def _claiming(self, name: str, clients: int, one: Callable[[Caller, Iterator[dict[str, Any]], _Claimed], None]) -> list[Figure]:
        most = int(SHARE * len(self.hosts) * GPUS * VGPUS) // clients
        before, started = self._burnt(), time.perf_counter()
        end = started + (1 + WARM_UP) * self.seconds

        def run(client: int) -> _Claimed:
            todo, claimed = claims(self.hosts, client, clients), _Claimed()
            with _calling(self.endpoint) as caller:
                while not claimed.stamps or (len(claimed.stamps) < most and time.perf_counter() < end):
                    one(caller, todo, claimed)
            return claimed

        with ThreadPoolExecutor(clients) as pool:
            each = list(pool.map(run, range(clients)))
        after = self._burnt()
        stamps = sorted(stamp for claimed in each for stamp in claimed.stamps)
        warm = int(WARM_UP * len(stamps))
        counted = stamps[warm:]
        value = rate(counted, stamps[warm - 1] if warm else started)
        found = [self._figure(name, clients, "/s", value, len(counted), sum(len(claimed.beaten) for claimed in each))]
        if before is not None and after is not None:
            found.append(self._figure(f"{name} CPU", clients, "ms", (after - before) * 1000 / len(stamps), len(stamps)))
        self._give_back([consumer for claimed in each for consumer in claimed.consumers])
        return found

    def _give_back(self, consumers: Sequence[str]) -> None:
        def run(part: Sequence[str]) -> None:
            with _calling(self.endpoint) as caller:
                for consumer in part:
                    caller.must("DELETE", f"/allocations/{consumer}")

        with ThreadPoolExecutor(LOADERS) as pool:
            list(pool.map(run, [consumers[k::LOADERS] for k in range(LOADERS)]))


@dataclasses.dataclass(frozen=True, slots=True)
class _Claimed:
    """What one client has claimed, and when."""

    consumers: list[str] = dataclasses.field(default_factory=list)
    stamps: list[float] = dataclasses.field(default_factory=list)
    #: one entry for each claim that others came before
    beaten: list[float] = dataclasses.field(default_factory=list)

    def put(self, caller: Caller, allocations: dict[str, Any]) -> bool:
        """Claim for a new consumer; False where others came before. Raises `LaminaError` for any other refusal."""
        consumer = str(uuid.uuid4())
        said = {"allocations": allocations, "consumer_generation": None, "consumer_type": "INSTANCE"}
        status, content = caller.ask("PUT", f"/allocations/{consumer}", said | {"project_id": OWNER, "user_id": OWNER})
        now = time.perf_counter()
        if status == 409:
            self.beaten.append(now)
            return False
        if status != 204:
            raise LaminaError(f"A claim was answered {status}: {sentence_of(content) or 'no reason given'}")
        self.consumers.append(consumer)
        self.stamps.append(now)
        return True


@contextlib.contextmanager
def _calling(endpoint: Endpoint) -> Iterator[Caller]:
    with contextlib.closing(Caller(endpoint)) as caller:
        yield caller


def _must_find(answer: Any) -> None:
    if not answer["allocation_requests"]:
        raise NotFound("The fleet of the benchmark is not found by its candidates.")
