"""What the two ways of making vGPUs have in common: one mechanism, one file, one class behind this port."""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from lamina.agent.sysfs import Sysfs, join
from lamina.model import catalog, partitioners
from lamina.model.clock import Clock
from lamina.model.errors import BadRequest, DeviceRefused
from lamina.model.gpus import Framework, Gpu, GpuSettings, Partitioning, VgpuType
from lamina.model.ids import PciAddress

PCI = "/sys/bus/pci/devices"
MODULES = "/sys/module"
#: a device may be busy for a short while after its domain has gone: tries, and seconds between them
CLEAR_TRIES = 10
CLEAR_PAUSE = 1.0
#: what reading a GPU can end in when it vanishes meanwhile, or when its files hold what no driver is known to write
UNREADABLE = (OSError, ValueError, BadRequest)

_VIRTUAL_FUNCTION = re.compile(r"virtfn[0-9]+")
_BUSY = (errno.EBUSY, errno.EAGAIN)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A vGPU that the kernel has. ``uuid`` is None under vfio, where a device is known by its parent alone."""

    uuid: str | None
    parent: PciAddress
    #: the kernel's id of its type
    type_id: str
    #: the type's name, or None where the GPU is not known to offer it
    type: str | None
    #: the slot it starts at, on a card that has slots
    start: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where on its GPU a vGPU goes, on a card that has slots."""

    gpu: PciAddress
    start: int
    #: number of the profile of the GPU instance that it stands on, in MIG mode
    profile: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A GPU as the kernel shows it now. ``parents`` are the VFs, or the GPU itself."""

    gpu: Gpu
    parents: tuple[PciAddress, ...]
    #: instances of each type, by name, that the kernel would still make
    available: Mapping[str, int]
    devices: tuple[Device, ...]
    #: sentences about what the operator asked for and this GPU does not have
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Discovery:
    """The GPUs of one framework, and sentences about what is wrong."""

    gpus: tuple[Found, ...]
    problems: tuple[str, ...]


class FrameworkPort(Protocol):
    """One way of making vGPUs."""

    framework: Framework

    def addresses(self) -> list[PciAddress]:
        """GPUs that may well be of this framework. Raises one of `UNREADABLE`."""
        ...

    def read(self, settings: GpuSettings) -> Found | None:
        """The GPU of that address now, or None where it makes no vGPUs this way. Raises one of `UNREADABLE`."""
        ...

    def devices(self, found: Found) -> tuple[Device, ...]:
        """What stands on a GPU at this moment. Raises one of `UNREADABLE`."""
        ...

    def type_id_of(self, uuid: str, parent: PciAddress) -> str | None:
        """The kernel's id of the type of the vGPU there, or None where there is none. Raises `DeviceRefused`."""
        ...

    def create(self, uuid: str, parent: PciAddress, vgpu_type: VgpuType, place: Place | None = None) -> None:
        """Without a `place` the driver chooses one.

        Raises `DeviceRefused` with the kernel's errno; whether the vGPU is there all the same, only a look can tell.
        """
        ...

    def remove(self, uuid: str, parent: PciAddress, place: Place | None = None) -> None:
        """With what it had for itself at its `place`. Nothing is done where nothing stands.

        Raises `DeviceRefused` with the kernel's errno.
        """
        ...

    def keep(self, uuid: str, parent: PciAddress, type_id: str) -> None:
        """See to it that the host itself brings the vGPU back after a boot, where it has a means for that.

        What `remove` removes is not kept any longer. Raises `DeviceRefused`.
        """
        ...

    def handle(self, uuid: str, parent: PciAddress) -> str:
        """How a domain is given the device."""
        ...


def discover(framework: FrameworkPort, settings: Mapping[PciAddress, GpuSettings]) -> Discovery:
    """Every GPU of a framework; one that cannot be read becomes a sentence, and the others stay."""
    gpus, problems = [], []
    try:
        addresses = framework.addresses()
    except UNREADABLE as error:
        return Discovery((), (f"The GPUs that make vGPUs by {framework.framework} cannot be listed: {why(error)}",))
    for address in addresses:
        try:
            found = framework.read(settings.get(address, GpuSettings(address)))
        except UNREADABLE as error:
            problems.append(f"GPU {address} cannot be read: {why(error)}")
            continue
        if found is not None:
            gpus.append(found)
            problems.extend(found.problems)
    return Discovery(tuple(gpus), tuple(problems))


def why(error: Exception) -> str:
    """What went wrong, for a person: an errno's text, or the sentence of another error."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def refused(what: str, error: OSError) -> DeviceRefused:
    return DeviceRefused(f"The kernel refused to {what}: {why(error)}", error.errno or 0)


def clear(clock: Clock, what: str, stands: Callable[[], bool], write: Callable[[], None]) -> None:
    """Remove what stands, patient with a device that is busy; an error after which nothing stands is none.

    Raises `DeviceRefused` with the kernel's errno.
    """
    for left in reversed(range(CLEAR_TRIES)):
        if not stands():
            return
        try:
            write()
            return
        except OSError as error:
            if not stands():
                return
            if error.errno not in _BUSY or not left:
                raise refused(what, error) from error
        clock.sleep(CLEAR_PAUSE)


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
    """The PF of a VF; any other function, and one that vanishes meanwhile, is its own."""
    try:
        return PciAddress.parse(sysfs.link(join(PCI, str(address), "physfn")))
    except OSError:
        return address


def virtual_functions(sysfs: Sysfs, address: PciAddress) -> list[PciAddress]:
    """The enabled VFs of a PF, in the order of their addresses. Raises OSError."""
    folder = join(PCI, str(address))
    return sorted(PciAddress.parse(sysfs.link(join(folder, n))) for n in sysfs.list(folder) if _VIRTUAL_FUNCTION.fullmatch(n))


def has_virtual_functions(sysfs: Sysfs, address: PciAddress) -> bool:
    """Whether a PF has any VF enabled: where it has one, it has the first."""
    return sysfs.exists(join(PCI, str(address), "virtfn0"))


def driver_of(sysfs: Sysfs, address: PciAddress) -> tuple[str | None, str | None]:
    """The driver a device is bound to and that driver's version, each None where the kernel tells none. Raises OSError."""
    driver = optional(lambda: sysfs.link(join(PCI, str(address), "driver")), None)
    if driver is None:
        return None, None
    return driver, optional(lambda: sysfs.read(join(MODULES, driver, "version")).strip(), "") or None


def card_of(sysfs: Sysfs, address: PciAddress) -> tuple[str, str, catalog.Card | None]:
    """A GPU's vendor and device ids, and its card if the catalog knows it. Raises OSError."""
    vendor, device = (pci_file(sysfs, address, name).removeprefix("0x") for name in ("vendor", "device"))
    subsystem = optional(lambda: pci_file(sysfs, address, "subsystem_device"), "").removeprefix("0x")
    return vendor, device, catalog.by_pci_id(vendor, device, subsystem)


def describe(
    sysfs: Sysfs,
    framework: Framework,
    types: Sequence[VgpuType],
    settings: GpuSettings,
    functions: int | None,
) -> tuple[Gpu, tuple[str, ...]]:
    """The facts of one GPU from its PCI attributes, its types and the operator's settings, and what is wrong with these.

    ``functions`` is how many VFs it has, if it has any. Raises one of `UNREADABLE`.
    """
    address = settings.address
    vendor, device, card = card_of(sysfs, address)
    numa_node = int(optional(lambda: pci_file(sysfs, address, "numa_node"), "-1"))
    driver, driver_version = driver_of(sysfs, address)
    # the rule is the driver's; a card that none is bound to is told by its vendor
    by_itself = Partitioning.SAME_SIZE if driver == "nvidia" or vendor == catalog.NVIDIA else Partitioning.SHARED_POOL
    partitioning, problems = _cut(settings, by_itself, card.cuts(framework) if card is not None else (by_itself,))
    pool_mb = max((t.framebuffer_mb * t.max_instances for t in types), default=0)
    gpu = Gpu(
        address=address,
        model=card.board if card is not None else f"PCI {vendor}:{device}",
        framework=framework,
        partitioning=partitioning,
        framebuffer_mb=card.framebuffer_mb if card is not None else pool_mb,
        types=tuple(types),
        enabled_types=(),
        resource_class=settings.resource_class,
        max_instances=settings.max_instances,
        virtual_functions=functions,
        numa_node=numa_node if numa_node >= 0 else None,
        driver=driver,
        driver_version=driver_version,
        generation=card.generation if card is not None else "",
    )
    enabled, missing = _enabled(gpu, settings)
    return dataclasses.replace(gpu, enabled_types=tuple(t.name for t in enabled)), (*problems, *missing)


def _cut(settings: GpuSettings, by_itself: Partitioning, possible: Sequence[Partitioning]) -> tuple[Partitioning, list[str]]:
    """How the GPU is cut: as the operator says, where it can be."""
    wanted = settings.partitioning or by_itself
    if wanted in possible:
        return wanted, []
    return by_itself, [f"GPU {settings.address} cannot be cut {wanted}, and is cut {by_itself}; it can be {' or '.join(possible)}"]


def _enabled(gpu: Gpu, settings: GpuSettings) -> tuple[list[VgpuType], list[str]]:
    if settings.enabled_types is None:
        return [t for t in gpu.types if partitioners.can_be_made(gpu, t)], []
    enabled: list[VgpuType] = []
    problems = []
    for word in settings.enabled_types:
        found = next((t for t in gpu.types if t.called(word)), None)
        if found is None:
            problems.append(f"GPU {gpu.address} does not offer the enabled type {word!r}")
        elif not partitioners.can_be_made(gpu, found):
            problems.append(f"GPU {gpu.address} is cut {gpu.partitioning}, in which its enabled type {word!r} cannot be made")
        elif found not in enabled:
            enabled.append(found)
    return enabled, problems
