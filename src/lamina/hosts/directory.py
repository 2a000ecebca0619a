"""How the control plane reaches hosts: one small port, and who answers under which name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from lamina.model.errors import Conflict, HostUnreachable
from lamina.model.hosts import (
    Call,
    Console,
    DiskContent,
    DomainReport,
    DomainSpec,
    HostReport,
    Landing,
    PowerAction,
    Transfer,
    VgpuReport,
    VgpuSpec,
)


class Compute(Protocol):
    """A host's compute service. Every call that changes something may be repeated and comes to the same.

    All raise `HostUnreachable` where the host does not answer and `StaleFence` where it has seen a newer call.
    """

    def report(self) -> HostReport: ...

    def ensure_vgpus(self, call: Call, specs: Sequence[VgpuSpec]) -> tuple[VgpuReport, ...]:
        """Make these vGPUs exist. All or none: raises `DeviceRefused` or `DeviceMissing` with nothing left behind."""
        ...

    def release_vgpus(self, call: Call, server_id: str, uuids: Sequence[str]) -> None:
        """Make these vGPUs of a server not exist. Unknown ones are left alone. Raises `DeviceRefused`."""
        ...

    def ensure_domain(self, call: Call, spec: DomainSpec) -> DomainReport:
        """Make the domain exist as described. Raises `HypervisorError`, `DeviceMissing`."""
        ...

    def set_power(self, call: Call, server_id: str, action: PowerAction) -> DomainReport:
        """Raises `HypervisorError`."""
        ...

    def suspend_domain(self, call: Call, server_id: str) -> DomainReport:
        """Keep a running domain's memory on its host and switch it off, without its devices. Raises `HypervisorError`."""
        ...

    def resume_domain(self, call: Call, spec: DomainSpec) -> DomainReport:
        """Have a suspended domain go on, with its devices. Raises `HypervisorError`, `DeviceMissing`."""
        ...

    def fit_domain(self, call: Call, spec: DomainSpec) -> DomainReport:
        """Have a domain have the devices described and no others, and go on meanwhile. Raises `HypervisorError`, `DeviceMissing`."""
        ...

    def remove_domain(self, call: Call, server_id: str) -> None:
        """Make the domain not exist. Raises `HypervisorError`."""
        ...

    def renew_disk(self, call: Call, spec: DomainSpec) -> None:
        """Make the disk of a domain that is shut off anew from its image. Raises `HypervisorError`."""
        ...

    def send_disk(self, call: Call, server_id: str) -> DiskContent | None:
        """Bring a server's disk to the control plane's depot, as it is at one moment; None where it has none. Raises `HostError`."""
        ...

    def take_disk(self, call: Call, server_id: str, content: DiskContent) -> None:
        """Have what lies in the depot as the server's disk. Raises `HostError`."""
        ...

    def expect_domain(self, call: Call, spec: DomainSpec) -> Landing:
        """Have everything ready for a running domain to arrive. Raises `HypervisorError`, `DeviceMissing`."""
        ...

    def send_domain(self, call: Call, server_id: str, landing: Landing) -> None:
        """Begin to move a running domain to where it is awaited. Raises `HypervisorError`."""
        ...

    def transfer(self, server_id: str) -> Transfer:
        """How the move of a domain away from the host stands, and what the domain is in there. Raises `HypervisorError`."""
        ...

    def stop_transfer(self, call: Call, server_id: str) -> Transfer:
        """End a move that is under way. Raises `HypervisorError`."""
        ...

    def console_output(self, server_id: str, lines: int | None) -> str:
        """The last lines of the domain's serial port. Raises `HypervisorError`."""
        ...

    def console(self, server_id: str) -> Console | None:
        """Where the domain's display is served, if it has one. Raises `HypervisorError`."""
        ...


class Hosts:
    """The hosts this process can reach. Thread-safe."""

    #: where hosts dial in, of every control plane of the fleet that is there; empty where there is one, which they know
    control_planes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._computes: dict[str, Compute] = {}
        self._reboots: dict[str, Callable[[], None]] = {}
        self._listener: Callable[[str], None] | None = None
        self._lock = threading.Lock()

    def join(self, name: str, compute: Compute, reboot: Callable[[], None] | None = None) -> None:
        """Reach `name` through `compute` from now on. `reboot` is the power switch of a simulated machine."""
        with self._lock:
            self._computes[name] = compute
            if reboot is not None:
                self._reboots[name] = reboot

    def leave(self, name: str) -> None:
        """Reach this host no more."""
        with self._lock:
            self._computes.pop(name, None)
            self._reboots.pop(name, None)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Have `listener` told the name of a host that something has changed on which nobody asked for."""
        self._listener = listener

    def changed(self, name: str) -> None:
        """Something on this host changed that nobody asked for, or it has just come."""
        if self._listener is not None:
            self._listener(name)

    def reboot(self, name: str) -> None:
        """Press the power switch. Raises `HostUnreachable`, and `Conflict` for a real machine, which has none here."""
        self.of(name)
        reboot = self._reboots.get(name)
        if reboot is None:
            raise Conflict(f"Host {name} is a real machine: reboot it there.")
        reboot()

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._computes)

    def all(self) -> list[Compute]:
        with self._lock:
            return list(self._computes.values())

    def of(self, name: str) -> Compute:
        """The compute service of a host. Raises `HostUnreachable`."""
        with self._lock:
            compute = self._computes.get(name)
        if compute is None:
            raise HostUnreachable(f"Host {name} does not answer.")
        return compute
