"""Availability zones: what aggregates make of hosts, and the control plane's own (Compute API reference, "Availability zones")."""

from __future__ import annotations

import socket
from typing import Any

from lamina.api.compute.answers import precise_moment
from lamina.api.compute.services import CONTROL_PLANE, INTERNAL_ZONE
from lamina.api.routing import ADMIN, READER, Reply, Request, Route
from lamina.store import hosts
from lamina.store.hosts import Host


def _zones(request: Request, *, detailed: bool) -> list[dict[str, Any]]:
    now, service_down = request.plane.clock.now(), request.plane.settings.service_down
    with request.plane.db.read() as tx:
        known = hosts.all_hosts(tx)
    zones: list[dict[str, Any]] = []
    for name in sorted({h.zone for h in known}):
        members = [h for h in known if h.zone == name]
        up = any(h.enabled and h.is_up(now, service_down) for h in members)
        services = {h.name: {"nova-compute": _service(h, now, service_down)} for h in members}
        zones.append({"zoneName": name, "zoneState": {"available": up}, "hosts": services if detailed else None})
    return zones


def _service(host: Host, now: float, service_down: float) -> dict[str, Any]:
    return {"active": host.enabled, "available": host.is_up(now, service_down), "updated_at": precise_moment(host.last_seen_at)}


def index(request: Request) -> Reply:
    return Reply(200, {"availabilityZoneInfo": _zones(request, detailed=False)})


def detail(request: Request) -> Reply:
    """With the zone of the control plane, in which no server can be."""
    own = {"active": True, "available": True, "updated_at": precise_moment(request.plane.clock.now())}
    internal = {
        "zoneName": INTERNAL_ZONE,
        "zoneState": {"available": True},
        "hosts": {socket.gethostname(): dict.fromkeys(CONTROL_PLANE, own)},
    }
    return Reply(200, {"availabilityZoneInfo": [internal, *_zones(request, detailed=True)]})


RULE = "os_compute_api:os-availability-zone"
ROUTES = (
    Route("GET", "/os-availability-zone", index, f"{RULE}:list", READER),
    Route("GET", "/os-availability-zone/detail", detail, f"{RULE}:detail", ADMIN),
)
