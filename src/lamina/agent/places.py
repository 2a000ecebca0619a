"""Where a vGPU stands or is to stand: between what is asked for, what the journal says and what a GPU offers. Pure."""

from __future__ import annotations

import errno
from collections.abc import Callable, Container, Iterable, Mapping

from lamina.agent.frameworks.framework import Found, Place
from lamina.agent.journal import Record
from lamina.model import ids
from lamina.model.errors import DeviceRefused
from lamina.model.gpus import Gpu, Partitioning, VgpuType
from lamina.model.hosts import VgpuReport, VgpuSpec
from lamina.model.ids import PciAddress
from lamina.model.partitioners import mig


def report_of(record: Record, seen_at: int | None = None) -> VgpuReport:
    """A vGPU of ours as its host tells of it; `seen_at` is the slot it was found at, where the journal knows of none."""
    placement = seen_at if record.placement is None else record.placement
    return VgpuReport(record.uuid, record.gpu, record.parent, record.type, ours=True, server_id=record.server_id, placement=placement)


def is_at(record: Record, spec: VgpuSpec) -> bool:
    """Whether what is written down is what shall exist, where it shall."""
    same_place = None in (record.placement, spec.placement) or record.placement == spec.placement
    return (record.gpu, record.type) == (spec.gpu, spec.type) and same_place


def place_of(record: Record) -> Place | None:
    """On a card that has slots."""
    return Place(record.gpu, record.placement, record.profile) if record.placement is not None else None


def profile_of(gpu: Gpu, type_name: str | None) -> int | None:
    """The profile of the GPU instance that a type needs on a GPU in MIG mode."""
    if gpu.partitioning is not Partitioning.MIG or type_name is None:
        return None
    found = mig.profile(gpu, gpu.type_named(type_name))
    return found.id if found is not None else None


def type_of(found: Found, name: str) -> VgpuType:
    """Raises `DeviceRefused` for one that the GPU does not offer."""
    try:
        return found.gpu.type_named(name)
    except KeyError:
        raise DeviceRefused(f"GPU {found.gpu.address} does not offer the type {name}", errno.EINVAL) from None


def parent_of(found: Found, taken: Container[PciAddress], preferred: Iterable[PciAddress | None]) -> PciAddress:
    """The GPU itself, or a free VF: one of the preferred ones, if one is free. Raises `DeviceRefused` where none is."""
    if found.gpu.virtual_functions is None:
        return found.gpu.address
    free = [parent for parent in found.parents if parent not in taken]
    if not free:
        raise DeviceRefused(f"GPU {found.gpu.address} has no free virtual function", errno.ENOSPC)
    return next((parent for parent in preferred if parent in free), free[0])


def standing_on(
    found: Found, records: Mapping[str, Record], host: str, is_ours: Callable[[Record, str | None], bool]
) -> tuple[VgpuReport, ...]:
    """The vGPUs on a GPU as its host tells of them; `is_ours` says whether a type that stands where a record says is that vGPU."""
    gpu = found.gpu
    on_parent = {r.parent: r for r in records.values()}
    instances = {(r.profile, r.placement) for r in records.values() if r.gpu == gpu.address and r.profile is not None}
    reports = []
    for device in found.devices:
        if gpu.partitioning is Partitioning.MIG and device.parent == gpu.address:
            # a GPU instance without a vGPU: one of ours that is being made or removed, or somebody else's
            if (profile_of(gpu, device.type), device.start) not in instances:
                uuid = ids.foreign_instance_uuid(host, device.parent, device.start or 0)
                reports.append(VgpuReport(uuid, device.parent, device.parent, device.type, ours=False, placement=device.start))
            continue
        record = records.get(device.uuid) if device.uuid is not None else on_parent.get(device.parent)
        if record is not None and record.parent == device.parent and is_ours(record, device.type_id):
            reports.append(report_of(record, device.start))
        else:
            uuid = device.uuid or ids.foreign_vf_uuid(host, device.parent)
            reports.append(VgpuReport(uuid, gpu.address, device.parent, device.type, ours=False, placement=device.start))
    return tuple(reports)
