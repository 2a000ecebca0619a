"""A simulated host: the real compute service on a simulated machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lamina.agent.compute import ComputeService
from lamina.agent.depot import Depot, LocalDepot
from lamina.agent.hypervisor import Capacity
from lamina.agent.hypervisors.simulated import Cable, SimulatedHypervisor
from lamina.agent.journal import Journal
from lamina.agent.simulated.fleet import FleetHost
from lamina.agent.simulated.kernel import SimulatedKernel
from lamina.agent.simulated.machine import Machine
from lamina.agent.simulated.nvidia_smi import NvidiaSmi
from lamina.model.clock import Clock


@dataclasses.dataclass(frozen=True, slots=True)
class SimulatedHost:
    """The host's compute service, and below it the machine and its kernel."""

    compute: ComputeService
    machine: Machine
    kernel: SimulatedKernel


def simulated_host(
    described: FleetHost, state: Path, clock: Clock, depot: Depot | None = None, neighbours: dict[str, SimulatedHypervisor] | None = None
) -> SimulatedHost:
    """Switch a host on. Its machine's state and its journal lie apart: ``machines/`` and ``agents/`` below `state`.

    `neighbours` are the hosts to which it can move running domains; it joins them.
    """
    for folder in ("machines", "agents"):
        (state / folder).mkdir(mode=0o700, exist_ok=True)
    machine = Machine(state / "machines" / f"{described.name}.json")
    kernel = SimulatedKernel(described.cards, machine, described.driver_version)
    cable = Cable({} if neighbours is None else neighbours, clock, described.migration_seconds)
    hypervisor = SimulatedHypervisor(machine, capacity_of(described), cable)
    cable.ends[described.name] = hypervisor
    compute = ComputeService(
        described.name,
        kernel,
        hypervisor,
        Journal(state / "agents" / f"{described.name}.json"),
        described.settings,
        clock,
        depot=depot or LocalDepot(state / "depot"),
        command=NvidiaSmi(described.cards, machine),
    )
    return SimulatedHost(compute, machine, kernel)


def capacity_of(described: FleetHost) -> Capacity:
    size = (described.vcpus, described.memory_mb, described.disk_gb)
    return Capacity(*size, "simulated", described.hypervisor_version, described.networks)
