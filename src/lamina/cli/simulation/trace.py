"""A trace of GPU work as a fleet and a sequence of requests, in Lamina's own terms.

Reads the node and pod lists of the Alibaba cluster-trace-gpu-v2023 ("openb"; Weng et al., USENIX ATC 2023). Its unit of a
GPU is the thousandth. How a card is cut is a `Cutting`: by thousandths as the trace has it, or into vGPU types of a card
of the catalog, where a task gets the smallest type that has the share it asks for.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lamina.model import capacity, catalog, ids, resources
from lamina.model.errors import BadRequest
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, VgpuType
from lamina.model.ids import PciAddress
from lamina.model.providers import Inventory, Provider, ProviderTree
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.store.hosts import GpuRecord, Host
from lamina.store.snapshots import GpuSnapshot, Snapshot

NODES = "openb_node_list_gpu_node.csv"
PODS = "openb_pod_list_{}.csv"
#: a whole GPU
WHOLE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """``gpu_milli`` is of each of its GPUs."""

    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int

    @property
    def milli(self) -> int:
        """How much it asks of GPUs in all."""
        return self.gpus * self.gpu_milli

    @property
    def size_class(self) -> str:
        if self.gpus == 0:
            return "none"
        if self.gpus > 1:
            return "multi"
        return "full" if self.gpu_milli == WHOLE else "shared"


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    nodes: tuple[Node, ...]
    tasks: tuple[Task, ...]

    @property
    def milli(self) -> int:
        """All GPUs of the fleet, in thousandths."""
        return WHOLE * sum(node.gpus for node in self.nodes)


def read(directory: Path, pods: str = "default") -> Trace:
    """Raises `BadRequest` naming the file that is missing, not such a list, or a list of nothing."""
    nodes = tuple(
        Node(row["sn"], int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"])) for row in _rows(directory / NODES, "sn")
    )
    tasks = tuple(
        Task(int(row["cpu_milli"]), int(row["memory_mib"]), int(row["num_gpu"]), int(row["gpu_milli"] or 0))
        for row in _rows(directory / PODS.format(pods), "num_gpu")
    )
    return Trace(nodes, tasks)


def _rows(path: Path, column: str) -> Sequence[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except OSError as error:
        raise BadRequest(f"--trace: {path.name} cannot be read: {error.strerror}") from error
    if column not in (reader.fieldnames or ()):
        raise BadRequest(f"--trace: {path.name} has no column {column}")
    if not rows:
        raise BadRequest(f"--trace: {path.name} lists nothing")
    return rows


class Cutting(Protocol):
    """How cards are cut."""

    def gpu(self, address: PciAddress) -> Gpu:
        """A card of the fleet."""
        ...

    def type_for(self, milli: int) -> VgpuType:
        """The smallest type with that many thousandths of a card."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class ByThousandths:
    """Any share of a card beside any other, as the trace has it: one type for each share that occurs."""

    shares: tuple[int, ...]

    @classmethod
    def of(cls, trace: Trace) -> ByThousandths:
        return cls(tuple(sorted({task.gpu_milli for task in trace.tasks if task.gpus} | {WHOLE})))

    def gpu(self, address: PciAddress) -> Gpu:
        types = tuple(self.type_for(milli) for milli in self.shares)
        return _gpu(address, "thousandths", Partitioning.SHARED_POOL, WHOLE, types)

    def type_for(self, milli: int) -> VgpuType:
        return VgpuType(f"share-{milli}", f"share-{milli}", milli, WHOLE // milli)


@dataclasses.dataclass(frozen=True, slots=True)
class ByTypes:
    """Into the types of one card of the catalog, by one of its partitionings."""

    card: catalog.Card
    partitioning: Partitioning
    types: tuple[VgpuType, ...]

    @classmethod
    def of(cls, key: str, partitioning: Partitioning) -> ByTypes:
        """The types of one series, in ascending size. Raises `BadRequest` for a card that is not known or not cut so."""
        card = catalog.card(key)
        types = [t for t in card.types if t.mig_backed == (partitioning is Partitioning.MIG)]
        series = next((s for s in ("Q", "C") if any(t.series == s for t in types)), None)
        if series is None:
            raise BadRequest(f"--card: {key} has no types for {partitioning}")
        return cls(card, partitioning, tuple(sorted((t for t in types if t.series == series), key=lambda t: t.framebuffer_mb)))

    def gpu(self, address: PciAddress) -> Gpu:
        return _gpu(address, self.card.key, self.partitioning, self.card.framebuffer_mb, self.types)

    def type_for(self, milli: int) -> VgpuType:
        large_enough = [t for t in self.types if t.framebuffer_mb * WHOLE >= milli * self.card.framebuffer_mb]
        return min(large_enough, key=lambda t: t.framebuffer_mb, default=self.types[-1])


def _gpu(address: PciAddress, model: str, partitioning: Partitioning, framebuffer_mb: int, types: tuple[VgpuType, ...]) -> Gpu:
    return Gpu(address, model, Framework.MDEV, partitioning, framebuffer_mb, types, tuple(t.name for t in types))


def fleet(trace: Trace, cutting: Cutting) -> list[Snapshot]:
    """The nodes as hosts with providers, as discovery would make them; vCPUs are counted in thousandths."""
    return [_host(node, cutting) for node in trace.nodes]


def _host(node: Node, cutting: Cutting) -> Snapshot:
    root = ids.host_provider_id(node.name)
    stock = {
        resources.VCPU: Inventory(node.cpu_milli, max_unit=node.cpu_milli),
        resources.MEMORY_MB: Inventory(node.memory_mib, max_unit=node.memory_mib),
    }
    members = [Provider(root, node.name, 0, root, None, stock, dict.fromkeys(stock, 0))]
    gpus: dict[str, GpuSnapshot] = {}
    for number in range(node.gpus):
        gpu = cutting.gpu(PciAddress.parse(f"0000:{number + 1:02x}:00.0"))
        provider_id = ids.gpu_provider_id(node.name, gpu.address)
        inventory = capacity.gpu_inventory(gpu, Layout())
        held = {resources.VGPU: inventory} if inventory is not None else {}
        traits = capacity.gpu_traits(gpu, Layout())
        name = f"{node.name}_{gpu.address.node_device}"
        members.append(Provider(provider_id, name, 0, root, root, held, dict.fromkeys(held, 0), traits))
        gpus[provider_id] = GpuSnapshot(GpuRecord(node.name, gpu.address, provider_id, gpu, (), present=True), Layout())
    host = Host(
        name=node.name,
        id=root,
        service_id=root,
        provider_id=root,
        enabled=True,
        disabled_reason=None,
        forced_down=False,
        zone="nova",
        boot_id="",
        vcpus=node.cpu_milli,
        memory_mb=node.memory_mib,
        disk_gb=0,
        hypervisor_type="simulated",
        hypervisor_version=1,
        problems=[],
        last_seen_at=0.0,
        created_at=0.0,
        networks=[],
    )
    return Snapshot(ProviderTree(tuple(members)), host, gpus)


def request_of(task: Task, cutting: Cutting) -> CandidateRequest:
    """What a task asks of Placement; each of several GPUs is another one."""
    amounts = {resources.VCPU: task.cpu_milli, resources.MEMORY_MB: task.memory_mib}
    plain = RequestGroup("", {name: amount for name, amount in amounts.items() if amount})
    trait = frozenset({cutting.type_for(task.gpu_milli).trait}) if task.gpus else frozenset()
    groups: Sequence[RequestGroup] = [RequestGroup(str(n + 1), {resources.VGPU: 1}, (trait,)) for n in range(task.gpus)]
    return CandidateRequest((plain, *groups), "isolate" if task.gpus > 1 else None)


def granted(task: Task, cutting: Cutting) -> int:
    """How many thousandths of GPUs a task is given: what it asks for, rounded up to a type of the card."""
    if not task.gpus:
        return 0
    card = cutting.gpu(PciAddress.parse("0000:01:00.0"))
    return task.gpus * round(WHOLE * cutting.type_for(task.gpu_milli).framebuffer_mb / card.framebuffer_mb)
