"""The `Hypervisor` port: domains on one host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from lamina.model.gpus import Framework
from lamina.model.hosts import DomainReport, DomainSpec, PowerAction


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A vGPU as a domain is given it: the mdev's uuid, or the address of the VF it stands on."""

    uuid: str
    framework: Framework
    handle: str


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """What the machine has for domains."""

    vcpus: int
    memory_mb: int
    disk_gb: int
    hypervisor_type: str
    #: major * 1000000 + minor * 1000 + release, as libvirt gives it
    hypervisor_version: int


class Hypervisor(Protocol):
    """Domains are known by their server's id, which is also their uuid. Everything may be repeated."""

    def boot_id(self) -> str: ...

    def capacity(self) -> Capacity: ...

    def domains(self) -> list[DomainReport]: ...

    def ensure(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        """Make the domain as described, with these devices, running or not; one defined otherwise is defined anew.

        Raises `DeviceMissing` for a device that is not there, `HypervisorError` for one that another domain holds.
        """
        ...

    def set_power(self, server_id: str, action: PowerAction) -> DomainReport:
        """Raises `HypervisorError` where there is no such domain, `DeviceMissing` where it cannot start."""
        ...

    def remove(self, server_id: str) -> None:
        """Destroy and undefine; a domain that is not there, or is not ours, is left as it is."""
        ...
