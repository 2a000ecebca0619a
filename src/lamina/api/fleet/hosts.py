"""Hosts: what each machine has, and whether it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamina.api.routing import Reply, Request
from lamina.model.driver_advisories import Advisory, driver_of
from lamina.model.repairs import What
from lamina.operations import enrolment, reconcile
from lamina.store import hosts, reading, servers

#: what is wrong with a host that was told things of which the database knows nothing
BEHIND = (
    "it knows of operations that the database does not: an older copy was put back, or it was another Lamina's host; nothing that seems "
    "to be left over is removed there until 'lamina doctor --repair --trust-records' says that the records are true"
)


def _view(request: Request, host: hosts.Host, records: Sequence[hosts.GpuRecord], placed: int) -> dict[str, Any]:
    trust, gpus = request.plane.settings.driver_trust, [record.gpu for record in records if record.present]
    driver, against = driver_of(gpus), trust.problem(gpus)
    wrong = [*host.problems, *([against] if against is not None else ()), *([BEHIND] if host.behind else ())]
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
        "libvirt_version": host.libvirt_version,
        "driver": driver,
        "advisories": [_advisory(advisory) for advisory in trust.against(driver)],
        "gpus": len(records),
        "servers": placed,
        "problems": wrong,
        "last_seen_at": host.last_seen_at,
    }


def _advisory(advisory: Advisory) -> dict[str, Any]:
    """``fixed_in`` is None where NVIDIA names no version of the branch that has the update."""
    return {
        "bulletin": advisory.bulletin,
        "cves": list(advisory.cves),
        "severity": advisory.severity,
        "date": advisory.date,
        "fixed_in": str(advisory.fixed_in) if advisory.fixed_in is not None else None,
    }


def index(request: Request) -> Reply:
    """All hosts but those whose record is damaged; ``damaged`` names every record that was passed over since this process began."""
    with request.plane.db.read() as tx:
        known, gpus, placed = hosts.all_hosts(tx), hosts.gpus_of(tx), servers.count_by_host(tx)
    of_host: dict[str, list[hosts.GpuRecord]] = {}
    for gpu in gpus:
        of_host.setdefault(gpu.host, []).append(gpu)
    views = [_view(request, h, of_host.get(h.name, ()), placed.get(h.name, 0)) for h in known]
    return Reply(200, {"hosts": views, "damaged": reading.passed_over()})


def show(request: Request) -> Reply:
    name = request.path["host"]
    with request.plane.db.read() as tx:
        host, gpus, placed = hosts.get_host(tx, name), hosts.gpus_of(tx, name), servers.count_by_host(tx)
    return Reply(200, {"host": _view(request, host, gpus, placed.get(name, 0))})


def reboot(request: Request) -> Reply:
    """Reboot a simulated machine, and take its report in once it is back."""
    name = request.path["host"]
    with request.plane.db.read() as tx:
        hosts.get_host(tx, name)
    request.plane.hosts.reboot(name)
    found = reconcile.host(request.plane, name).repairs
    begun = [{"server_id": r.server_id, "why": r.why} for r in found if r.what is What.RESTORE]
    return Reply(202, {"host": name, "repairs": begun})


def remove(request: Request) -> Reply:
    """Make a machine that dials in none of our hosts any more."""
    enrolment.remove(request.plane, request.path["host"])
    return Reply(204)
