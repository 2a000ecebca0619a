"""Limits, quotas, zones and other small answers about the cloud as a whole."""

from __future__ import annotations

from typing import Any

from lamina.api.compute.answers import precise_moment
from lamina.api.compute.server_requests import MOST_METADATA
from lamina.api.routing import ADMIN, READER, Reply, Request, Route, Version
from lamina.model.errors import Forbidden
from lamina.store import hosts, servers

UNLIMITED = -1
QUOTAS = ("cores", "instances", "key_pairs", "metadata_items", "ram", "server_group_members", "server_groups")
#: what quotas and limits had until the version at which they lost it
WITHOUT_NETWORKS = Version(2, 36)
WITHOUT_IMAGE_METADATA = Version(2, 39)
WITHOUT_PERSONALITY = Version(2, 57)
QUOTAS_OF_OLD: dict[Version, tuple[str, ...]] = {
    WITHOUT_NETWORKS: ("fixed_ips", "floating_ips", "networks", "security_group_rules", "security_groups"),
    WITHOUT_PERSONALITY: ("injected_file_content_bytes", "injected_file_path_bytes", "injected_files"),
}


def _project(request: Request, asked: str | None) -> str:
    """The project asked about; another's only by an administrator. Raises `Forbidden`."""
    own = request.context.project_id or ""
    if asked is not None and asked != own and not request.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:limits:other_project to be performed.")
    return asked or own


def limits(request: Request) -> Reply:
    project_id = _project(request, request.value("tenant_id"))
    with request.plane.db.read() as tx:
        count, vcpus, memory_mb = servers.usage_of_project(tx, project_id)
    absolute: dict[str, int] = {
        "maxTotalInstances": UNLIMITED,
        "maxTotalCores": UNLIMITED,
        "maxTotalRAMSize": UNLIMITED,
        "maxTotalKeypairs": UNLIMITED,
        "maxServerMeta": MOST_METADATA,
        "maxServerGroups": 0,
        "maxServerGroupMembers": 0,
        "totalInstancesUsed": count,
        "totalCoresUsed": vcpus,
        "totalRAMUsed": memory_mb,
        "totalServerGroupsUsed": 0,
    }
    if request.version < WITHOUT_NETWORKS:
        absolute |= {"maxTotalFloatingIps": 0, "totalFloatingIpsUsed": 0, "maxSecurityGroups": 1, "maxSecurityGroupRules": 0}
        absolute |= {"totalSecurityGroupsUsed": 1}
    if request.version < WITHOUT_IMAGE_METADATA:
        absolute |= {"maxImageMeta": MOST_METADATA}
    if request.version < WITHOUT_PERSONALITY:
        absolute |= {"maxPersonality": 0, "maxPersonalitySize": 0}
    return Reply(200, {"limits": {"rate": [], "absolute": absolute}})


def _quotas(request: Request) -> tuple[str, ...]:
    return (*QUOTAS, *(name for lost, names in QUOTAS_OF_OLD.items() if request.version < lost for name in names))


def quota(request: Request) -> Reply:
    project_id = _project(request, request.path["project"])
    return Reply(200, {"quota_set": {"id": project_id} | dict.fromkeys(_quotas(request), UNLIMITED)})


def quota_detail(request: Request) -> Reply:
    project_id = _project(request, request.path["project"])
    with request.plane.db.read() as tx:
        count, vcpus, memory_mb = servers.usage_of_project(tx, project_id)
    used = dict.fromkeys(_quotas(request), 0) | {"instances": count, "cores": vcpus, "ram": memory_mb}
    shown = {name: {"limit": UNLIMITED, "in_use": amount, "reserved": 0} for name, amount in used.items()}
    return Reply(200, {"quota_set": {"id": project_id} | shown})


def _zones(request: Request, *, detailed: bool) -> list[dict[str, Any]]:
    now, service_down = request.plane.clock.now(), request.plane.settings.service_down
    with request.plane.db.read() as tx:
        known = hosts.all_hosts(tx)
    zones: list[dict[str, Any]] = []
    for name in sorted({h.zone for h in known}):
        members = [h for h in known if h.zone == name]
        services = {
            h.name: {
                "nova-compute": {
                    "active": h.enabled,
                    "available": h.is_up(now, service_down),
                    "updated_at": precise_moment(h.last_seen_at),
                }
            }
            for h in members
        }
        up = any(h.enabled and h.is_up(now, service_down) for h in members)
        zones.append({"zoneName": name, "zoneState": {"available": up}, "hosts": services if detailed else None})
    return zones


def zones(request: Request) -> Reply:
    return Reply(200, {"availabilityZoneInfo": _zones(request, detailed=False)})


def zones_detail(request: Request) -> Reply:
    return Reply(200, {"availabilityZoneInfo": _zones(request, detailed=True)})


def no_aggregates(_request: Request) -> Reply:
    return Reply(200, {"aggregates": []})


def no_server_groups(_request: Request) -> Reply:
    return Reply(200, {"server_groups": []})


def extensions(_request: Request) -> Reply:
    return Reply(200, {"extensions": []})


ROUTES = (
    Route("GET", "/limits", limits, "os_compute_api:limits", READER),
    Route("GET", "/os-quota-sets/{project}", quota, "os_compute_api:os-quota-sets:show", READER),
    Route("GET", "/os-quota-sets/{project}/defaults", quota, "os_compute_api:os-quota-sets:defaults", READER),
    Route("GET", "/os-quota-sets/{project}/detail", quota_detail, "os_compute_api:os-quota-sets:detail", READER),
    Route("GET", "/os-availability-zone", zones, "os_compute_api:os-availability-zone:list", READER),
    Route("GET", "/os-availability-zone/detail", zones_detail, "os_compute_api:os-availability-zone:detail", ADMIN),
    Route("GET", "/os-aggregates", no_aggregates, "os_compute_api:os-aggregates:index", ADMIN),
    Route("GET", "/os-server-groups", no_server_groups, "os_compute_api:os-server-groups:index", READER),
    Route("GET", "/extensions", extensions, "os_compute_api:extensions", READER),
)
