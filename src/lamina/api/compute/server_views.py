"""How a server is shown, at each microversion (Compute API reference, "Show Server Details", and its version history)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from lamina.api.compute.answers import links, moment
from lamina.api.compute.server_networks import addresses
from lamina.api.routing import Request, Version
from lamina.model.networks import Port
from lamina.model.queueing import Waiting
from lamina.model.servers import Server, VmState
from lamina.store.hosts import Host

EXTENDED_ATTRIBUTES = Version(2, 3)
LOCKED = Version(2, 9)
HOST_STATUS = Version(2, 16)
DESCRIPTION = Version(2, 19)
TAGS = Version(2, 26)
EMBEDDED_FLAVOR = Version(2, 47)
TRUSTED_CERTIFICATES = Version(2, 63)
SERVER_GROUPS = Version(2, 71)
LOCKED_REASON = Version(2, 73)
WHOLE_AFTER_CHANGE = Version(2, 75)
HOSTNAME_FOR_ALL = Version(2, 90)
PINNED_ZONE = Version(2, 96)

#: how the keys begin that the answer to a change did not have before 2.75
_NOT_AFTER_CHANGE = ("OS-EXT-", "OS-SRV-USG:", "os-extended-volumes:", "config_drive", "key_name", "security_groups", "host_status")
#: statuses that have a progress figure (nova/api/openstack/compute/views/servers.py)
_WITH_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})


def host_id(project_id: str, host: str | None) -> str:
    """The same for two servers of a project on one host, and telling nothing else."""
    return hashlib.sha224((project_id + host).encode()).hexdigest() if host is not None else ""


def brief(request: Request, server: Server) -> dict[str, Any]:
    return {"id": server.id, "name": server.name, "links": links(request, "servers", server.id)}


def host_status(host: Host, now: float, service_down: float) -> str:
    """How a server's host is, in the Compute API's words."""
    if host.forced_down:
        return "DOWN"
    if not host.enabled:
        return "MAINTENANCE"
    return "UP" if host.is_up(now, service_down) else "UNKNOWN"


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """What is shown of servers and does not lie with them."""

    #: host -> its `host_status`, if an administrator asks
    statuses: Mapping[str, str]
    #: server id -> its ports, for those that have any
    ports: Mapping[str, Sequence[Port]]
    #: server id -> the id of its group, for those that have one
    groups: Mapping[str, str]
    #: server id -> its place in the queue and what is kept of it there, for those that wait for room
    queue: Mapping[str, tuple[int, Waiting]]


def view(request: Request, server: Server, beside: Beside) -> dict[str, Any]:
    """A server whole."""
    version = request.version
    shown = brief(request, server) | {
        "status": server.status,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": host_id(server.project_id, server.host),
        "image": _image(request, server),
        "flavor": _flavor(request, server),
        "created": moment(server.created_at),
        "updated": moment(server.updated_at),
        "addresses": addresses(beside.ports.get(server.id, ())),
        "accessIPv4": "",
        "accessIPv6": "",
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": server.zone or "",
        "config_drive": "True" if server.config_drive else "",
        "key_name": server.key_name,
        "OS-SRV-USG:launched_at": _naive(server.launched_at),
        "OS-SRV-USG:terminated_at": _naive(server.terminated_at),
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:vm_state": server.vm_state,
        "OS-EXT-STS:power_state": int(server.power_state),
        "os-extended-volumes:volumes_attached": [],
    }
    if server.id in beside.queue:
        place, waiting = beside.queue[server.id]
        shown["lamina:queue"] = {
            "position": place,
            "reason": waiting.reason,
            "queued_at": moment(waiting.queued_at),
            "expires_at": moment(waiting.expires_at),
        }
    if server.vm_state is not VmState.ERROR:
        shown["security_groups"] = [{"name": "default"}]
    if server.status in _WITH_PROGRESS:
        shown["progress"] = server.progress
    if server.fault is not None and server.vm_state in (VmState.ERROR, VmState.DELETED):
        shown["fault"] = {"code": server.fault.code, "message": server.fault.message, "created": moment(server.fault.created_at)}
        if request.context.is_admin or server.fault.code != 500:
            shown["fault"]["details"] = server.fault.details
    later: tuple[tuple[Version, str, Any], ...] = (
        (LOCKED, "locked", server.locked),
        (DESCRIPTION, "description", server.description),
        (TAGS, "tags", list(server.tags)),
        (TRUSTED_CERTIFICATES, "trusted_image_certificates", None),
        (LOCKED_REASON, "locked_reason", server.locked_reason),
        (HOSTNAME_FOR_ALL, "OS-EXT-SRV-ATTR:hostname", server.hostname),
        (PINNED_ZONE, "pinned_availability_zone", server.pinned_zone),
    )
    shown |= {name: value for since, name, value in later if version >= since}
    if request.context.is_admin:
        shown |= _for_administrators(server, version, beside.statuses)
    return shown


def whole(request: Request, server: Server, beside: Beside) -> dict[str, Any]:
    """A server shown by itself: with what lists do not tell."""
    shown = view(request, server, beside)
    if request.version >= SERVER_GROUPS:
        shown["server_groups"] = [beside.groups[server.id]] if server.id in beside.groups else []
    return shown


def after_change(request: Request, server: Server, beside: Beside) -> dict[str, Any]:
    """A server in the answer to its change, which was brief once."""
    shown = whole(request, server, beside)
    if request.version >= WHOLE_AFTER_CHANGE:
        return shown
    return {key: value for key, value in shown.items() if not key.startswith(_NOT_AFTER_CHANGE)}


def _for_administrators(server: Server, version: Version, statuses: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "OS-EXT-SRV-ATTR:host": server.host,
        "OS-EXT-SRV-ATTR:hypervisor_hostname": server.host,
        "OS-EXT-SRV-ATTR:instance_name": f"lamina-{server.id}",
    }
    if version >= EXTENDED_ATTRIBUTES:
        shown |= {
            "OS-EXT-SRV-ATTR:reservation_id": server.reservation_id,
            "OS-EXT-SRV-ATTR:launch_index": 0,
            "OS-EXT-SRV-ATTR:hostname": server.hostname,
            "OS-EXT-SRV-ATTR:kernel_id": "",
            "OS-EXT-SRV-ATTR:ramdisk_id": "",
            "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
            "OS-EXT-SRV-ATTR:user_data": server.user_data,
        }
    if version >= HOST_STATUS:
        shown["host_status"] = statuses.get(server.host or "", "")
    return shown


def _naive(seconds: float | None) -> str | None:
    stamp = moment(seconds)
    return None if stamp is None else stamp.replace("Z", ".000000")


def _image(request: Request, server: Server) -> Any:
    if server.image_id is None:
        return ""
    return {"id": server.image_id, "links": [links(request, "images", server.image_id)[1]]}


def _flavor(request: Request, server: Server) -> dict[str, Any]:
    flavor = server.flavor
    if request.version < EMBEDDED_FLAVOR:
        return {"id": flavor.id, "links": [links(request, "flavors", flavor.id)[1]]}
    return {
        "vcpus": flavor.vcpus,
        "ram": flavor.memory_mb,
        "disk": flavor.disk_gb,
        "ephemeral": flavor.ephemeral_gb,
        "swap": flavor.swap_mb,
        "original_name": flavor.name,
        "extra_specs": dict(flavor.extra_specs),
    }
