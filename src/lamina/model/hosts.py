"""What the control plane and a host's compute service say to each other: plain values, the same in process and over HTTPS."""

from __future__ import annotations

import dataclasses
import enum

from lamina.model.gpus import Gpu
from lamina.model.ids import PciAddress


class PowerState(enum.IntEnum):
    """Power states with the numbers that the Compute API shows (nova/compute/power_state.py)."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    #: off, and what was in its memory is kept on the host's disk
    SUSPENDED = 7

    @property
    def is_off(self) -> bool:
        """Whether such a domain holds no device."""
        return self in (PowerState.SHUTDOWN, PowerState.SUSPENDED)


class PowerAction(enum.StrEnum):
    ON = "on"
    OFF = "off"
    SOFT_REBOOT = "soft-reboot"
    HARD_REBOOT = "hard-reboot"
    PAUSE = "pause"
    UNPAUSE = "unpause"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Fence:
    """Orders every call about one server: a host refuses a lower one, and takes an equal one for a repetition.

    ``epoch`` grows whenever an operation begins or is taken over by another process; ``number`` grows with each call
    the operation makes.
    """

    epoch: int
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """Who is calling, sent with everything that changes a host."""

    operation_id: str
    step: str
    fence: Fence


@dataclasses.dataclass(frozen=True, slots=True)
class VgpuSpec:
    """A vGPU that shall exist. ``parent`` names the VF where it stood before (a host that came back), else None.

    ``placement`` is the slot it starts at, on a card that has slots.
    """

    uuid: str
    server_id: str
    gpu: PciAddress
    type: str
    parent: PciAddress | None = None
    placement: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class VgpuReport:
    """A vGPU that a host has. ``uuid`` is the mdev's own, the journal's for a VF of ours, derived for a foreign VF."""

    uuid: str
    gpu: PciAddress
    #: the VF it stands on, or the GPU itself
    parent: PciAddress
    #: None where the type is not one the GPU is known to offer
    type: str | None
    #: False for devices that this host's journal does not know
    ours: bool
    server_id: str | None = None
    #: the slot it starts at, on a card that has slots
    placement: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImageSource:
    """An image that a disk begins with, as the control plane has it."""

    id: str
    #: of the content, in hexadecimal: what a host fetched is held against it, and found again by it
    sha512: str
    #: bytes
    size: int
    #: ``raw`` or ``qcow2``
    format: str


@dataclasses.dataclass(frozen=True, slots=True)
class Nic:
    """An interface of a domain: a port of its server, on a network by the name the host's settings have for it."""

    network: str
    mac: str


@dataclasses.dataclass(frozen=True, slots=True)
class DomainSpec:
    """A domain that shall exist, with these vGPUs and in this power state.

    ``disk_gb`` is the least that its disk has; 0 leaves it as large as its image, and without an image there is none.
    ``config_drive`` holds paths and contents of the files on a drive labelled ``config-2``; None where there is no drive.
    """

    server_id: str
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    vgpus: tuple[str, ...]
    running: bool
    image: ImageSource | None = None
    nics: tuple[Nic, ...] = ()
    config_drive: dict[str, bytes] | None = None
    #: what it boots from in place of its own disk, which is its second one then
    rescue: ImageSource | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class DiskContent:
    """A server's whole disk on its way from one host to another, one file that needs no other."""

    #: of the file, in hexadecimal
    sha512: str
    #: bytes
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Landing:
    """Where a running domain is awaited: what its host tells the host that sends it.

    ``address`` is where that host's hypervisor is reached, and ``definition`` the domain as it is to be there, in the
    hypervisor's own words.
    """

    host: str
    address: str
    definition: str


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """How the move of a running domain to another host stands, as the host tells that it leaves.

    ``power_state`` is what the domain is in there; None where there is none. ``why`` tells what ended the last transfer
    that came to nothing. Figures are bytes.
    """

    running: bool
    power_state: PowerState | None
    why: str | None = None
    memory_total: int = 0
    memory_processed: int = 0
    memory_remaining: int = 0
    disk_total: int = 0
    disk_processed: int = 0
    disk_remaining: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Console:
    """Where a running domain's display is served: ``vnc`` or ``spice``, at an address of its host."""

    protocol: str
    host: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class DomainReport:
    """A domain that a host has. ``server_id`` is None for domains that Lamina did not make."""

    uuid: str
    name: str
    power_state: PowerState
    vgpus: tuple[str, ...]
    server_id: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class GpuReport:
    """One GPU now: its facts, what the kernel says is still available of each type, and what stands on it."""

    gpu: Gpu
    available: dict[str, int]
    vgpus: tuple[VgpuReport, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class HostReport:
    """Everything a host tells of itself."""

    host: str
    #: changes with every boot of the machine (Linux: /proc/sys/kernel/random/boot_id)
    boot_id: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    hypervisor_type: str
    hypervisor_version: int
    gpus: tuple[GpuReport, ...]
    domains: tuple[DomainReport, ...]
    #: names of the networks that a domain here can be on
    networks: tuple[str, ...] = ()
    #: sentences for a person: GPUs that could not be read, types asked for and not offered, …
    problems: tuple[str, ...] = ()
    #: vGPUs of ours that the host's journal has and the machine does not, as they were
    lost: tuple[VgpuReport, ...] = ()
    #: grows from report to report of one host; all in this one was seen after every report with a lower number was begun. 0: not told
    sequence: int = 0
    #: the highest epoch of all calls that the host has admitted (`Fence`)
    epoch: int = 0
    #: of libvirt itself, in the form of ``hypervisor_version``; 0 where there is none, or an older agent does not tell
    libvirt_version: int = 0
