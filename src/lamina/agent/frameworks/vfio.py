"""Vendor-specific VFIO: vGPUs made by writing a type's number into a virtual function.

Used by NVIDIA vGPU 17 and later on Linux 6.8 and later. ``current_vgpu_type`` holds 0 or the type; ``creatable_vgpu_types``
lists what could be made on this VF now, not what the card offers: it shrinks as siblings get vGPUs and is empty on a
busy VF. So the card's types come from the catalog, from the operator, and from what idle VFs list.

On a card with slots a vGPU is given its place before its type: ``placement_id`` in mixed-size mode, in MIG mode
``gpu_instance_id`` with a GPU instance that is made for it. Both answer ENXIO on a VF without a vGPU.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from lamina.agent.commands import Command, run
from lamina.agent.frameworks.framework import (
    PCI,
    Device,
    Found,
    Place,
    card_of,
    clear,
    describe,
    has_virtual_functions,
    optional,
    parse_addresses,
    refused,
    virtual_functions,
)
from lamina.agent.gpu_instances import GpuInstance, GpuInstances
from lamina.agent.sysfs import Sysfs, join
from lamina.model.clock import Clock
from lamina.model.gpus import Framework, Gpu, GpuSettings, Partitioning, VgpuType, framebuffer_of_name
from lamina.model.ids import PciAddress
from lamina.model.partitioners import MOST_VGPUS, mig

#: what ``current_vgpu_type`` holds where no vGPU stands, and what clears it
NONE = "0"


def parse_creatable(text: str) -> dict[str, str]:
    """Type id -> name from ``creatable_vgpu_types``: a header line, then ``ID : name``; or nothing at all."""
    found = {}
    for line in text.splitlines()[1:]:
        type_id, colon, name = (part.strip() for part in line.partition(":"))
        if colon and type_id.isascii() and type_id.isdecimal() and name:
            found[type_id] = name
    return found


class Vfio:
    """vGPUs on the VFs of SR-IOV cards, over a `Sysfs`."""

    framework = Framework.VFIO

    def __init__(self, sysfs: Sysfs, clock: Clock, command: Command = run) -> None:
        """`command` runs the tool that makes GPU instances."""
        self._sysfs = sysfs
        self._clock = clock
        self._instances = GpuInstances(command)

    # ------------------------------------------------------------------------------------------------ what is there

    def addresses(self) -> list[PciAddress]:
        functions = parse_addresses(optional(lambda: self._sysfs.list(PCI), []))
        return [f for f in functions if has_virtual_functions(self._sysfs, f)]

    def read(self, settings: GpuSettings) -> Found | None:
        address = settings.address
        if not self._sysfs.exists(join(PCI, str(address))):
            return None
        functions = [f for f in virtual_functions(self._sysfs, address) if self._sysfs.exists(self._file(f, "current_vgpu_type"))]
        if not functions:
            return None
        current = {f: self._current(f) for f in functions}
        texts = [self._sysfs.read(self._file(f, "creatable_vgpu_types")) for f in functions if current[f] == NONE]
        of_text = {text: parse_creatable(text) for text in set(texts)}  # idle VFs of one GPU mostly list the same
        idle = [of_text[text] for text in texts]
        types = self._types(address, {type_id: name for listed in idle for type_id, name in listed.items()}, settings)
        gpu, problems = describe(self._sysfs, self.framework, types, settings, len(functions))
        available = {t.name: sum(1 for listed in idle if t.id in listed) for t in types}
        return Found(gpu, tuple(functions), available, self._devices(gpu, current), problems)

    def devices(self, found: Found) -> tuple[Device, ...]:
        return self._devices(found.gpu, {f: self._current(f) for f in found.parents})

    def _devices(self, gpu: Gpu, current: Mapping[PciAddress, str]) -> tuple[Device, ...]:
        """What stands on the VFs; in MIG mode then each GPU instance on which nothing stands, as if it stood on the GPU."""
        name_of = {t.id: t.name for t in gpu.types}
        busy = {f: type_id for f, type_id in current.items() if type_id != NONE}
        if gpu.partitioning is not Partitioning.MIG:
            mixed = gpu.partitioning is Partitioning.MIXED_SIZE
            return tuple(
                Device(None, f, type_id, name_of.get(type_id), self._number(f, "placement_id") if mixed else None)
                for f, type_id in busy.items()
            )
        instances = {g.id: g for g in self._instances.of(gpu.address)}
        found = []
        for function, type_id in busy.items():
            under = instances.pop(self._number(function, "gpu_instance_id") or 0, None)
            found.append(Device(None, function, type_id, name_of.get(type_id), under.start if under else None))
        found += [Device(None, gpu.address, "", _type_on(gpu, g), g.start) for g in instances.values()]
        return tuple(found)

    def _number(self, function: PciAddress, name: str) -> int | None:
        """A number that a VF tells only while a vGPU stands on it. Raises OSError."""
        try:
            return int(self._sysfs.read(self._file(function, name)))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise

    def _types(self, address: PciAddress, listed: Mapping[str, str], settings: GpuSettings) -> list[VgpuType]:
        """The catalog's, then the operator's, under the numbers by which the driver lists them; then what else is listed."""
        card = card_of(self._sysfs, address)[2]
        types: dict[str, VgpuType] = {}  # by name
        for fact in (*(card.types if card is not None else ()), *settings.types):
            type_id = next((number for number, name in listed.items() if fact.called(name)), fact.id)
            if type_id.isascii() and type_id.isdecimal():
                types[fact.name] = VgpuType(type_id, fact.name, fact.framebuffer_mb, fact.max_instances)
        known = {t.id for t in types.values()}
        for type_id, name in listed.items():
            framebuffer_mb = framebuffer_of_name(name)
            if type_id not in known and framebuffer_mb is not None:
                whole = card.framebuffer_mb if card is not None else framebuffer_mb * MOST_VGPUS
                types[name] = VgpuType(type_id, name, framebuffer_mb, max(1, min(MOST_VGPUS, whole // framebuffer_mb)))
        return sorted(types.values(), key=lambda t: int(t.id))

    def type_id_of(self, uuid: str, parent: PciAddress) -> str | None:
        try:
            type_id = self._current(parent)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return None
            raise refused(f"tell of the vGPU on {parent}", error) from error
        return None if type_id == NONE else type_id

    def _current(self, function: PciAddress) -> str:
        return self._sysfs.read(self._file(function, "current_vgpu_type")).strip()

    def _file(self, function: PciAddress, name: str) -> str:
        return join(PCI, str(function), "nvidia", name)

    # ------------------------------------------------------------------------------------------------ making and removing

    def create(self, uuid: str, parent: PciAddress, vgpu_type: VgpuType, place: Place | None = None) -> None:
        instance = None
        if place is not None and place.profile is not None:
            instance = self._instances.ensure(place.gpu, place.profile, place.start)
        try:
            if instance is not None:
                self._sysfs.write(self._file(parent, "gpu_instance_id"), str(instance.id))
            elif place is not None:
                self._sysfs.write(self._file(parent, "placement_id"), str(place.start))
            self._sysfs.write(self._file(parent, "current_vgpu_type"), vgpu_type.id)
        except OSError as error:
            raise refused(f"make a vGPU of type {vgpu_type.name} on {parent}", error) from error

    def remove(self, uuid: str, parent: PciAddress, place: Place | None = None) -> None:
        clear(
            self._clock,
            f"clear the vGPU on {parent}",
            stands=lambda: self.type_id_of(uuid, parent) is not None,
            write=lambda: self._sysfs.write(self._file(parent, "current_vgpu_type"), NONE),
        )
        if place is not None and place.profile is not None:
            self._remove_instance(place.gpu, place.profile, place.start)

    def _remove_instance(self, gpu: PciAddress, profile: int, start: int) -> None:
        """Unless somebody else's vGPU has come to stand on it."""
        try:
            used = {self._number(function, "gpu_instance_id") for function in virtual_functions(self._sysfs, gpu)}
        except OSError as error:
            raise refused(f"tell of the GPU instances of {gpu}", error) from error
        self._instances.remove(gpu, profile, start, used)

    def keep(self, uuid: str, parent: PciAddress, type_id: str) -> None:
        """Nothing of the kernel's or of libvirt's keeps a VF's type; the compute service sets it anew from its journal."""

    def handle(self, uuid: str, parent: PciAddress) -> str:
        return str(parent)


def _type_on(gpu: Gpu, instance: GpuInstance) -> str | None:
    """The name of a type that could stand on a GPU instance: all of them are of one size."""
    found = ((t.name, mig.profile(gpu, t)) for t in gpu.types)
    return next((name for name, profile in found if profile is not None and profile.id == instance.profile), None)
