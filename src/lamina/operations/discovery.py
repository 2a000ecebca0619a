"""Discovery: what a host reports becomes providers, inventories and GPU records, and stays in step with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set
from typing import Any

import sqlalchemy as sa

from lamina.model import capacity, ids, partitioners, resources
from lamina.model.errors import BadRequest
from lamina.model.gpus import Gpu, Layout
from lamina.model.hosts import GpuReport, HostReport, VgpuReport
from lamina.model.ids import PciAddress
from lamina.model.providers import Inventory
from lamina.scheduling.claim import follow_layout
from lamina.store import hosts, own_providers
from lamina.store.hosts import GpuRecord, Host
from lamina.store.own_providers import Standing
from lamina.store.resource_names import RESOURCE_CLASSES

#: Nova's initial ratio for vCPUs and its reserve of memory for the host (initial_cpu_allocation_ratio,
#: reserved_host_memory_mb); an operator changes them through the Placement API
CPU_RATIO = 4.0
RESERVED_MEMORY_MB = 512


def record(tx: sa.Connection, report: HostReport, before: Host | None, now: float, heard_by: str | None = None) -> Host:
    """Write down what a host, `before` as recorded, says of itself to the control plane `heard_by`.

    Most reports say what the one before has said. So what stands is read at once, and only what differs is written. Returns the
    host as it was recorded before, or as it is when new.
    """
    provider_id = ids.host_provider_id(report.host)
    standing = own_providers.standing(tx, provider_id)
    if not _has(standing.get(provider_id), _host_inventories(report)):
        own_providers.ensure(tx, provider_id, report.host, parent_id=None, now=now)
        own_providers.set_inventories(tx, provider_id, _host_inventories(report), keep_tuning=True, now=now)
    facts: dict[str, Any] = {
        "boot_id": report.boot_id,
        "vcpus": report.vcpus,
        "memory_mb": report.memory_mb,
        "disk_gb": report.disk_gb,
        "hypervisor_type": report.hypervisor_type,
        "hypervisor_version": report.hypervisor_version,
        "libvirt_version": report.libvirt_version,
        "problems": list(report.problems),
        "networks": list(report.networks),
        "last_seen_at": now,
        "report_sequence": report.sequence,
        "heard_by": heard_by,
    }
    if before is None:
        # hypervisor and root provider share one id, as Nova's do
        hosts.insert_host(
            tx,
            Host(
                name=report.host,
                id=provider_id,
                service_id=ids.new_uuid(),
                provider_id=provider_id,
                enabled=True,
                disabled_reason=None,
                forced_down=False,
                zone="nova",
                created_at=now,
                **facts,
            ),
        )
    else:
        news = {name: value for name, value in facts.items() if getattr(before, name) != value}
        hosts.update_host(tx, report.host, **news | {"last_seen_at": now})
    _record_gpus(tx, report, provider_id, standing, now)
    return before or hosts.get_host(tx, report.host)


def _host_inventories(report: HostReport) -> dict[str, Inventory]:
    wanted = {
        resources.VCPU: Inventory(total=report.vcpus, max_unit=report.vcpus, allocation_ratio=CPU_RATIO),
        resources.MEMORY_MB: Inventory(
            total=report.memory_mb, reserved=min(RESERVED_MEMORY_MB, report.memory_mb), max_unit=report.memory_mb
        ),
    }
    if report.disk_gb:
        wanted[resources.DISK_GB] = Inventory(total=report.disk_gb, max_unit=report.disk_gb)
    return wanted


def _has(root: Standing | None, wanted: Mapping[str, Inventory]) -> bool:
    """Whether a host's provider has these inventories, but for what an operator has tuned."""
    if root is None or root.inventories.keys() != wanted.keys():
        return False
    return all(own_providers.tuned(old, wanted[name]) == old for name, old in root.inventories.items())


def _record_gpus(tx: sa.Connection, report: HostReport, root_id: str, standing: Mapping[str, Standing], now: float) -> None:
    known = {record.address: record for record in hosts.gpus_of(tx, report.host)}
    # what is damaged there is left as it is: nobody knows any more what an operator has chosen
    damaged = _damaged(tx, report, known.keys())
    readable = [gpu for gpu in report.gpus if gpu.gpu.address not in damaged]
    told = [(_gpu_record(report.host, gpu, known.get(gpu.gpu.address)), known.pop(gpu.gpu.address, None)) for gpu in readable]
    layouts = hosts.layouts(tx, [new for new, _ in told])
    for new, old in told:
        if new != old or not _is_followed(new, layouts, standing):
            _follow(tx, root_id, new, old, now)
    for gone in known.values():
        if gone.present:
            hosts.put_gpu(tx, dataclasses.replace(gone, present=False))
        if gone.provider_id is not None and standing.get(gone.provider_id, Standing()).inventories:
            own_providers.set_inventories(tx, gone.provider_id, {}, now=now)


def _damaged(tx: sa.Connection, report: HostReport, known: Set[PciAddress]) -> set[PciAddress]:
    """Those of the GPUs which are recorded, and cannot be read."""
    strange = [gpu.gpu.address for gpu in report.gpus if gpu.gpu.address not in known]
    if not strange:
        return set()
    taken = hosts.gpu_keys(tx, report.host)
    return {address for address in strange if {str(address), ids.gpu_provider_id(report.host, address)} & taken}


def _is_followed(gpu: GpuRecord, layouts: Mapping[str, Layout], standing: Mapping[str, Standing]) -> bool:
    """Whether the GPU's provider has what `follow_layout` would give it. Who changes the layout sees to that himself."""
    if gpu.provider_id is None:
        return True
    layout, has = layouts[gpu.provider_id], standing.get(gpu.provider_id)
    inventory = capacity.gpu_inventory(gpu.gpu, layout)
    return (
        has is not None
        and has.inventories == ({gpu.gpu.resource_class: inventory} if inventory else {})
        and has.traits & capacity.all_type_traits(gpu.gpu) == capacity.gpu_traits(gpu.gpu, layout)
    )


def _follow(tx: sa.Connection, root_id: str, new: GpuRecord, old: GpuRecord | None, now: float) -> None:
    """Write a GPU down, and let its provider follow."""
    if new.provider_id is None and old is not None and old.provider_id is not None:
        # what stands there still has to be paid for; the provider goes once nothing is allocated on it
        hosts.put_gpu(tx, new)
        if not own_providers.remove_if_unused(tx, old.provider_id):
            new = dataclasses.replace(new, provider_id=old.provider_id)
    if new.provider_id is not None:
        if new.gpu.resource_class != resources.VGPU:
            RESOURCE_CLASSES.ensure(tx, new.gpu.resource_class)
        own_providers.ensure(tx, new.provider_id, f"{new.host}_{new.address.node_device}", parent_id=root_id, now=now)
    if new != old:
        hosts.put_gpu(tx, new)
    follow_layout(tx, new, now)


def _gpu_record(host: str, report: GpuReport, before: GpuRecord | None) -> GpuRecord:
    # an idle card tells of all its types, and what it tells of no longer it has no longer
    gpu = report.gpu.remembering(before.gpu) if before is not None and report.vgpus else report.gpu
    foreign = tuple(v for v in report.vgpus if not v.ours)
    return _with_types(host, gpu, foreign, before.chosen_types if before is not None else None)


def _with_types(host: str, gpu: Gpu, foreign: tuple[VgpuReport, ...], chosen: tuple[str, ...] | None) -> GpuRecord:
    """The record of a GPU on which the chosen types are enabled, or those that its host enables."""
    if chosen is not None:
        gpu = dataclasses.replace(gpu, enabled_types=tuple(name for name in chosen if any(t.name == name for t in gpu.types)))
    provider_id = ids.gpu_provider_id(host, gpu.address) if gpu.enabled_types else None
    return GpuRecord(host, gpu.address, provider_id, gpu, foreign, present=True, chosen_types=chosen)


def choose_types(tx: sa.Connection, host: str, address: PciAddress, words: Sequence[str] | None, now: float) -> None:
    """Let an operator say which types of a GPU may be made, in the order of preference, whatever its host's settings say.

    What stands already stays as it is. None gives the choice back to the host, and is in force with its next report.
    Raises `NotFound`, `CorruptRecord`, and `BadRequest` for a type that the GPU does not have.
    """
    root_id = hosts.get_host(tx, host).provider_id
    old = hosts.gpu_at(tx, host, address)
    if words is None:
        hosts.put_gpu(tx, dataclasses.replace(old, chosen_types=None))
        return
    new = _with_types(host, old.gpu, old.foreign, tuple(dict.fromkeys(_type_called(old.gpu, word) for word in words)))
    if old.present:
        _follow(tx, root_id, new, old, now)
    else:
        hosts.put_gpu(tx, dataclasses.replace(new, provider_id=old.provider_id, present=False))


def _type_called(gpu: Gpu, word: str) -> str:
    found = next((t for t in gpu.types if t.called(word)), None)
    if found is None:
        raise BadRequest(f"GPU {gpu.address} has no vGPU type {word[:100]!r}; it has {', '.join(t.name for t in gpu.types)}.")
    if not partitioners.can_be_made(gpu, found):
        raise BadRequest(f"GPU {gpu.address} is cut {gpu.partitioning}, in which {found.name} cannot be made.")
    return found.name
