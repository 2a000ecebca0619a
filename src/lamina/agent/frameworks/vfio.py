"""Vendor-specific VFIO: vGPUs made by writing a type's number into a virtual function.

Used by NVIDIA vGPU 17 and later on Linux 6.8 and later. ``current_vgpu_type`` holds 0 or the type; ``creatable_vgpu_types``
lists what could be made on this VF now, not what the card offers: it shrinks as siblings get vGPUs and is empty on a
busy VF. So the card's types come from the catalog, from the operator, and from what idle VFs list.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from lamina.agent.frameworks.framework import (
    PCI,
    Device,
    Discovery,
    Found,
    card_of,
    describe,
    optional,
    parse_addresses,
    physical_function,
    refused,
)
from lamina.agent.sysfs import Sysfs, join
from lamina.model.clock import Clock
from lamina.model.gpus import Framework, Gpu, GpuSettings, VgpuType, framebuffer_of_name
from lamina.model.ids import PciAddress
from lamina.model.partitioners import MOST_VGPUS

NONE = "0"
#: a VF may be busy for a short while after its domain has gone: tries, and seconds between them
CLEAR_TRIES = 10
CLEAR_PAUSE = 1.0


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

    def __init__(self, sysfs: Sysfs, clock: Clock) -> None:
        self._sysfs = sysfs
        self._clock = clock

    def discover(self, settings: Mapping[PciAddress, GpuSettings]) -> Discovery:
        by_gpu: dict[PciAddress, list[PciAddress]] = {}
        problems: list[str] = []
        for function in parse_addresses(optional(lambda: self._sysfs.list(PCI), [])):
            try:
                if self._sysfs.exists(self._file(function, "current_vgpu_type")):
                    by_gpu.setdefault(physical_function(self._sysfs, function), []).append(function)
            except OSError as error:
                problems.append(f"GPU {function} cannot be read: {error.strerror}")
        gpus = []
        for address, functions in sorted(by_gpu.items()):
            try:
                found, wrong = self._gpu(address, tuple(functions), settings.get(address, GpuSettings(address)))
            except OSError as error:
                problems.append(f"GPU {address} cannot be read: {error.strerror}")
                continue
            gpus.append(found)
            problems.extend(wrong)
        return Discovery(tuple(gpus), tuple(problems))

    def _gpu(self, address: PciAddress, functions: tuple[PciAddress, ...], settings: GpuSettings) -> tuple[Found, list[str]]:
        current = {f: self._current(f) for f in functions}
        idle = [f for f in functions if current[f] == NONE]
        # the driver's rule is the GPU's, so that every idle VF lists the same types
        listed = parse_creatable(self._sysfs.read(self._file(idle[0], "creatable_vgpu_types"))) if idle else {}
        types = self._types(address, listed, settings)
        gpu, problems = describe(self._sysfs, address, self.framework, types, settings, len(functions))
        available = {t.name: len(idle) if t.id in listed else 0 for t in types}
        return Found(gpu, functions, available, self._present(gpu, current)), problems

    def _types(self, address: PciAddress, listed: Mapping[str, str], settings: GpuSettings) -> list[VgpuType]:
        card = card_of(self._sysfs, address)[2]
        known = {t.id: t for t in (card.types if card is not None else ())}
        # what the operator says by name gets the number the driver lists it under, if an idle VF lists it
        number = {name: type_id for type_id, name in listed.items()}
        for said in settings.types:
            type_id = number.get(said.name, said.id)
            if type_id.isdecimal():
                known[type_id] = VgpuType(type_id, said.name, said.framebuffer_mb, said.max_instances)
        for type_id, name in listed.items():
            if type_id not in known:
                framebuffer_mb = framebuffer_of_name(name)
                if framebuffer_mb is not None:
                    whole = card.framebuffer_mb if card is not None else framebuffer_mb * MOST_VGPUS
                    known[type_id] = VgpuType(type_id, name, framebuffer_mb, min(MOST_VGPUS, whole // framebuffer_mb))
        return [known[type_id] for type_id in sorted(known, key=int)]

    def devices(self, found: Found) -> tuple[Device, ...]:
        return self._present(found.gpu, {f: self._current(f) for f in found.parents})

    def _present(self, gpu: Gpu, current: Mapping[PciAddress, str]) -> tuple[Device, ...]:
        of_id = {t.id: t.name for t in gpu.types}
        return tuple(Device(None, f, of_id.get(type_id)) for f, type_id in current.items() if type_id != NONE)

    def create(self, uuid: str, parent: PciAddress, vgpu_type: VgpuType) -> None:
        try:
            self._sysfs.write(self._file(parent, "current_vgpu_type"), vgpu_type.id)
        except OSError as error:
            raise refused(f"make a vGPU of type {vgpu_type.name} on {parent}", error) from error

    def remove(self, uuid: str, parent: PciAddress) -> None:
        for left in reversed(range(CLEAR_TRIES)):
            try:
                if self._current(parent) != NONE:
                    self._sysfs.write(self._file(parent, "current_vgpu_type"), NONE)
                return
            except OSError as error:
                if error.errno != errno.EBUSY or not left:
                    raise refused(f"clear the vGPU on {parent}", error) from error
            self._clock.sleep(CLEAR_PAUSE)

    def handle(self, uuid: str, parent: PciAddress) -> str:
        return str(parent)

    def _current(self, function: PciAddress) -> str:
        return self._sysfs.read(self._file(function, "current_vgpu_type")).strip()

    def _file(self, function: PciAddress, name: str) -> str:
        return join(PCI, str(function), "nvidia", name)
