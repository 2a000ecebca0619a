"""Hypervisors: every host is one, of its own name (Compute API reference, "Hypervisors")."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lamina.api.compute.answers import as_bool, next_link, number_of, page_limit
from lamina.api.routing import ADMIN, Reply, Request, Route, Version
from lamina.model import ids, resources
from lamina.model.errors import BadRequest, NotFound
from lamina.store import hosts, providers, servers
from lamina.store.hosts import Host

PAGES = Version(2, 33)
BY_UUID = Version(2, 53)
SERVERS_ALWAYS = Version(2, 75)
CPU_AS_OBJECT = Version(2, 28)
WITHOUT_FIGURES = Version(2, 88)


def _brief(request: Request, host: Host) -> dict[str, Any]:
    up = host.is_up(request.plane.clock.now(), request.plane.settings.service_down)
    return {
        "id": host.id if request.version >= BY_UUID else number_of(host.id),
        "hypervisor_hostname": host.name,
        "state": "up" if up else "down",
        "status": "enabled" if host.enabled else "disabled",
    }


def _view(request: Request, host: Host, used: dict[str, int], placed: int) -> dict[str, Any]:
    shown = _brief(request, host) | {
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "host_ip": "127.0.0.1" if host.hypervisor_type == "simulated" else host.name,
        "service": {
            "host": host.name,
            "id": host.service_id if request.version >= BY_UUID else number_of(host.service_id),
            "disabled_reason": host.disabled_reason,
        },
    }
    if request.version >= WITHOUT_FIGURES:
        return shown | {"uptime": None}
    return shown | {"cpu_info": {} if request.version >= CPU_AS_OBJECT else "{}"} | _figures(host, used, placed)


def _figures(host: Host, used: dict[str, int], placed: int) -> dict[str, int]:
    memory, disk = used.get(resources.MEMORY_MB, 0), used.get(resources.DISK_GB, 0)
    return {
        "vcpus": host.vcpus,
        "vcpus_used": used.get(resources.VCPU, 0),
        "memory_mb": host.memory_mb,
        "memory_mb_used": memory,
        "free_ram_mb": host.memory_mb - memory,
        "local_gb": host.disk_gb,
        "local_gb_used": disk,
        "free_disk_gb": host.disk_gb - disk,
        "disk_available_least": host.disk_gb - disk,
        "running_vms": placed,
        "current_workload": 0,
    }


def _used(tx: sa.Connection, found: list[Host]) -> dict[str, dict[str, int]]:
    """Host's root provider -> class -> amount used."""
    roots = [h.provider_id for h in found]
    return {tree.root.id: dict(tree.root.used) for tree in providers.load_trees(tx, roots)}


def _page(tx: sa.Connection, request: Request) -> tuple[list[Host], int]:
    found = hosts.all_hosts(tx)
    pattern = request.value("hypervisor_hostname_pattern")
    if pattern is not None and request.version >= BY_UUID:
        found = [h for h in found if pattern in h.name]
        if not found:
            raise NotFound(f"No hypervisor matching '{pattern[:80]}' could be found.")
    if request.version < PAGES:
        return found, len(found)
    limit, marker = page_limit(request), request.value("marker")
    if pattern is not None and marker is not None:
        raise BadRequest("marker: hypervisors found by hypervisor_hostname_pattern come in one page")
    if marker is not None:
        order = [str(_brief(request, h)["id"]) for h in found]
        if marker not in order:
            raise BadRequest(f"marker [{marker[:80]}] not found")
        found = found[order.index(marker) + 1 :]
    return found[:limit], limit


def _more(request: Request, path: str, found: list[Host], limit: int) -> dict[str, Any]:
    if request.version < PAGES:
        return {}
    more = next_link(request, path, found, limit, str(_brief(request, found[-1])["id"]) if found else "")
    return {"hypervisors_links": more["links"]} if more else {}


def _with_servers(tx: sa.Connection, request: Request, host: Host) -> dict[str, Any]:
    if request.version < BY_UUID or not as_bool(request.value("with_servers") or "false", "with_servers"):
        return {}
    placed = servers.readable_on(tx, host.name)
    shown = [{"name": f"lamina-{s.id}", "uuid": s.id} for s in placed]
    return {"servers": shown} if shown or request.version >= SERVERS_ALWAYS else {}


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        found, limit = _page(tx, request)
        shown = [_brief(request, h) | _with_servers(tx, request, h) for h in found]
    return Reply(200, {"hypervisors": shown} | _more(request, "/os-hypervisors", found, limit))


def detail(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        found, limit = _page(tx, request)
        used, placed = _used(tx, found), servers.count_by_host(tx)
        shown = [
            _view(request, h, used.get(h.provider_id, {}), placed.get(h.name, 0)) | _with_servers(tx, request, h) for h in found
        ]
    return Reply(200, {"hypervisors": shown} | _more(request, "/os-hypervisors/detail", found, limit))


def _find(tx: sa.Connection, request: Request) -> Host:
    wanted = request.path["hypervisor"]
    if request.version >= BY_UUID:
        wanted = ids.parse_uuid(wanted, "hypervisor_id")
        found = hosts.host_of_id(tx, wanted)
        if found is not None and found.id == wanted:
            return found
    for host in hosts.all_hosts(tx) if request.version < BY_UUID else ():
        if wanted == str(number_of(host.id)):
            return host
    raise NotFound(f"Hypervisor with ID '{wanted[:80]}' could not be found.")


def show(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        host = _find(tx, request)
        used, placed = _used(tx, [host]), servers.count_by_host(tx)
        shown = _view(request, host, used.get(host.provider_id, {}), placed.get(host.name, 0)) | _with_servers(tx, request, host)
    return Reply(200, {"hypervisor": shown})


def uptime(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        host = _find(tx, request)
    return Reply(200, {"hypervisor": _brief(request, host) | {"uptime": None}})


def search(request: Request) -> Reply:
    pattern = request.path["pattern"]
    with request.plane.db.read() as tx:
        found = [h for h in hosts.all_hosts(tx) if pattern in h.name]
    if not found:
        raise NotFound(f"No hypervisor matching '{pattern[:80]}' could be found.")
    return Reply(200, {"hypervisors": [_brief(request, h) for h in found]})


def statistics(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        found = [h for h in hosts.all_hosts(tx) if h.enabled]
        used, placed = _used(tx, found), servers.count_by_host(tx)
    sums: dict[str, int] = {"count": len(found)}
    for host in found:
        for name, amount in _figures(host, used.get(host.provider_id, {}), placed.get(host.name, 0)).items():
            sums[name] = sums.get(name, 0) + amount
    return Reply(200, {"hypervisor_statistics": sums})


RULE = "os_compute_api:os-hypervisors"
_QUERY = ("hypervisor_hostname_pattern", "limit", "marker", "with_servers")
ROUTES = (
    Route("GET", "/os-hypervisors", index, f"{RULE}:list", ADMIN, refuses=(404,), query=_QUERY),
    Route("GET", "/os-hypervisors/detail", detail, f"{RULE}:list-detail", ADMIN, refuses=(404,), query=_QUERY),
    Route("GET", "/os-hypervisors/statistics", statistics, f"{RULE}:statistics", ADMIN, until=Version(2, 87)),
    Route("GET", "/os-hypervisors/{hypervisor}", show, f"{RULE}:show", ADMIN, query=("with_servers",)),
    Route("GET", "/os-hypervisors/{hypervisor}/uptime", uptime, f"{RULE}:uptime", ADMIN, until=Version(2, 87)),
    Route("GET", "/os-hypervisors/{pattern}/search", search, f"{RULE}:search", ADMIN, until=Version(2, 52)),
)
