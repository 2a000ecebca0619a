"""Mediated devices: vGPUs made by writing a uuid into a type's ``create`` file.

Source: Linux, Documentation/driver-api/vfio-mediated-device.rst and Documentation/ABI/testing/sysfs-bus-vfio-mdev.
On SR-IOV cards (Ampere and later on older kernels) the parents are the VFs; the GPU is their physical function.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

from lamina.agent.frameworks.framework import Device, Discovery, Found, describe, optional, parse_addresses, physical_function, refused
from lamina.agent.sysfs import Sysfs, join
from lamina.model import ids
from lamina.model.gpus import Framework, GpuSettings, VgpuType, framebuffer_of_name
from lamina.model.ids import PciAddress

PARENTS = "/sys/class/mdev_bus"
DEVICES = "/sys/bus/mdev/devices"
TYPES = "mdev_supported_types"

_FRAMEBUFFER = re.compile(r"framebuffer=(\d+)M")
_MOST = re.compile(r"max_instance=(\d+)")


class Mdev:
    """vGPUs as mediated devices, over a `Sysfs`."""

    framework = Framework.MDEV

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def discover(self, settings: Mapping[PciAddress, GpuSettings]) -> Discovery:
        by_gpu: dict[PciAddress, list[PciAddress]] = {}
        problems: list[str] = []
        for parent in parse_addresses(optional(lambda: self._sysfs.list(PARENTS), [])):
            try:
                by_gpu.setdefault(physical_function(self._sysfs, parent), []).append(parent)
            except OSError as error:
                problems.append(f"GPU {parent} cannot be read: {error.strerror}")
        gpus = []
        for address, parents in sorted(by_gpu.items()):
            try:
                found, wrong = self._gpu(address, tuple(parents), settings.get(address, GpuSettings(address)))
            except OSError as error:
                problems.append(f"GPU {address} cannot be read: {error.strerror}")
                continue
            gpus.append(found)
            problems.extend(wrong)
        return Discovery(tuple(gpus), tuple(problems))

    def _gpu(self, address: PciAddress, parents: tuple[PciAddress, ...], settings: GpuSettings) -> tuple[Found, list[str]]:
        names: dict[str, str] = {}  # kernel id -> name
        free: dict[str, int] = {}
        for parent in parents:
            folder = join(PARENTS, str(parent), TYPES)
            for type_id in self._sysfs.list(folder):
                if type_id not in names:
                    names[type_id] = self._name(join(folder, type_id, "name"), type_id)
                free[type_id] = free.get(type_id, 0) + int(self._sysfs.read(join(folder, type_id, "available_instances")))
        raw = [d for parent in parents for d in self._on_parent(parent)]
        types = [self._type(parents[0], type_id, name, free[type_id], raw, settings) for type_id, name in sorted(names.items())]
        of_id = {t.id: t for t in types}
        virtual_functions = len(parents) if parents != (address,) else None
        gpu, problems = describe(self._sysfs, address, self.framework, types, settings, virtual_functions)
        devices = tuple(Device(uuid, parent, of_id[t].name if t in of_id else None) for uuid, parent, t in raw)
        # on VFs the sum says how many VFs would take one, which is more than the GPU does; the partitioner knows the GPU
        available = {of_id[type_id].name: count for type_id, count in free.items()}
        return Found(gpu, parents, available, devices), problems

    def _type(
        self,
        parent: PciAddress,
        type_id: str,
        name: str,
        available: int,
        raw: list[tuple[str, PciAddress, str]],
        settings: GpuSettings,
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
            max_instances=int(most[1]) if most else available + sum(1 for _, _, t in raw if t == type_id),
        )

    def _name(self, path: str, type_id: str) -> str:
        """The name file is optional in the kernel's interface; without it the id serves."""
        return optional(lambda: self._sysfs.read(path).strip(), type_id)

    def devices(self, found: Found) -> tuple[Device, ...]:
        of_id = {t.id: t.name for t in found.gpu.types}
        return tuple(Device(uuid, parent, of_id.get(t)) for p in found.parents for uuid, parent, t in self._on_parent(p))

    def _on_parent(self, parent: PciAddress) -> list[tuple[str, PciAddress, str]]:
        """(uuid, parent, kernel's type id) of the mdevs on one parent."""
        found = []
        for name in self._sysfs.list(join(PARENTS, str(parent))):
            if ids.is_uuid(name):
                type_id = self._sysfs.link(join(PARENTS, str(parent), name, "mdev_type"))
                found.append((ids.parse_uuid(name), parent, type_id))
        return found

    def create(self, uuid: str, parent: PciAddress, vgpu_type: VgpuType) -> None:
        try:
            self._sysfs.write(join(PARENTS, str(parent), TYPES, vgpu_type.id, "create"), uuid)
        except OSError as error:
            raise refused(f"make a vGPU of type {vgpu_type.name} on {parent}", error) from error

    def remove(self, uuid: str, parent: PciAddress) -> None:
        try:
            if self._sysfs.exists(join(DEVICES, uuid)):
                self._sysfs.write(join(DEVICES, uuid, "remove"), "1")
        except OSError as error:
            # somebody else's removal, or the parent's end, has done it
            if error.errno not in (errno.ENODEV, errno.ENOENT) or self._sysfs.exists(join(DEVICES, uuid)):
                raise refused(f"remove the vGPU {uuid} from {parent}", error) from error

    def handle(self, uuid: str, parent: PciAddress) -> str:
        return uuid
