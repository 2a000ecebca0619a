"""vGPUs: every device there is or shall be, the records held against what the hosts say now."""

from __future__ import annotations

from typing import Any

import structlog

from lamina.api.routing import Reply, Request
from lamina.model.errors import HostError
from lamina.model.gpus import VgpuState
from lamina.model.hosts import VgpuReport
from lamina.store import hosts

log = structlog.get_logger()


def index(request: Request) -> Reply:
    """Every vGPU, or those of ``?host=NAME``. A recorded one shows in ``on_host`` whether the host has it (None: no answer)."""
    wanted = request.value("host")
    seen: dict[str, dict[str, VgpuReport]] = {}
    for name in request.plane.hosts.names():
        if wanted in (None, name):
            try:
                report = request.plane.hosts.of(name).report()
            except HostError as error:
                log.info("host left out of the list of vGPUs", host=name, why=error.message)
                continue
            seen[name] = {v.uuid: v for g in report.gpus for v in g.vgpus}
    # read after the reports, so that what has just been made is not taken for an orphan
    with request.plane.db.read() as tx:
        records = [v for v in hosts.readable_vgpus(tx) if wanted in (None, v.host)]
    views: list[dict[str, Any]] = []
    for record in records:
        there = seen.get(record.host)
        views.append(
            {
                "uuid": record.uuid,
                "type": record.type,
                "host": record.host,
                "gpu": str(record.address),
                "parent": str(record.parent) if record.parent else None,
                "placement": record.placement,
                "server_id": record.server_id,
                "state": str(record.state),
                "operation_id": record.operation_id,
                "on_host": None if there is None else record.uuid in there,
            }
        )
    recorded = {record.uuid for record in records}
    for name, devices in sorted(seen.items()):
        for device in devices.values():
            if device.uuid not in recorded:
                state = VgpuState.ORPHAN if device.ours else VgpuState.FOREIGN
                views.append(
                    {
                        "uuid": device.uuid,
                        "type": device.type,
                        "host": name,
                        "gpu": str(device.gpu),
                        "parent": str(device.parent),
                        "placement": device.placement,
                        "server_id": device.server_id,
                        "state": str(state),
                        "operation_id": None,
                        "on_host": True,
                    }
                )
    return Reply(200, {"vgpus": views})
