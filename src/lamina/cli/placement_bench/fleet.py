"""The fleet of a benchmark: hosts of four GPUs, made over the Placement API as a compute service would make them."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lamina.cli.placement_bench.wire import Caller, Endpoint

GPUS = 4
VGPUS = 8
TRAIT = "CUSTOM_BENCH_A40_8Q"
#: what a claim takes beside its vGPU
SERVER = {"VCPU": 4, "MEMORY_MB": 8192}
#: one host whose GPUs give each vGPU of a server a GPU of its own
ISOLATED_GPUS = 8
ISOLATED_TRAIT = "CUSTOM_BENCH_ISOLATED"

#: clients that load a fleet; more than the server has threads for would only wait
LOADERS = 4
TELL_EVERY = 100


@dataclasses.dataclass(frozen=True, slots=True)
class BenchHost:
    """Ids of a host's root provider and of its GPUs."""

    root: str
    gpus: tuple[str, ...]


def candidates_query(limit: int) -> str:
    amounts = ",".join(f"{name}:{amount}" for name, amount in SERVER.items())
    return f"/allocation_candidates?resources={amounts}&resources1=VGPU:1&required1={TRAIT}&limit={limit}"


def isolated_query(limit: int) -> str:
    groups = "&".join(f"resources{n}=VGPU:1&required{n}={ISOLATED_TRAIT}" for n in range(1, ISOLATED_GPUS + 1))
    return f"/allocation_candidates?{groups}&group_policy=isolate&limit={limit}"


def claims(hosts: list[BenchHost], client: int, clients: int) -> Iterator[dict[str, Any]]:
    """Allocations that client number `client` of `clients` may claim, no GPU asked for more than it holds; all hosts in turn.

    The clients share no claim, and a host is come back to when every other one has been visited.
    """
    turns = itertools.product(range(VGPUS), range(GPUS), hosts)
    for _, gpu, host in itertools.islice(turns, client, None, clients):
        yield {host.root: {"resources": SERVER}, host.gpus[gpu]: {"resources": {"VGPU": 1}}}


def load(endpoint: Endpoint, first: int, last: int, tell: Callable[[int], None]) -> list[BenchHost]:
    """Make hosts number `first` to `last` - 1; `tell` hears now and then how many there are.

    Raises `LaminaError` where one is refused.
    """
    _make_trait(endpoint, TRAIT)
    numbers = [range(first + k, last, LOADERS) for k in range(LOADERS)]
    counter = itertools.count(first + 1)

    def made() -> None:
        number = next(counter)
        if number == last or number % TELL_EVERY == 0:
            tell(number)

    with ThreadPoolExecutor(LOADERS) as pool:
        parts = list(pool.map(lambda part: _make_hosts(endpoint, part, made), numbers))
    return [host for part in parts for host in part]


def load_isolated(endpoint: Endpoint) -> None:
    """Make the host that nothing but `isolated_query` finds."""
    _make_trait(endpoint, ISOLATED_TRAIT)
    caller = Caller(endpoint)
    try:
        _make_host(caller, "bench-isolated", ISOLATED_GPUS, ISOLATED_TRAIT)
    finally:
        caller.close()


def _make_trait(endpoint: Endpoint, trait: str) -> None:
    caller = Caller(endpoint)
    try:
        caller.must("PUT", f"/traits/{trait}")
    finally:
        caller.close()


def _make_hosts(endpoint: Endpoint, numbers: range, made: Callable[[], None]) -> list[BenchHost]:
    caller = Caller(endpoint)
    hosts = []
    try:
        for number in numbers:
            hosts.append(_make_host(caller, f"bench-{number:05d}", GPUS, TRAIT))
            made()
    finally:
        caller.close()
    return hosts


def _make_host(caller: Caller, name: str, gpus: int, trait: str) -> BenchHost:
    root = _make_provider(caller, name, None, {"VCPU": 64, "MEMORY_MB": 524288, "DISK_GB": 2000})
    children = []
    for number in range(gpus):
        child = _make_provider(caller, f"{name}_pci_0000_{number + 1:02x}_00_0", root, {"VGPU": VGPUS})
        caller.must("PUT", f"/resource_providers/{child}/traits", {"resource_provider_generation": 1, "traits": [trait]})
        children.append(child)
    return BenchHost(root, tuple(children))


def _make_provider(caller: Caller, name: str, parent: str | None, totals: dict[str, int]) -> str:
    made = str(uuid.uuid4())
    said = {"name": name, "uuid": made} | ({} if parent is None else {"parent_provider_uuid": parent})
    caller.must("POST", "/resource_providers", said)
    inventories = {
        of_class: {"total": total, "max_unit": total, "allocation_ratio": 4.0 if of_class == "VCPU" else 1.0}
        for of_class, total in totals.items()
    }
    caller.must("PUT", f"/resource_providers/{made}/inventories", {"resource_provider_generation": 0, "inventories": inventories})
    return made
