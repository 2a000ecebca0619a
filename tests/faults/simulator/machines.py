"""Machines in memory under real compute services, and the line to each, on which calls are lost, doubled and come late.

A machine outlives its compute service, and that the control plane. A compute service that has died touches nothing more:
its journal and its machine refuse it, as they would a process that is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from lamina.agent.compute import ComputeService
from lamina.agent.depot import LocalDepot
from lamina.agent.hypervisors.simulated import Cable, SimulatedHypervisor
from lamina.agent.journal import Journal
from lamina.agent.simulated.fleet import FleetHost
from lamina.agent.simulated.host import capacity_of
from lamina.agent.simulated.kernel import SimulatedKernel
from lamina.agent.simulated.machine import Machine, MachineState
from lamina.agent.simulated.nvidia_smi import NvidiaSmi
from lamina.model.clock import Clock
from lamina.model.errors import HostUnreachable, LaminaError
from tests.faults.simulator.trouble import AgentDied, Trouble
from tests.faults.world import Killed


class MemoryMachine(Machine):
    """A machine whose state nobody has to write down: it is never switched off with the simulator left on."""

    def save(self) -> None:
        pass


class MemoryFile:
    """The file of a journal; stands in for its path. A process that has died does not write to it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._content: bytes | None = None
        self._life = site.life

    def reopened(self) -> MemoryFile:
        again = MemoryFile(self._site)
        again._content = self._content
        return again

    def read_bytes(self) -> bytes:
        if self._content is None:
            raise FileNotFoundError
        return self._content

    def replace(self, content: bytes) -> None:
        self._site.alive(self._life)
        self._site.trouble.passing("journal-before")
        self._content = content
        self._site.trouble.passing("journal-after")

    def __str__(self) -> str:
        return f"journal of {self._site.name}"


def replace_in_memory(path: Any, content: bytes) -> None:
    """What `journal.replace_durably` does, for a `MemoryFile`."""
    if isinstance(path, MemoryFile):
        path.replace(content)
    else:
        path.write_bytes(content)


#: what changes a domain, and what only looks at one is not among
_CHANGES = frozenset({"ensure", "set_power", "suspend", "resume", "renew_disk", "expect", "send", "stop_transfer", "remove"})


class TroubledHypervisor(SimulatedHypervisor):
    """One that refuses, and before and after whose work the compute service may die."""

    site: Site

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return partial(self._around, found) if name in _CHANGES else found

    def _around(self, work: Callable[..., Any], *given: Any) -> Any:
        self.site.alive(self.site.life)
        self.site.trouble.passing("domain-before")
        done = work(*given)
        self.site.trouble.passing("domain-after")
        return done


class Site:
    """One host: its machine, its kernel, and the compute service that lives there now."""

    def __init__(
        self, described: FleetHost, state: Path, clock: Clock, trouble: Trouble, neighbours: dict[str, SimulatedHypervisor]
    ) -> None:
        self.name = described.name
        self.trouble = trouble
        self.life = 0
        self.dead = False
        self._described, self._clock, self._state = described, clock, state
        self.machine = MemoryMachine(state / f"{described.name}.none")
        self.kernel = SimulatedKernel(described.cards, self.machine, described.driver_version)
        self.kernel.before_write = lambda path, text: self._write("write-before")
        self.kernel.after_write = lambda path, text: self._write("write-after")
        self.hypervisor = TroubledHypervisor(self.machine, capacity_of(described), Cable(neighbours, clock, described.migration_seconds))
        neighbours[described.name] = self.hypervisor
        self.hypervisor.site = self
        #: what others have made: handle -> the kernel's id of its type
        self.foreign: dict[str, str] = {}
        #: the file of the journal, which outlives every compute service
        self.file = MemoryFile(self)
        self.begin()

    def begin(self) -> None:
        """A new compute service on what is there; one that dies at its start is started again."""
        while True:
            try:
                return self._begin()
            except AgentDied:
                continue

    def _begin(self) -> None:
        self.life += 1
        self.dead = False
        self.file = self.file.reopened()
        self.journal = Journal(cast(Path, self.file))
        self.compute = ComputeService(
            self.name,
            self.kernel,
            self.hypervisor,
            self.journal,
            self._described.settings,
            self._clock,
            depot=LocalDepot(self._state / "depot"),
            command=NvidiaSmi(self._described.cards, self.machine),
        )

    def written(self) -> tuple[bytes, bytes]:
        """The machine's state and the journal, as files would have them."""
        return msgspec.json.encode(self.machine.state), self.file._content or b"{}"

    def read(self, machine: bytes, journal: bytes) -> None:
        self.machine.state = msgspec.json.decode(machine, type=MachineState)
        self.file._content = journal
        self.begin()

    def alive(self, life: int) -> None:
        if self.dead or life != self.life:
            raise AgentDied

    def _write(self, place: str) -> None:
        self.alive(self.life)
        self.trouble.passing(place)

    def reboot(self) -> None:
        """Power off and on: the compute service and what others had on the cards are gone as well."""
        self.foreign.clear()
        self.machine.reboot()
        self.begin()


#: calls that change nothing; all others may be lost, doubled or late
_LOOKS = frozenset({"report", "transfer", "console", "console_output"})


class Line:
    """The way from the control plane to one host: a `Compute`."""

    def __init__(self, site: Site, late: list[tuple[str, Callable[[], Any]]]) -> None:
        self.site = site
        self.cut = False
        self._late = late

    def __getattr__(self, method: str) -> Any:
        return partial(self._call, method)

    def _call(self, method: str, *given: Any) -> Any:
        if self.cut:
            raise HostUnreachable(f"Host {self.site.name} does not answer.")
        fate = self.site.trouble.passing("call") if method not in _LOOKS else None
        if self.cut or fate == "lost request":
            raise HostUnreachable(f"Host {self.site.name} did not hear {method}.")
        if fate == "late":
            self._late.append((f"{self.site.name} {method}", partial(self._deliver, method, *given)))
            raise HostUnreachable(f"Host {self.site.name} has not done {method} in time.")
        if fate == "doubled":
            self._deliver(method, *given)
        answer = self._deliver(method, *given)
        if fate == "lost answer":
            raise HostUnreachable(f"The answer of host {self.site.name} to {method} was lost.")
        return answer

    def _deliver(self, method: str, *given: Any) -> Any:
        if self.site.dead:
            self.site.begin()
        try:
            return getattr(self.site.compute, method)(*given)
        except AgentDied as died:
            if died.of_the_whole_process():
                raise Killed from None
            self.site.begin()
            raise HostUnreachable(f"The agent on host {self.site.name} began anew while the call was with it.") from None

    def come_late(self, deliver: Callable[[], Any]) -> str:
        """Nobody waits for the answer any more."""
        try:
            deliver()
        except LaminaError as error:
            return error.code
        return "done"
