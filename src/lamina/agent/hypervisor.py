"""The `Hypervisor` port: domains on one host."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from lamina.model.gpus import Framework
from lamina.model.hosts import Console, DomainReport, DomainSpec, Landing, PowerAction, Transfer


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A vGPU as a domain is given it: the mdev's uuid, or the address of the VF it stands on."""

    uuid: str
    framework: Framework
    handle: str
    #: where its GPU sits, if that is known
    numa_node: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """What the machine has for domains."""

    vcpus: int
    memory_mb: int
    disk_gb: int
    hypervisor_type: str
    #: major * 1000000 + minor * 1000 + release, as libvirt gives it
    hypervisor_version: int
    #: names of the networks that a domain can be on
    networks: tuple[str, ...] = ()
    #: of libvirt itself, in the same form; 0 where there is none
    libvirt_version: int = 0


class Hypervisor(Protocol):
    """Domains are known by their server's id, which is also their uuid. Everything may be repeated."""

    def boot_id(self) -> str: ...

    def capacity(self) -> Capacity: ...

    def domains(self) -> list[DomainReport]: ...

    def ensure(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        """Make the domain as described, with these devices, running or not; one defined otherwise is defined anew.

        A suspended one that shall not run stays suspended; one that shall run begins anew, without its memory.
        Its disk is made from the image the first time, is never made smaller, and stays when the domain is defined anew.
        Raises `DeviceMissing` for a device that is not there, `HypervisorError` for one that another domain holds and
        for a network, an image or a disk that cannot be had.
        """
        ...

    def set_power(self, server_id: str, action: PowerAction) -> DomainReport:
        """Whatever starts or switches off a suspended domain forgets its memory; only a running one can be paused.

        Raises `HypervisorError` where there is no such domain, or none that can do this, `DeviceMissing` where it cannot start.
        """
        ...

    def suspend(self, server_id: str) -> DomainReport:
        """Take a running domain's devices from it, keep its memory on disk and switch it off; one that is suspended stays so.

        Where it fails the domain may be without some of its devices, and `resume` gives them back.
        Raises `HypervisorError` for a guest that does not let a device go, and for a domain that is off.
        """
        ...

    def resume(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        """Have a suspended domain go on where it was, with these devices; one that runs is given those that it lacks.

        Raises `DeviceMissing` for a device that is not there, `HypervisorError` for one that another domain holds or the
        domain does not take, and for a domain that is off without its memory having been kept.
        """
        ...

    def fit(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        """Have the domain have these devices and no others, on or off as it is; what it keeps, a guest that is on keeps in use.

        Where it fails, a domain that is on may have some of them. Raises `HypervisorError` for a guest that does not let one go or
        cannot take one, for one that another domain holds, and for a domain that is suspended; `DeviceMissing`.
        """
        ...

    def remove(self, server_id: str) -> None:
        """Destroy and undefine, disks and all; a domain that is not there, or is not ours, is left as it is."""
        ...

    def renew_disk(self, spec: DomainSpec) -> None:
        """Make the disk of a domain that is shut off anew, from the image or blank; the old one stays where that fails.

        Raises `HypervisorError`, also for a domain that is on, and for none.
        """
        ...

    def expect(self, spec: DomainSpec, devices: Sequence[Device]) -> Landing:
        """Have everything ready for a running domain to arrive from another host: defined, shut off, with these devices.

        Raises `HypervisorError`, also where domains with such devices cannot be moved here, and `DeviceMissing`.
        """
        ...

    def send(self, server_id: str, landing: Landing) -> None:
        """Begin to move a running or paused domain to where it is awaited; nothing where one is on its way already.

        It is never on in two places: it runs here until its memory is there, and from then on it is off here, defined still.
        Raises `HypervisorError`.
        """
        ...

    def transfer(self, server_id: str) -> Transfer:
        """How the move of a domain away from here stands, and what the domain is in here."""
        ...

    def stop_transfer(self, server_id: str) -> Transfer:
        """End a move that is under way; it may have come to its end before. Raises `HypervisorError`."""
        ...

    def pack_disk(self, server_id: str) -> AbstractContextManager[Path | None]:
        """The disk of a domain, as it is at one moment, as one file that needs no other, for as long as the context lasts.

        None where the domain has no disk, or where there is no domain. Raises `HypervisorError`.
        """
        ...

    def place_disk(self, server_id: str) -> AbstractContextManager[Path]:
        """Where to write such a file; it becomes the server's disk when the context ends well. Raises `HypervisorError`."""
        ...

    def console_output(self, server_id: str, lines: int | None) -> str:
        """The last lines that the domain wrote to its serial port, or all that is kept. Raises `HypervisorError`."""
        ...

    def console(self, server_id: str) -> Console | None:
        """Where the running domain's display is, or None where it has none. Raises `HypervisorError`."""
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed`, from any thread, whenever a domain may have changed by itself or by somebody else's hand."""
        ...
