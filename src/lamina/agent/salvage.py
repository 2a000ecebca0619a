"""Salvage: damaged records of the journal are written anew where what is left of them, and what stands, makes it certain what they were."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any

import structlog

from lamina.agent.frameworks.framework import Device, Found
from lamina.agent.hypervisor import Hypervisor
from lamina.agent.journal import Journal, Record
from lamina.agent.places import profile_of
from lamina.model.errors import BadRequest, HostError
from lamina.model.gpus import HAVE_SLOTS
from lamina.model.hosts import DomainReport
from lamina.model.ids import PciAddress

log = structlog.get_logger()


class Salvage:
    """Of one host's journal. Used by one call at a time, as the journal is."""

    def __init__(self, host: str, journal: Journal) -> None:
        self._host = host
        self._journal = journal
        self._told: list[str] = []
        for uuid in journal.set_aside():
            log.error("a record of the journal is damaged and set aside", host=host, vgpu=uuid)

    def problems(self) -> list[str]:
        """Sentences about the records that were damaged when this began."""
        told = f"is damaged and set aside in {self._journal.path}; what stands there is left alone"
        return self._told + [f"The journal's record of vGPU {uuid} {told}" for uuid in sorted(self._journal.set_aside())]

    def attempt(self, look: Callable[[], Iterable[Found]], hypervisor: Hypervisor) -> None:
        """Where there are damaged records, `look` at the GPUs and write anew what is certain."""
        damaged = self._journal.set_aside()
        if not damaged:
            return
        found, domains, boot_id = list(look()), hypervisor.domains(), hypervisor.boot_id()
        for uuid, left in sorted(damaged.items()):
            taken = {record.parent for record in self._journal.records().values()}
            record = salvaged(uuid, left, found, taken, domains, boot_id)
            if record is not None:
                try:
                    self._journal.put([record])
                except HostError as error:  # the next look may find room to write
                    log.warning("a damaged record of the journal stays set aside", host=self._host, vgpu=uuid, why=error.message)
                    continue
                self._told.append(f"The journal's record of vGPU {uuid} was damaged; it was written anew from what stands")
                log.warning("a damaged record of the journal was written anew", host=self._host, vgpu=uuid, server=record.server_id)


def salvaged(
    uuid: str,
    left: Mapping[str, Any],
    gpus: Iterable[Found],
    taken: Container[PciAddress],
    domains: Collection[DomainReport],
    boot_id: str,
) -> Record | None:
    """The record that a damaged one must have been, from what is `left` of it and what stands; None where that is not certain.

    An mdev bears the uuid. A VF bears nothing, so it is ours only if the record still says where it is, no other record (`taken`)
    does, and the device is of its boot and its type, or a domain of ours that is on has it.
    """
    holder = next((d for d in domains if uuid in d.vgpus and d.server_id is not None), None)
    server_id = left.get("server_id")
    if not isinstance(server_id, str):
        server_id = holder.server_id if holder is not None else None
    held = holder is not None and not holder.power_state.is_off
    for found in gpus:
        for device in found.devices:
            ours = device.uuid == uuid or (device.parent not in taken and _same(device, left, boot_id, held=held))
            if server_id is not None and device.type is not None and ours:
                placement = device.start if found.gpu.partitioning in HAVE_SLOTS else None
                return Record(
                    uuid=uuid,
                    server_id=server_id,
                    framework=found.gpu.framework,
                    gpu=found.gpu.address,
                    parent=device.parent,
                    type=device.type,
                    type_id=device.type_id,
                    boot_id=boot_id,
                    placement=placement,
                    profile=profile_of(found.gpu, device.type) if placement is not None else None,
                )
    return None


def _same(device: Device, left: Mapping[str, Any], boot_id: str, *, held: bool) -> bool:
    try:
        parent = PciAddress(**left["parent"])
    except (KeyError, TypeError, BadRequest):
        return False
    same = (left.get("boot_id"), left.get("type_id")) == (boot_id, device.type_id)
    return device.uuid is None and device.parent == parent and (same or held)
