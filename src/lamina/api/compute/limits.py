"""Limits, quotas and other small answers about the cloud as a whole."""

from __future__ import annotations

from lamina.api.compute.server_requests import MOST_METADATA
from lamina.api.routing import READER, Reply, Request, Route, Version
from lamina.model.errors import Forbidden
from lamina.store import server_groups, servers

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
        groups = server_groups.count(tx, project_id)
    absolute: dict[str, int] = {
        "maxTotalInstances": UNLIMITED,
        "maxTotalCores": UNLIMITED,
        "maxTotalRAMSize": UNLIMITED,
        "maxTotalKeypairs": UNLIMITED,
        "maxServerMeta": MOST_METADATA,
        "maxServerGroups": UNLIMITED,
        "maxServerGroupMembers": UNLIMITED,
        "totalInstancesUsed": count,
        "totalCoresUsed": vcpus,
        "totalRAMUsed": memory_mb,
        "totalServerGroupsUsed": groups,
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
        groups = server_groups.count(tx, project_id)
    used = dict.fromkeys(_quotas(request), 0) | {"instances": count, "cores": vcpus, "ram": memory_mb, "server_groups": groups}
    shown = {name: {"limit": UNLIMITED, "in_use": amount, "reserved": 0} for name, amount in used.items()}
    return Reply(200, {"quota_set": {"id": project_id} | shown})


def extensions(_request: Request) -> Reply:
    return Reply(200, {"extensions": []})


ROUTES = (
    Route("GET", "/limits", limits, "os_compute_api:limits", READER, query=("tenant_id",)),
    Route("GET", "/os-quota-sets/{project}", quota, "os_compute_api:os-quota-sets:show", READER),
    Route("GET", "/os-quota-sets/{project}/defaults", quota, "os_compute_api:os-quota-sets:defaults", READER),
    Route("GET", "/os-quota-sets/{project}/detail", quota_detail, "os_compute_api:os-quota-sets:detail", READER),
    Route("GET", "/extensions", extensions, "os_compute_api:extensions", READER),
)
