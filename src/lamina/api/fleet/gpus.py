"""GPUs with their layout: what stands on each, and how many more of each type fit."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lamina.api.routing import Reply, Request
from lamina.model import capacity, partitioners
from lamina.store import hosts
from lamina.store.hosts import GpuRecord, Vgpu


def index(request: Request) -> Reply:
    """Every GPU, or those of ``?host=NAME``."""
    with request.plane.db.read() as tx:
        records = hosts.gpus_of(tx, request.value("host"))
        by_gpu: dict[tuple[str, str], list[Vgpu]] = {}
        for vgpu in hosts.select_vgpus(tx):
            by_gpu.setdefault((vgpu.host, str(vgpu.address)), []).append(vgpu)
        views = [_view(tx, record, by_gpu.get((record.host, str(record.address)), [])) for record in records]
    return Reply(200, {"gpus": views})


def _view(tx: sa.Connection, record: GpuRecord, vgpus: list[Vgpu]) -> dict[str, Any]:
    gpu = record.gpu
    layout = hosts.layout(tx, record)
    inventory = capacity.gpu_inventory(gpu, layout)
    sizes = {t.name: t.framebuffer_mb for t in gpu.types}
    return {
        "host": record.host,
        "address": str(record.address),
        "model": gpu.model,
        "framework": str(gpu.framework),
        "partitioning": str(gpu.partitioning),
        "framebuffer_mb": gpu.framebuffer_mb,
        "virtual_functions": gpu.virtual_functions,
        "numa_node": gpu.numa_node,
        "driver": gpu.driver,
        "driver_version": gpu.driver_version,
        "ecc": gpu.ecc,
        "mig": gpu.mig,
        "present": record.present,
        "provider_id": record.provider_id,
        "resource_class": gpu.resource_class,
        "max_instances": gpu.max_instances,
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
            }
            for t in gpu.types
        ],
        "vgpus": [
            {"uuid": v.uuid, "type": v.type, "framebuffer_mb": sizes.get(v.type), "server_id": v.server_id, "state": str(v.state)}
            for v in vgpus
        ]
        + [
            {"uuid": v.uuid, "type": v.type, "framebuffer_mb": sizes.get(v.type or ""), "server_id": None, "state": "foreign"}
            for v in record.foreign
        ],
    }
