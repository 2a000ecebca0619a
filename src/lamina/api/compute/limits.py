"""The limits of a project as every client asks for them, and other small answers about the cloud as a whole."""

from __future__ import annotations

from lamina.api.compute.quota_sets import WITHOUT_IMAGE_METADATA, WITHOUT_NETWORKS, WITHOUT_PERSONALITY, project_asked_about
from lamina.api.compute.server_requests import MOST_METADATA
from lamina.api.routing import READER, Reply, Request, Route
from lamina.model.limits import CORES, GROUPS, KEY_PAIRS, MEMBERS, MEMORY, SERVERS
from lamina.store import quotas

#: the API's names of limits, and of what is used -> resources
_MOST = {
    "maxTotalInstances": SERVERS,
    "maxTotalCores": CORES,
    "maxTotalRAMSize": MEMORY,
    "maxTotalKeypairs": KEY_PAIRS,
    "maxServerGroups": GROUPS,
    "maxServerGroupMembers": MEMBERS,
}
_USED = {"totalInstancesUsed": SERVERS, "totalCoresUsed": CORES, "totalRAMUsed": MEMORY, "totalServerGroupsUsed": GROUPS}


def limits(request: Request) -> Reply:
    project_id = project_asked_about(request, request.value("tenant_id"))
    with request.plane.db.read() as tx:
        of = quotas.standings(tx, quotas.Owner(project_id))
    absolute = {name: of[key].limit for name, key in _MOST.items()} | {name: of[key].used.project for name, key in _USED.items()}
    absolute["maxServerMeta"] = MOST_METADATA
    if request.version < WITHOUT_NETWORKS:
        absolute |= {"maxTotalFloatingIps": 0, "totalFloatingIpsUsed": 0, "maxSecurityGroups": 1, "maxSecurityGroupRules": 0}
        absolute |= {"totalSecurityGroupsUsed": 1}
    if request.version < WITHOUT_IMAGE_METADATA:
        absolute |= {"maxImageMeta": MOST_METADATA}
    if request.version < WITHOUT_PERSONALITY:
        absolute |= {"maxPersonality": 0, "maxPersonalitySize": 0}
    return Reply(200, {"limits": {"rate": [], "absolute": absolute}})


def extensions(_request: Request) -> Reply:
    return Reply(200, {"extensions": []})


ROUTES = (
    Route("GET", "/limits", limits, "os_compute_api:limits", READER, query=("tenant_id",)),
    Route("GET", "/extensions", extensions, "os_compute_api:extensions", READER),
)
