"""GPUs with their layout: what stands on each, how many more of each type fit, and which types may be made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import structlog

from lamina.api.routing import Reply, Request
from lamina.model import capacity, partitioners
from lamina.model.errors import HostError
from lamina.model.ids import PciAddress
from lamina.operations import discovery, reconcile
from lamina.store import hosts
from lamina.store.hosts import GpuRecord, Vgpu

log = structlog.get_logger()


class Change(msgspec.Struct, forbid_unknown_fields=True):
    #: names or ids, in the order of preference; None for what the host's own settings say
    enabled_types: Annotated[list[str], msgspec.Meta(max_length=256)] | None


def index(request: Request) -> Reply:
    """Every GPU, or those of ``?host=NAME``."""
    with request.plane.db.read() as tx:
        return Reply(200, {"gpus": _views(tx, hosts.gpus_of(tx, request.value("host")))})


def update(request: Request) -> Reply:
    """Choose the types that may be made on a GPU; nothing is restarted, and what stands there stays."""
    plane, name, address = request.plane, request.path["host"], PciAddress.parse(request.path["address"])
    said = request.json(Change)
    with plane.db.write() as tx:
        discovery.choose_types(tx, name, address, said.enabled_types, plane.clock.now())
    if said.enabled_types is None:
        try:
            reconcile.host(plane, name)
        except HostError as error:
            log.info("the host's own choice of types follows with its next report", host=name, why=error.message)
    with plane.db.read() as tx:
        (view,) = _views(tx, [hosts.gpu_at(tx, name, address)])
    return Reply(200, {"gpu": view})


def _views(tx: sa.Connection, records: list[GpuRecord]) -> list[dict[str, Any]]:
    by_gpu: dict[tuple[str, PciAddress], list[Vgpu]] = {}
    for vgpu in hosts.readable_vgpus(tx):
        by_gpu.setdefault((vgpu.host, vgpu.address), []).append(vgpu)
    return [_view(record, by_gpu.get((record.host, record.address), [])) for record in records]


def _view(record: GpuRecord, vgpus: list[Vgpu]) -> dict[str, Any]:
    gpu = record.gpu
    layout = hosts.layout_of(record, [(v.type, v.placement) for v in vgpus])
    inventory = capacity.gpu_inventory(gpu, layout)
    sizes = {t.name: t.framebuffer_mb for t in gpu.types}
    return {
        "host": record.host,
        "address": str(record.address),
        "model": gpu.model,
        "framework": str(gpu.framework),
        "partitioning": str(gpu.partitioning),
        "framebuffer_mb": gpu.framebuffer_mb,
        "slots": partitioners.slots(gpu),
        "virtual_functions": gpu.virtual_functions,
        "numa_node": gpu.numa_node,
        "driver": gpu.driver,
        "driver_version": gpu.driver_version,
        "ecc": gpu.ecc,
        "mig": gpu.mig,
        "mixed": gpu.mixed,
        "present": record.present,
        "provider_id": record.provider_id,
        "resource_class": gpu.resource_class,
        "max_instances": gpu.max_instances,
        "chosen_types": list(record.chosen_types) if record.chosen_types is not None else None,
        "total": inventory.total if inventory else 0,
        "used": len(layout.ours),
        "foreign": len(layout.foreign),
        "types": [
            {
                "name": t.name,
                "framebuffer_mb": t.framebuffer_mb,
                "max_instances": t.max_instances,
                "enabled": t.name in gpu.enabled_types,
                "room": partitioners.room(gpu, layout, t),
                "room_repacked": partitioners.room_repacked(gpu, layout, t),
                "placements": list(partitioners.placements(gpu, layout, t)),
            }
            for t in gpu.types
        ],
        "vgpus": [_vgpu(v.uuid, v.type, sizes, v.server_id, str(v.state), v.placement) for v in vgpus]
        + [_vgpu(v.uuid, v.type, sizes, None, "foreign", v.placement) for v in record.foreign],
    }


def _vgpu(
    uuid: str, type_name: str | None, sizes: Mapping[str, int], server_id: str | None, state: str, placement: int | None
) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "type": type_name,
        "framebuffer_mb": sizes.get(type_name or ""),
        "server_id": server_id,
        "state": state,
        "placement": placement,
    }
