"""A load on a server of the Placement API: hosts with GPUs, candidates asked for, allocations written. Over plain HTTP.

Written for few cycles, as it shares the machine with the server: one kept-alive connection for each client, the bodies of
answers parsed only where something of them is needed.
"""

from __future__ import annotations

import dataclasses
import http.client
import itertools
import math
import random
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lamina.model.errors import Unavailable

MICROVERSION = "1.39"
TRAIT = "CUSTOM_NVIDIA_A40_8Q"
#: what one host of the load has: classes of the root, GPUs, vGPUs of each
STOCK = {"VCPU": 128, "MEMORY_MB": 524_288, "DISK_GB": 2_000}
GPUS, VGPUS = 4, 32
QUERY = f"/allocation_candidates?resources=VCPU:1,MEMORY_MB:2048&resources1=VGPU:1&required1={TRAIT}&group_policy=none&limit=10"
ISOLATED = 8
_GROUPS = "&".join(f"resources{n}=CUSTOM_ISOLATED_VGPU:1" for n in range(1, ISOLATED + 1))
ISOLATED_QUERY = f"/allocation_candidates?{_GROUPS}&group_policy=isolate&limit=10"


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """Where a Placement API is, and what opens it."""

    url: str
    token: str


class Client:
    """One connection. Raises `Unavailable` for an answer that is none of those expected."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._prefix = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=600)
        self._headers = {
            "X-Auth-Token": server.token,
            "Accept": "application/json",
            "OpenStack-API-Version": f"placement {MICROVERSION}",
        }

    def call(self, method: str, path: str, body: Any = None, expected: Sequence[int] = (200, 201, 204)) -> tuple[int, bytes]:
        """Status and body."""
        headers, content = self._headers, None
        if body is not None:
            headers, content = {**headers, "Content-Type": "application/json"}, msgspec.json.encode(body)
        try:
            self._connection.request(method, self._prefix + path, content, headers)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{method} {path.partition('?')[0]}: the server broke off: {error}") from error
        if answer.status not in expected:
            raise Unavailable(f"{method} {path.partition('?')[0]} was answered with {answer.status}: {said[:200]!r}")
        return answer.status, said

    def close(self) -> None:
        self._connection.close()


def fill(server: Server, numbers: Sequence[int], clients: int, progress: Callable[[], object]) -> None:
    """Make the hosts of these numbers."""
    waiting = iter(numbers)

    def work(client: Client, _stop: Callable[[], bool]) -> None:
        for number in waiting:
            _make_host(client, f"bench-{number:05}", "VGPU", GPUS, VGPUS)
            progress()

    _together(server, clients, work, math.inf)


def make_isolating_host(server: Server) -> None:
    """A host with eight GPUs of one vGPU each, of a class of their own."""
    client = Client(server)
    client.call("PUT", f"/traits/{TRAIT}")
    client.call("PUT", "/resource_classes/CUSTOM_ISOLATED_VGPU")
    _make_host(client, "bench-isolating", "CUSTOM_ISOLATED_VGPU", ISOLATED, 1)
    client.close()


def _make_host(client: Client, name: str, resource_class: str, gpus: int, vgpus: int) -> None:
    root = str(uuid.uuid4())
    client.call("POST", "/resource_providers", {"name": name, "uuid": root})
    _stock(client, root, STOCK)
    for number in range(gpus):
        gpu = str(uuid.uuid4())
        client.call("POST", "/resource_providers", {"name": f"{name}_gpu{number}", "uuid": gpu, "parent_provider_uuid": root})
        _stock(client, gpu, {resource_class: vgpus})
        client.call("PUT", f"/resource_providers/{gpu}/traits", {"traits": [TRAIT], "resource_provider_generation": 1})


def _stock(client: Client, provider: str, totals: Mapping[str, int]) -> None:
    inventories = {name: {"total": total, "max_unit": total} for name, total in totals.items()}
    body = {"inventories": inventories, "resource_provider_generation": 0}
    client.call("PUT", f"/resource_providers/{provider}/inventories", body)


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """What one phase took: milliseconds of each call, and calls per second over all clients."""

    milliseconds: tuple[float, ...]
    per_second: float
    #: calls that found no room any more
    refused: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        return sorted(self.milliseconds)[math.ceil(0.99 * len(self.milliseconds)) - 1]


def candidates(server: Server, seconds: float, query: str = QUERY) -> Times:
    """One client asks for candidates, over and over."""
    return _timed(server, 1, seconds, lambda client, _dice: (client.call("GET", query), True)[1])


def claims(server: Server, clients: int, seconds: float) -> Times:
    """Clients write allocations that were found beforehand."""
    one = Client(server)
    found = _requests(one, QUERY.replace("limit=10", "limit=1000"))
    one.close()
    turn = itertools.cycle(found)
    made: list[str] = []
    times = _timed(server, clients, seconds, lambda client, _dice: _claim(client, next(turn), made))
    _give_back(server, made)
    return times


def scheduling(server: Server, clients: int, seconds: float) -> Times:
    """Clients ask for candidates and take one at random, as a scheduler does."""
    made: list[str] = []
    times = _timed(server, clients, seconds, lambda client, dice: _claim(client, dice.choice(_requests(client, QUERY)), made))
    _give_back(server, made)
    return times


def _give_back(server: Server, consumers: Sequence[str]) -> None:
    client = Client(server)
    for consumer in consumers:
        client.call("DELETE", f"/allocations/{consumer}")
    client.close()


class _Answer(msgspec.Struct):
    allocation_requests: list[dict[str, Any]]


def _requests(client: Client, query: str) -> list[dict[str, Any]]:
    found = msgspec.json.decode(client.call("GET", query)[1], type=_Answer).allocation_requests
    if not found:
        raise Unavailable("No candidates are left; load more hosts, or measure for a shorter time.")
    return found


def _claim(client: Client, request: dict[str, Any], made: list[str]) -> bool:
    """Whether there was room; the consumer is then in `made`. A claim that met another is tried again, as by clients of Placement."""
    body = request | {
        "project_id": "bench",
        "user_id": "bench",
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
    }
    consumer = str(uuid.uuid4())
    while True:
        status, said = client.call("PUT", f"/allocations/{consumer}", body, (204, 409))
        if status == 204:
            made.append(consumer)
            return True
        if b"placement.concurrent_update" not in said:
            return False


def _timed(server: Server, clients: int, seconds: float, call: Callable[[Client, random.Random], bool]) -> Times:
    took: list[float] = []
    refused = [0]

    def work(client: Client, stop: Callable[[], bool]) -> None:
        dice = random.Random()  # noqa: S311 (which candidate is taken is no secret)
        call(client, dice)  # the first warms both sides up
        while not stop():
            begun = time.perf_counter()
            fitted = call(client, dice)
            took.append((time.perf_counter() - begun) * 1000)
            refused[0] += not fitted

    begun = time.perf_counter()
    _together(server, clients, work, begun + seconds)
    return Times(tuple(took), len(took) / (time.perf_counter() - begun), refused[0])


def _together(server: Server, clients: int, work: Callable[[Client, Callable[[], bool]], None], end: float) -> None:
    """Run clients side by side until they are done or the time is up. Raises what the first of them raised."""
    failures: list[BaseException] = []

    def run() -> None:
        client = Client(server)
        try:
            work(client, lambda: bool(failures) or time.perf_counter() > end)
        except BaseException as error:
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def steps(hosts: Sequence[int]) -> Iterator[tuple[int, range]]:
    """Sizes of the fleet in ascending order, each with the numbers of the hosts that have to be added for it."""
    before = 0
    for size in sorted(set(hosts)):
        yield size, range(before, size)
        before = size
