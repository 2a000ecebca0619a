"""Mediated devices: vGPUs made by writing a uuid into a type's ``create`` file.

Source: Linux, Documentation/driver-api/vfio-mediated-device.rst and Documentation/ABI/testing/sysfs-bus-vfio-mdev.
On SR-IOV cards (Ampere and later on older kernels) the parents are the VFs; the GPU is their physical function.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from lamina.agent.definitions import Definitions
from lamina.agent.frameworks.framework import (
    PCI,
    Device,
    Found,
    Place,
    clear,
    describe,
    optional,
    parse_addresses,
    physical_function,
    refused,
    virtual_functions,
)
from lamina.agent.sysfs import Sysfs, join
from lamina.model import ids
from lamina.model.clock import Clock
from lamina.model.gpus import Framework, Gpu, GpuSettings, VgpuType, framebuffer_of_name
from lamina.model.ids import PciAddress

PARENTS = "/sys/class/mdev_bus"
DEVICES = "/sys/bus/mdev/devices"
TYPES = "mdev_supported_types"

_FRAMEBUFFER = re.compile(r"framebuffer=(\d+)M")
_MOST = re.compile(r"max_instance=(\d+)")

#: uuid, parent, the kernel's id of the type
Standing = tuple[str, PciAddress, str]


class Mdev:
    """vGPUs as mediated devices, over a `Sysfs`."""

    framework = Framework.MDEV

    def __init__(self, sysfs: Sysfs, clock: Clock, definitions: Definitions | None = None) -> None:
        """`definitions` is where the host keeps mdevs that it makes at boot, if it does."""
        self._sysfs = sysfs
        self._clock = clock
        self._definitions = definitions

    # ------------------------------------------------------------------------------------------------ what is there

    def addresses(self) -> list[PciAddress]:
        parents = parse_addresses(optional(lambda: self._sysfs.list(PARENTS), []))
        return sorted({physical_function(self._sysfs, parent) for parent in parents})

    def read(self, settings: GpuSettings) -> Found | None:
        address = settings.address
        if not self._sysfs.exists(join(PCI, str(address))) or self._sysfs.exists(join(PCI, str(address), "physfn")):
            return None
        functions = [f for f in virtual_functions(self._sysfs, address) if self._sysfs.exists(join(PARENTS, str(f)))]
        if not functions and not self._sysfs.exists(join(PARENTS, str(address))):
            return None
        parents = tuple(functions) or (address,)
        names: dict[str, str] = {}  # by the kernel's id
        free: dict[str, int] = {}
        for parent in parents:
            folder = join(PARENTS, str(parent), TYPES)
            for type_id in self._sysfs.list(folder):
                if type_id not in names:
                    names[type_id] = self._name(join(folder, type_id, "name"), type_id)
                free[type_id] = free.get(type_id, 0) + int(self._sysfs.read(join(folder, type_id, "available_instances")))
        standing = self._standing(parents)
        types = [self._type(parents[0], type_id, name, free[type_id], standing, settings) for type_id, name in sorted(names.items())]
        gpu, problems = describe(self._sysfs, self.framework, types, settings, len(functions) or None)
        # on VFs the sum says how many VFs would take one, which is more than the GPU does; the partitioner knows the GPU
        available = {t.name: free[t.id] for t in types}
        return Found(gpu, parents, available, _devices(gpu, standing), problems)

    def devices(self, found: Found) -> tuple[Device, ...]:
        return _devices(found.gpu, self._standing(found.parents))

    def _type(
        self, parent: PciAddress, type_id: str, name: str, available: int, standing: list[Standing], settings: GpuSettings
    ) -> VgpuType:
        """The facts of a type: the operator's, the driver's description, the name's grammar, in this order."""
        said = next((t for t in settings.types if t.called(type_id) or t.called(name)), None)
        if said is not None:
            return VgpuType(type_id, said.name, said.framebuffer_mb, said.max_instances)
        path = join(PARENTS, str(parent), TYPES, type_id, "description")
        description = optional(lambda: self._sysfs.read(path), "")
        framebuffer, most = _FRAMEBUFFER.search(description), _MOST.search(description)
        return VgpuType(
            id=type_id,
            name=name,
            framebuffer_mb=int(framebuffer[1]) if framebuffer else framebuffer_of_name(name) or 1,
            max_instances=int(most[1]) if most else available + sum(1 for _, _, t in standing if t == type_id),
        )

    def _name(self, path: str, type_id: str) -> str:
        """The name file is optional in the kernel's interface; without it the id serves."""
        return optional(lambda: self._sysfs.read(path).strip(), "") or type_id

    def _standing(self, parents: Iterable[PciAddress]) -> list[Standing]:
        found = []
        for parent in parents:
            for name in self._sysfs.list(join(PARENTS, str(parent))):
                if ids.is_uuid(name):
                    type_id = self._sysfs.link(join(PARENTS, str(parent), name, "mdev_type"))
                    found.append((ids.parse_uuid(name), parent, type_id))
        return found

    def type_id_of(self, uuid: str, parent: PciAddress) -> str | None:
        try:
            return self._sysfs.link(join(PARENTS, str(parent), uuid, "mdev_type"))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return None
            raise refused(f"tell of the vGPU {uuid} on {parent}", error) from error

    # ------------------------------------------------------------------------------------------------ making and removing

    def create(self, uuid: str, parent: PciAddress, vgpu_type: VgpuType, place: Place | None = None) -> None:
        """A card that is cut into mdevs has no places to choose from."""
        try:
            self._sysfs.write(join(PARENTS, str(parent), TYPES, vgpu_type.id, "create"), uuid)
        except OSError as error:
            raise refused(f"make a vGPU of type {vgpu_type.name} on {parent}", error) from error

    def keep(self, uuid: str, parent: PciAddress, type_id: str) -> None:
        if self._definitions is not None:
            self._definitions.define(uuid, parent, type_id)

    def remove(self, uuid: str, parent: PciAddress, place: Place | None = None) -> None:
        if self._definitions is not None:
            # first, so that a host that goes down in between does not bring back what was to go
            self._definitions.undefine(uuid, parent)
        clear(
            self._clock,
            f"remove the vGPU {uuid} from {parent}",
            stands=lambda: self.type_id_of(uuid, parent) is not None,
            write=lambda: self._sysfs.write(join(DEVICES, uuid, "remove"), "1"),
        )

    def handle(self, uuid: str, parent: PciAddress) -> str:
        return uuid


def _devices(gpu: Gpu, standing: Iterable[Standing]) -> tuple[Device, ...]:
    name_of = {t.id: t.name for t in gpu.types}
    return tuple(Device(uuid, parent, type_id, name_of.get(type_id)) for uuid, parent, type_id in standing)
