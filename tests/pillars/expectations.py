"""Who may make which call: written by hand, from the API references and Nova's, Placement's and Keystone's documented
defaults, and from no table of the code under test.

A line is ``METHOD path``, under the least right that the call asks for. A route that has no line fails the matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.pillars.identities import Right

Table = Mapping[Right, str]

_IDENTITY: Table = {
    Right.ANYONE: """
        GET
        GET /
        POST /auth/tokens
    """,
    Right.USER: """
        GET /auth/tokens
        DELETE /auth/tokens
        GET /auth/catalog
        GET /auth/projects
        GET /auth/domains
        GET /auth/system
        GET /regions
        GET /regions/{id}
        GET /projects/{project_id}
        GET /users/{user_id}
        GET /users/{user_id}/projects
        GET /users/{user_id}/groups
        GET /registered_limits
        GET /registered_limits/{limit_id}
        GET /limits
        GET /limits/model
        GET /limits/{limit_id}
    """,
    Right.OWNER: """
        POST /users/{user_id}/password
        GET /users/{user_id}/application_credentials
        POST /users/{user_id}/application_credentials
        GET /users/{user_id}/application_credentials/{credential_id}
        DELETE /users/{user_id}/application_credentials/{credential_id}
    """,
    Right.READER: """
        GET /domains/{domain_id}
    """,
    Right.ADMIN: """
        GET /services
        GET /services/{id}
        GET /endpoints
        GET /endpoints/{id}
        GET /projects
        POST /projects
        PATCH /projects/{project_id}
        DELETE /projects/{project_id}
        GET /domains
        POST /domains
        PATCH /domains/{domain_id}
        DELETE /domains/{domain_id}
        GET /groups
        POST /groups
        GET /groups/{group_id}
        PATCH /groups/{group_id}
        DELETE /groups/{group_id}
        GET /groups/{group_id}/users
        GET /groups/{group_id}/users/{user_id}
        PUT /groups/{group_id}/users/{user_id}
        DELETE /groups/{group_id}/users/{user_id}
        GET /users
        POST /users
        PATCH /users/{user_id}
        DELETE /users/{user_id}
        GET /roles
        POST /roles
        GET /roles/{role_id}
        PATCH /roles/{role_id}
        DELETE /roles/{role_id}
        GET /role_inferences
        GET /role_assignments
        GET /projects/{project_id}/users/{user_id}/roles
        GET /projects/{project_id}/users/{user_id}/roles/{role_id}
        PUT /projects/{project_id}/users/{user_id}/roles/{role_id}
        DELETE /projects/{project_id}/users/{user_id}/roles/{role_id}
        POST /registered_limits
        PATCH /registered_limits/{limit_id}
        DELETE /registered_limits/{limit_id}
        POST /limits
        PATCH /limits/{limit_id}
        DELETE /limits/{limit_id}
        GET /system/users/{user_id}/roles
        GET /system/users/{user_id}/roles/{role_id}
        PUT /system/users/{user_id}/roles/{role_id}
        DELETE /system/users/{user_id}/roles/{role_id}
        GET /projects/{project_id}/groups/{group_id}/roles
        GET /projects/{project_id}/groups/{group_id}/roles/{role_id}
        PUT /projects/{project_id}/groups/{group_id}/roles/{role_id}
        DELETE /projects/{project_id}/groups/{group_id}/roles/{role_id}
        GET /domains/{domain_id}/users/{user_id}/roles
        GET /domains/{domain_id}/users/{user_id}/roles/{role_id}
        PUT /domains/{domain_id}/users/{user_id}/roles/{role_id}
        DELETE /domains/{domain_id}/users/{user_id}/roles/{role_id}
        GET /domains/{domain_id}/groups/{group_id}/roles
        GET /domains/{domain_id}/groups/{group_id}/roles/{role_id}
        PUT /domains/{domain_id}/groups/{group_id}/roles/{role_id}
        DELETE /domains/{domain_id}/groups/{group_id}/roles/{role_id}
        GET /system/groups/{group_id}/roles
        GET /system/groups/{group_id}/roles/{role_id}
        PUT /system/groups/{group_id}/roles/{role_id}
        DELETE /system/groups/{group_id}/roles/{role_id}
    """,
}
_COMPUTE: Table = {
    Right.ANYONE: """
        GET
        GET /
    """,
    Right.READER: """
        GET /flavors
        GET /flavors/detail
        GET /flavors/{flavor}
        GET /flavors/{flavor}/os-extra_specs
        GET /flavors/{flavor}/os-extra_specs/{key}
        GET /servers
        GET /servers/detail
        GET /servers/{server}
        GET /servers/{server}/metadata
        GET /servers/{server}/metadata/{key}
        GET /servers/{server}/tags
        GET /servers/{server}/tags/{tag}
        GET /servers/{server}/os-interface
        GET /servers/{server}/os-interface/{port}
        GET /servers/{server}/os-volume_attachments
        GET /servers/{server}/ips
        GET /servers/{server}/ips/{network}
        GET /servers/{server}/os-security-groups
        GET /servers/{server}/lamina-vgpus
        GET /servers/{server}/os-instance-actions
        GET /servers/{server}/os-instance-actions/{request}
        GET /servers/{server}/diagnostics
        GET /os-availability-zone
        GET /os-server-groups
        GET /os-server-groups/{group}
        GET /limits
        GET /os-quota-sets/{project}
        GET /os-quota-sets/{project}/defaults
        GET /os-quota-sets/{project}/detail
        GET /extensions
        GET /os-keypairs
        POST /os-keypairs
        GET /os-keypairs/{name}
        DELETE /os-keypairs/{name}
    """,
    Right.MEMBER: """
        POST /servers
        PUT /servers/{server}
        DELETE /servers/{server}
        POST /servers/{server}/action
        POST /servers/{server}/metadata
        PUT /servers/{server}/metadata
        PUT /servers/{server}/metadata/{key}
        DELETE /servers/{server}/metadata/{key}
        PUT /servers/{server}/tags
        DELETE /servers/{server}/tags
        PUT /servers/{server}/tags/{tag}
        DELETE /servers/{server}/tags/{tag}
        POST /servers/{server}/lamina-vgpus
        DELETE /servers/{server}/lamina-vgpus/{vgpu}
        POST /servers/{server}/remote-consoles
        POST /servers/{server}/os-interface
        DELETE /servers/{server}/os-interface/{port}
        POST /servers/{server}/os-volume_attachments
        POST /os-server-groups
        DELETE /os-server-groups/{group}
    """,
    Right.ADMIN: """
        POST /flavors
        PUT /flavors/{flavor}
        DELETE /flavors/{flavor}
        POST /flavors/{flavor}/os-extra_specs
        PUT /flavors/{flavor}/os-extra_specs/{key}
        DELETE /flavors/{flavor}/os-extra_specs/{key}
        GET /flavors/{flavor}/os-flavor-access
        POST /flavors/{flavor}/action
        GET /os-hypervisors
        GET /os-hypervisors/detail
        GET /os-hypervisors/statistics
        GET /os-hypervisors/{hypervisor}
        GET /os-hypervisors/{hypervisor}/uptime
        GET /os-hypervisors/{pattern}/search
        GET /os-services
        PUT /os-services/{service}
        GET /os-aggregates
        POST /os-aggregates
        GET /os-aggregates/{aggregate}
        PUT /os-aggregates/{aggregate}
        DELETE /os-aggregates/{aggregate}
        POST /os-aggregates/{aggregate}/action
        POST /os-aggregates/{aggregate}/images
        GET /os-availability-zone/detail
        GET /os-migrations
        GET /servers/{server}/migrations
        GET /servers/{server}/migrations/{migration}
        DELETE /servers/{server}/migrations/{migration}
        POST /servers/{server}/migrations/{migration}/action
        PUT /os-quota-sets/{project}
        DELETE /os-quota-sets/{project}
        GET /os-quota-class-sets/{class}
        PUT /os-quota-class-sets/{class}
        POST /os-server-external-events
    """,
}
_PLACEMENT: Table = {
    Right.ANYONE: """
        GET
        GET /
    """,
    Right.ADMIN: """
        GET /resource_classes
        POST /resource_classes
        GET /resource_classes/{name}
        PUT /resource_classes/{name}
        DELETE /resource_classes/{name}
        GET /resource_providers
        POST /resource_providers
        GET /resource_providers/{uuid}
        PUT /resource_providers/{uuid}
        DELETE /resource_providers/{uuid}
        GET /resource_providers/{uuid}/inventories
        POST /resource_providers/{uuid}/inventories
        PUT /resource_providers/{uuid}/inventories
        DELETE /resource_providers/{uuid}/inventories
        GET /resource_providers/{uuid}/inventories/{resource_class}
        PUT /resource_providers/{uuid}/inventories/{resource_class}
        DELETE /resource_providers/{uuid}/inventories/{resource_class}
        GET /resource_providers/{uuid}/usages
        GET /usages
        GET /resource_providers/{uuid}/aggregates
        PUT /resource_providers/{uuid}/aggregates
        GET /traits
        GET /traits/{name}
        PUT /traits/{name}
        DELETE /traits/{name}
        GET /resource_providers/{uuid}/traits
        PUT /resource_providers/{uuid}/traits
        DELETE /resource_providers/{uuid}/traits
        POST /allocations
        GET /allocations/{consumer_uuid}
        PUT /allocations/{consumer_uuid}
        DELETE /allocations/{consumer_uuid}
        GET /resource_providers/{uuid}/allocations
        GET /allocation_candidates
        POST /reshaper
    """,
}
_IMAGE: Table = {
    Right.ANYONE: """
        GET
        GET /
    """,
    Right.READER: """
        GET /images
        GET /images/{image_id}
        GET /images/{image_id}/members
        GET /images/{image_id}/file
        GET /info/import
        GET /schemas/image
        GET /schemas/images
    """,
    Right.MEMBER: """
        POST /images
        PATCH /images/{image_id}
        DELETE /images/{image_id}
        PUT /images/{image_id}/tags/{tag}
        DELETE /images/{image_id}/tags/{tag}
        POST /images/{image_id}/members
        PUT /images/{image_id}/file
    """,
}
_COLLECTIONS = (
    *("extensions", "networks", "subnets", "subnetpools", "ports", "routers", "floatingips"),
    *("security-groups", "security-group-rules", "address-scopes", "agents", "availability_zones"),
)


def _each(*lines: str) -> str:
    return "\n".join(line.replace("COLLECTION", name) for name in _COLLECTIONS for line in lines)


_NETWORK: Table = {
    Right.READER: _each("GET /COLLECTION", "GET /COLLECTION/{id}")
    + """
        GET
        GET /
        GET /quotas
        GET /quotas/{project_id}
        GET /quotas/{project_id}/details.json
    """,
    Right.MEMBER: _each("POST /COLLECTION", "PUT /COLLECTION/{id}", "DELETE /COLLECTION/{id}")
    + """
        PUT /quotas/{project_id}
        DELETE /quotas/{project_id}
    """,
}
_FLEET: Table = {
    Right.ADMIN: """
        GET /hosts
        GET /hosts/{host}
        POST /hosts/{host}/reboot
        DELETE /hosts/{host}
        POST /tokens
        GET /tokens
        DELETE /tokens/{token}
        PUT /hosts/{host}/gpus/{address}
        GET /capacity
        GET /gpus
        GET /queue
        GET /audit
        GET /repairs
        POST /repairs
        GET /replicas
        GET /vgpus
        POST /defragmentation/plan
        GET /operations
        POST /operations/{operation}/resume
        POST /operations/{operation}/abandon
    """,
}
_AGENTS: Table = {
    Right.ANYONE: """
        GET /authority
        POST /enrol
    """,
    Right.HOST: """
        POST /renew
        POST /poll
        GET /images/{image}/file
        PUT /disks/{server}/file
        GET /disks/{server}/file
    """,
}
_METRICS: Table = {
    Right.ADMIN: """
        GET
    """,
}
_DOOR: Table = {
    Right.ANYONE: """
        GET /
        GET /openapi/{api}
        GET /healthz
    """,
}
_VERSIONS: Table = {
    Right.ANYONE: """
        GET
        GET /
    """,
}
_TABLES: Mapping[str, Table] = {
    "identity": _IDENTITY,
    "identity-versions": _VERSIONS,
    "compute": _COMPUTE,
    "compute-versions": _VERSIONS,
    "placement": _PLACEMENT,
    "image": _IMAGE,
    "image-versions": _VERSIONS,
    "network": _NETWORK,
    "network-versions": _VERSIONS,
    "fleet": _FLEET,
    "agents": _AGENTS,
    "metrics": _METRICS,
    "door": _DOOR,
}

#: action on a server -> the least right, beside what stands within some actions and asks for more
ACTIONS: Mapping[str, Right] = {
    **dict.fromkeys(
        (
            *("resize", "confirmResize", "revertResize", "os-start", "os-stop", "pause", "unpause", "reboot", "rebuild", "rescue"),
            *("unrescue", "suspend", "resume", "createImage", "createBackup", "shelve", "unshelve", "lock", "unlock", "forceDelete"),
            *("os-getConsoleOutput", "os-getVNCConsole", "os-getSPICEConsole", "os-getRDPConsole", "os-getSerialConsole"),
        ),
        Right.MEMBER,
    ),
    **dict.fromkeys(("migrate", "os-migrateLive"), Right.MANAGER),
    **dict.fromkeys(("evacuate", "shelveOffload", "os-resetState"), Right.ADMIN),
}
#: what stands within an action and is an administrator's
WITHIN: Mapping[str, str] = {
    "os_compute_api:os-migrate-server:migrate:host": "migrate to a host",
    "os_compute_api:os-migrate-server:migrate_live:host": "os-migrateLive to a host",
    "os_compute_api:os-shelve:unshelve_to_host": "unshelve to a host",
    "os_compute_api:os-lock-server:unlock:unlock_override": "unlock what an administrator locked",
}


def _lines(table: Table) -> Iterable[tuple[str, Right]]:
    for right, text in table.items():
        for line in text.splitlines():
            method, _, path = line.strip().partition(" ")
            if method:
                yield f"{method} {path}".strip(), right


def rights(room: str) -> dict[str, Right]:
    """``METHOD path`` -> the least right, for the calls of one room. A line that is there twice is an error."""
    found: dict[str, Right] = {}
    for line, right in _lines(_TABLES.get(room, {})):
        if line in found:
            raise ValueError(f"expectations of {room}: {line} is there twice")
        found[line] = right
    return found


def rooms() -> frozenset[str]:
    return frozenset(_TABLES)


#: documented calls that are refused with 501 to whoever may make them
_NOT_SERVED: Mapping[str, str] = {
    "/compute/v2.1": """
        GET /servers/{server}/diagnostics
        POST /servers/{server}/os-interface
        DELETE /servers/{server}/os-interface/{port}
        POST /servers/{server}/os-volume_attachments
        POST /servers/{server}/migrations/{migration}/action
        POST /os-aggregates/{aggregate}/images
        POST /os-server-external-events
    """,
    "/image/v2": "POST /images/{image_id}/members",
    "/network/v2.0": _each("POST /COLLECTION")
    + """
        PUT /networks/{id}
        DELETE /networks/{id}
        PUT /ports/{id}
        DELETE /ports/{id}
        PUT /quotas/{project_id}
        DELETE /quotas/{project_id}
    """,
}

#: what things as they stand in the world are refused for, by any caller who may; the status is the reference's
_AS_IT_STANDS: Mapping[str, int] = {
    # simulated hypervisors have no display
    "POST /servers/{server}/remote-consoles": 400,
    **{f"POST /servers/{{server}}/action os-get{kind}Console": 400 for kind in ("VNC", "SPICE", "RDP", "Serial")},
    "POST /servers/{server}/action evacuate": 400,
    "POST /servers/{server}/action migrate to a host": 400,
    "POST /servers/{server}/action os-migrateLive to a host": 400,
    "DELETE /servers/{server}/migrations/{migration}": 400,
    # before the version that has it
    "DELETE /resource_providers/{uuid}/inventories": 405,
}


def refusals(prefix: str, line: str, name: str) -> frozenset[int]:
    """With what a call may be refused to one who may make it."""
    served = frozenset({501}) if is_not_served(prefix, line) else frozenset()
    as_it_stands = _AS_IT_STANDS.get(f"{line} {name}".strip())
    return served | {404, 409} | ({as_it_stands} if as_it_stands is not None else set())


def is_not_served(prefix: str, line: str) -> bool:
    return line in {one.strip() for one in _NOT_SERVED.get(prefix, "").splitlines()}
