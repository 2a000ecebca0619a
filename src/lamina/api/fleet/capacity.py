"""How many more vGPUs of each type can be made, now and were each GPU repacked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lamina.api.routing import Reply, Request
from lamina.model import capacity
from lamina.model.capacity import Room
from lamina.store import hosts


def show(request: Request) -> Reply:
    """Per GPU, host and fleet; each type as if no other were made. The fleet counts hosts that are up and enabled."""
    plane = request.plane
    with plane.db.read() as tx:
        known, records = hosts.all_hosts(tx), [record for record in hosts.gpus_of(tx) if record.present]
        layouts = hosts.layouts(tx, records)
    rooms: dict[str, list[tuple[str, tuple[Room, ...]]]] = {host.name: [] for host in known}
    for record in records:
        each = capacity.rooms(record.gpu, layouts[record.provider_id]) if record.provider_id is not None else ()
        rooms[record.host].append((str(record.address), each))
    now = plane.clock.now()
    views: list[dict[str, Any]] = []
    usable: list[Room] = []
    for host in known:
        open_to_servers = host.enabled and host.is_up(now, plane.settings.service_down)
        total = capacity.total(room for _, each in rooms[host.name] for room in each)
        usable += total if open_to_servers else ()
        gpus = [{"address": address, "types": _types(each)} for address, each in rooms[host.name]]
        views.append({"host": host.name, "usable": open_to_servers, "types": _types(total), "gpus": gpus})
    return Reply(200, {"capacity": {"types": _types(capacity.total(usable)), "hosts": views}})


def _types(rooms: Iterable[Room]) -> list[dict[str, Any]]:
    return [{"name": room.type, "now": room.now, "repacked": room.repacked} for room in rooms]
