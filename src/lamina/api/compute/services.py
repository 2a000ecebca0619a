"""Services: one `nova-compute` for each host, and this process's scheduler and conductor (Compute API reference, "Compute services")."""

from __future__ import annotations

import socket
import uuid
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import number_of, precise_moment, read
from lamina.api.routing import ADMIN, Reply, Request, Route, Version
from lamina.model import ids
from lamina.model.errors import BadRequest, NotFound
from lamina.store import hosts
from lamina.store.hosts import Host

#: the parts of Nova's control plane, which are all this process, and where they are said to be
CONTROL_PLANE = ("nova-conductor", "nova-scheduler")
INTERNAL_ZONE = "internal"
FORCED_DOWN = Version(2, 11)
BY_UUID = Version(2, 53)


class Update(msgspec.Struct, forbid_unknown_fields=True):
    status: str | None = None
    disabled_reason: str | None = None
    forced_down: bool | None = None


class OldUpdate(msgspec.Struct, forbid_unknown_fields=True):
    host: str
    binary: str
    disabled_reason: str | None = None
    forced_down: bool | None = None


def _view(request: Request, host: Host) -> dict[str, Any]:
    up = host.is_up(request.plane.clock.now(), request.plane.settings.service_down)
    shown: dict[str, Any] = {
        "id": host.service_id if request.version >= BY_UUID else number_of(host.service_id),
        "binary": "nova-compute",
        "host": host.name,
        "zone": host.zone,
        "status": "enabled" if host.enabled else "disabled",
        "state": "up" if up else "down",
        "updated_at": precise_moment(host.last_seen_at),
        "disabled_reason": host.disabled_reason,
    }
    if request.version >= FORCED_DOWN:
        shown["forced_down"] = host.forced_down
    return shown


def _own(request: Request, binary: str) -> dict[str, Any]:
    """One of the `CONTROL_PLANE`."""
    service_id = str(uuid.uuid5(ids.LAMINA_NAMESPACE, f"service/{binary}"))
    shown: dict[str, Any] = {
        "id": service_id if request.version >= BY_UUID else number_of(service_id),
        "binary": binary,
        "host": socket.gethostname(),
        "zone": INTERNAL_ZONE,
        "status": "enabled",
        "state": "up",
        "updated_at": precise_moment(request.plane.clock.now()),
        "disabled_reason": None,
    }
    if request.version >= FORCED_DOWN:
        shown["forced_down"] = False
    return shown


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        shown = [_view(request, h) for h in hosts.all_hosts(tx)]
    shown += [_own(request, binary) for binary in CONTROL_PLANE]
    binary, host = request.value("binary"), request.value("host")
    chosen = [s for s in shown if binary in (None, s["binary"]) and host in (None, s["host"])]
    return Reply(200, {"services": chosen})


def update(request: Request) -> Reply:
    service_id = ids.parse_uuid(request.path["service"], "service_id")
    body = read(request, Update)
    if body.status not in (None, "enabled", "disabled"):
        raise BadRequest("status: either 'enabled' or 'disabled'")
    if body.disabled_reason is not None and body.status != "disabled":
        raise BadRequest("Specifying disabled_reason requires that status is 'disabled'.")
    if body.status is None and body.forced_down is None:
        raise BadRequest("Either 'status' or 'forced_down' is needed.")
    with request.plane.db.write() as tx:
        host = hosts.host_of_id(tx, service_id)
        if host is None or host.service_id != service_id:
            raise NotFound(f"Service {service_id} could not be found.")
        shown = _changed(tx, request, host, body.status, body.disabled_reason, body.forced_down)
    return Reply(200, {"service": shown})


def _changed(
    tx: sa.Connection, request: Request, host: Host, status: str | None, reason: str | None, forced_down: bool | None
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if status is not None:
        if reason is not None and not 1 <= len(reason) <= 255:
            raise BadRequest("disabled_reason: 1 to 255 characters")
        columns |= {"enabled": status == "enabled", "disabled_reason": reason if status == "disabled" else None}
    if forced_down is not None:
        columns["forced_down"] = forced_down
    hosts.update_host(tx, host.name, **columns)
    return _view(request, hosts.get_host(tx, host.name))


def update_of_old(request: Request) -> Reply:
    """``PUT /os-services/enable`` and its like, before services had uuids in the path."""
    verb = request.path["service"]
    body = read(request, OldUpdate)
    statuses = {"enable": "enabled", "disable": "disabled", "disable-log-reason": "disabled", "force-down": None}
    if verb not in statuses or (verb == "force-down" and (request.version < FORCED_DOWN or body.forced_down is None)):
        raise NotFound(f"There is no such action on services: {verb[:80]}")
    if verb == "disable-log-reason" and not body.disabled_reason:
        raise BadRequest("disabled_reason: say why")
    if body.binary != "nova-compute":
        raise NotFound(f"Could not find binary {body.binary[:80]} on host {body.host[:80]}.")
    with request.plane.db.write() as tx:
        host = hosts.get_host(tx, body.host)
        shown = _changed(tx, request, host, statuses[verb], body.disabled_reason, body.forced_down)
    wanted = ("host", "binary", "status", "disabled_reason", "forced_down")
    return Reply(200, {"service": {key: shown[key] for key in wanted if key in shown}})


RULE = "os_compute_api:os-services"
ROUTES = (
    Route("GET", "/os-services", index, f"{RULE}:list", ADMIN, query=("binary", "host")),
    Route("PUT", "/os-services/{service}", update_of_old, f"{RULE}:update", ADMIN, until=Version(2, 52), takes=(OldUpdate,)),
    Route("PUT", "/os-services/{service}", update, f"{RULE}:update", ADMIN, since=BY_UUID, takes=(Update,)),
)
