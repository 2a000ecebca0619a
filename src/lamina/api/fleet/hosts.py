"""Hosts: what each machine has, and whether it answers."""

from __future__ import annotations

from typing import Any

from lamina.api.routing import Reply, Request
from lamina.operations import enrolment, reconcile
from lamina.store import hosts, servers


def _view(request: Request, host: hosts.Host, gpus: int, placed: int) -> dict[str, Any]:
    up = host.is_up(request.plane.clock.now(), request.plane.settings.service_down)
    return {
        "name": host.name,
        "id": host.id,
        "provider_id": host.provider_id,
        "state": "up" if up else "down",
        "status": "enabled" if host.enabled else "disabled",
        "zone": host.zone,
        "boot_id": host.boot_id,
        "vcpus": host.vcpus,
        "memory_mb": host.memory_mb,
        "disk_gb": host.disk_gb,
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "networks": host.networks,
        "gpus": gpus,
        "servers": placed,
        "problems": host.problems,
        "last_seen_at": host.last_seen_at,
    }


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        known, gpus, placed = hosts.all_hosts(tx), hosts.gpus_of(tx), servers.count_by_host(tx)
    count: dict[str, int] = {}
    for gpu in gpus:
        count[gpu.host] = count.get(gpu.host, 0) + 1
    return Reply(200, {"hosts": [_view(request, h, count.get(h.name, 0), placed.get(h.name, 0)) for h in known]})


def show(request: Request) -> Reply:
    name = request.path["host"]
    with request.plane.db.read() as tx:
        host, gpus, placed = hosts.get_host(tx, name), hosts.gpus_of(tx, name), servers.count_by_host(tx)
    return Reply(200, {"host": _view(request, host, len(gpus), placed.get(name, 0))})


def reboot(request: Request) -> Reply:
    """Reboot a simulated machine, and take its report in once it is back."""
    name = request.path["host"]
    with request.plane.db.read() as tx:
        hosts.get_host(tx, name)
    request.plane.hosts.reboot(name)
    repairs = reconcile.host(request.plane, name)
    return Reply(202, {"host": name, "repairs": [{"server_id": r.server_id, "why": r.why} for r in repairs]})


def remove(request: Request) -> Reply:
    """Make a machine that dials in none of our hosts any more."""
    enrolment.remove(request.plane, request.path["host"])
    return Reply(204)
