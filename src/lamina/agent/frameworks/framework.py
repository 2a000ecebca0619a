"""What the two ways of making vGPUs have in common: one mechanism, one file, one class behind this port."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from lamina.agent.sysfs import Sysfs, join
from lamina.model import catalog
from lamina.model.errors import BadRequest, DeviceRefused
from lamina.model.gpus import Framework, Gpu, GpuSettings, Partitioning, VgpuType
from lamina.model.ids import PciAddress

PCI = "/sys/bus/pci/devices"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A vGPU that the kernel has. ``uuid`` is None under vfio, where a device is known by its parent alone."""

    uuid: str | None
    parent: PciAddress
    type: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A GPU as the kernel shows it now. ``parents`` are the VFs, or the GPU itself."""

    gpu: Gpu
    parents: tuple[PciAddress, ...]
    #: instances of each type, by name, that the kernel would still make
    available: Mapping[str, int]
    devices: tuple[Device, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Discovery:
    """The GPUs of one framework, and sentences about what is wrong."""

    gpus: tuple[Found, ...]
    problems: tuple[str, ...]


class FrameworkPort(Protocol):
    """One way of making vGPUs. Every refusal of the kernel is a `DeviceRefused` with its errno."""

    framework: Framework

    def discover(self, settings: Mapping[PciAddress, GpuSettings]) -> Discovery: ...

    def devices(self, found: Found) -> tuple[Device, ...]:
        """What stands on a discovered GPU at this moment."""
        ...

    def create(self, uuid: str, parent: PciAddress, vgpu_type: VgpuType) -> None: ...

    def remove(self, uuid: str, parent: PciAddress) -> None:
        """Nothing is done where nothing stands."""
        ...

    def handle(self, uuid: str, parent: PciAddress) -> str:
        """How a domain is given the device."""
        ...


def refused(what: str, error: OSError) -> DeviceRefused:
    return DeviceRefused(f"The kernel refused to {what}: {error.strerror}", error.errno or 0)


def parse_addresses(names: Iterable[str]) -> list[PciAddress]:
    """The PCI addresses among some names; virtual parents such as ``mtty`` are passed over."""
    found = []
    for name in names:
        try:
            found.append(PciAddress.parse(name))
        except BadRequest:
            continue
    return sorted(found)


def pci_file(sysfs: Sysfs, address: PciAddress, name: str) -> str:
    """A PCI device's attribute, stripped. Raises OSError."""
    return sysfs.read(join(PCI, str(address), name)).strip()


def optional(read: Callable[[], T], default: T) -> T:
    """What `read` gives, or `default` where the file is not there."""
    try:
        return read()
    except FileNotFoundError:
        return default


def physical_function(sysfs: Sysfs, address: PciAddress) -> PciAddress:
    """The PF of a VF; any other function is its own."""
    path = join(PCI, str(address), "physfn")
    return PciAddress.parse(sysfs.link(path)) if sysfs.exists(path) else address


def card_of(sysfs: Sysfs, address: PciAddress) -> tuple[str, str, catalog.Card | None]:
    """A GPU's vendor and device ids, and its card if the catalog knows it. Raises OSError."""
    vendor, device = (pci_file(sysfs, address, name).removeprefix("0x") for name in ("vendor", "device"))
    subsystem = optional(lambda: pci_file(sysfs, address, "subsystem_device"), "").removeprefix("0x")
    return vendor, device, catalog.by_pci_id(vendor, device, subsystem)


def describe(
    sysfs: Sysfs,
    address: PciAddress,
    framework: Framework,
    types: Sequence[VgpuType],
    settings: GpuSettings,
    virtual_functions: int | None,
) -> tuple[Gpu, list[str]]:
    """The facts of one GPU from its PCI attributes, its types and the operator's settings, and what is wrong with these.

    Raises OSError when the GPU vanishes meanwhile.
    """
    vendor, device, card = card_of(sysfs, address)
    numa_node = int(optional(lambda: pci_file(sysfs, address, "numa_node"), "-1"))
    partitioning = Partitioning.SAME_SIZE if vendor == catalog.NVIDIA else Partitioning.SHARED_POOL
    if card is not None:
        framebuffer_mb = card.framebuffer_mb
    else:
        framebuffer_mb = max((t.framebuffer_mb * t.max_instances for t in types), default=0)
    enabled, problems = _enabled(address, types, settings)
    gpu = Gpu(
        address=address,
        model=card.board if card is not None else f"PCI {vendor}:{device}",
        framework=framework,
        partitioning=partitioning,
        framebuffer_mb=framebuffer_mb,
        types=tuple(types),
        enabled_types=tuple(t.name for t in enabled),
        resource_class=settings.resource_class,
        max_instances=settings.max_instances,
        virtual_functions=virtual_functions,
        numa_node=numa_node if numa_node >= 0 else None,
    )
    return gpu, problems


def _enabled(address: PciAddress, types: Sequence[VgpuType], settings: GpuSettings) -> tuple[list[VgpuType], list[str]]:
    if settings.enabled_types is None:
        return list(types), []
    enabled: list[VgpuType] = []
    problems = []
    for word in settings.enabled_types:
        found = next((t for t in types if t.called(word)), None)
        if found is None:
            problems.append(f"GPU {address} does not offer the enabled type {word!r}")
        elif found not in enabled:
            enabled.append(found)
    return enabled, problems
