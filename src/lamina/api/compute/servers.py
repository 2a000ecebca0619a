"""Servers: listed, shown, created, updated, deleted (Compute API reference, "Servers")."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import MOST, PREFIX, as_bool, next_link, page_limit, parse_moment, read
from lamina.api.compute.server_requests import (
    CreateBody,
    description_of,
    hostname_of,
    must_be_manual_or_auto,
    must_be_no_address,
    name_of,
    new_server,
)
from lamina.api.compute.server_views import Beside, after_change, brief, host_status, view, whole
from lamina.api.routing import MEMBER, READER, Reply, Request, Route, Version
from lamina.model import ids
from lamina.model.errors import BadRequest, Conflict, Forbidden, NotFound
from lamina.model.servers import Server, TaskState, VmState, status
from lamina.operations import create, delete, queueing
from lamina.saga.runner import Caller
from lamina.store import hosts, ports, server_groups
from lamina.store import servers as store
from lamina.store.tables.compute import servers

RULE = "os_compute_api:servers"

#: query parameter -> column, for everybody
_FILTERS: dict[str, sa.ColumnElement[Any]] = {
    "image": servers.c.image_id,
    "reservation_id": servers.c.reservation_id,
    "key_name": servers.c.key_name,
    "availability_zone": servers.c.zone,
    "user_id": servers.c.user_id,
    "uuid": servers.c.id,
}
#: and for administrators only
_ADMIN_FILTERS: dict[str, sa.ColumnElement[Any]] = {
    "host": servers.c.host,
    "node": servers.c.host,
    "vm_state": servers.c.vm_state,
    "task_state": servers.c.task_state,
    "power_state": sa.cast(servers.c.power_state, sa.String),
}
_PARTS: dict[str, sa.Column[Any]] = {
    "name": servers.c.name,
    "display_name": servers.c.name,
    "hostname": servers.c.hostname,
    "description": servers.c.description,
}
#: parameters of the listing itself, and those of Nova's that can't match anything here
_KNOWN = frozenset(
    {"limit", "marker", "sort_key", "sort_dir", "status", "flavor", "all_tenants", "project_id", "tenant_id", "deleted", "locked"}
    | {"changes-since", "changes-before", "tags", "tags-any", "not-tags", "not-tags-any", "ip", "ip6", "description", "config_drive"}
    | {"created_at", "launched_at", "terminated_at", "progress", "root_device_name", "kernel_id", "ramdisk_id", "launch_index"}
    | {"access_ip_v4", "access_ip_v6", "auto_disk_config", "disk_config", "display_description", "metadata", "instance_type_id"}
    | {"soft_deleted", "block_device_mapping", "services", "system_metadata", "info_cache", "security_groups", "pci_devices"}
)
_TAG_FILTERS = frozenset({"tags", "tags-any", "not-tags", "not-tags-any"})
_QUERY = tuple(sorted({*_FILTERS, *_ADMIN_FILTERS, *_PARTS, *_KNOWN}))
STATUS_MUST_BE_ONE = Version(2, 38)
WITH_LOCKED_FILTER = Version(2, 73)
WITH_CHANGES_BEFORE = Version(2, 66)


class Update(msgspec.Struct, forbid_unknown_fields=True):
    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    hostname: str | msgspec.UnsetType = msgspec.UNSET
    access_ipv4: str | None = msgspec.field(default=None, name="accessIPv4")
    access_ipv6: str | None = msgspec.field(default=None, name="accessIPv6")
    disk_config: str | None = msgspec.field(default=None, name="OS-DCF:diskConfig")


class UpdateBody(msgspec.Struct, forbid_unknown_fields=True):
    server: Update


def caller_of(request: Request) -> Caller:
    """Raises `Forbidden` for a token without a project: a server belongs to one."""
    who = request.context
    if who.project_id is None:
        raise Forbidden("A token with a project is needed.")
    return Caller(who.user_id, who.project_id, who.request_id, who.global_request_id)


def find(tx: sa.Connection, request: Request) -> Server:
    """The server in the path, if the caller may see it; what is another's is as if it were not there. Raises `NotFound`."""
    server_id = request.path["server"]
    if not ids.is_uuid(server_id):
        raise NotFound(f"Instance {server_id[:80]} could not be found.")
    return store.get(tx, ids.parse_uuid(server_id), None if request.context.is_admin else request.context.project_id or "")


def must_be_unlocked(request: Request, server: Server) -> None:
    """Raises `Conflict` for a locked server, but for an administrator."""
    if server.locked and not request.context.is_admin:
        raise Conflict(f"Instance {server.id} is locked")


def beside(tx: sa.Connection, request: Request, shown: Iterable[Server]) -> Beside:
    """What is shown with these servers; how a host is, an administrator is told and nobody else."""
    now, service_down = request.plane.clock.now(), request.plane.settings.service_down
    known = hosts.all_hosts(tx) if request.context.is_admin else []
    statuses = {h.name: host_status(h, now, service_down) for h in known}
    shown = list(shown)
    server_ids = [server.id for server in shown]
    waiting = queueing.places(tx) if any(s.task_state is TaskState.QUEUED for s in shown) else {}
    return Beside(statuses, ports.of_servers(tx, server_ids), server_groups.groups_of(tx, server_ids), waiting)


# ---------------------------------------------------------------------------------------------------- listing


def _conditions(request: Request) -> list[sa.ColumnElement[bool]]:
    names = dict.fromkeys(key for key, _ in request.query)
    return [_whose(request), *_in_time(request), *(c for name in names if (c := _filter(request, name)) is not None)]


def _in_time(request: Request) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    asked = as_bool(request.value("deleted") or "false", "deleted") or (request.value("status") or "").upper() == "DELETED"
    deleted = request.context.is_admin and asked
    changes_since = request.value("changes-since")
    changes_before = request.value("changes-before") if request.version >= WITH_CHANGES_BEFORE else None
    if deleted:
        found.append(servers.c.deleted_at.is_not(None))
    elif changes_since is None and changes_before is None:
        found.append(servers.c.deleted_at.is_(None))
    if changes_since is not None:
        found.append(servers.c.updated_at >= parse_moment(changes_since, "changes-since"))
    if changes_before is not None:
        found.append(servers.c.updated_at < math.floor(parse_moment(changes_before, "changes-before")) + 1)  # as shown: whole seconds
    return found


def _filter(request: Request, name: str) -> sa.ColumnElement[bool] | None:
    """The condition of one query parameter, if it is one. Raises `BadRequest`."""
    value = request.value(name) or ""
    if name == "power_state" and not re.fullmatch(r"[0-9]", value):
        return sa.false() if request.context.is_admin else None  # no number, so no server's power state
    if name in _FILTERS or (request.context.is_admin and name in _ADMIN_FILTERS):
        return (_FILTERS | _ADMIN_FILTERS)[name] == value
    if name in _PARTS:
        return _like(_PARTS[name], value)
    if name == "status":
        return _of_statuses(request)
    if name == "flavor":
        return store.given(value)
    if name == "locked" and request.version >= WITH_LOCKED_FILTER:
        return servers.c.locked == as_bool(value, "locked")
    if name in ("ip", "ip6"):
        return sa.false()  # servers have no addresses here
    if name not in _KNOWN and name not in _ADMIN_FILTERS and request.version >= Version(2, 75):
        raise BadRequest(f"Additional properties are not allowed ('{name[:80]}' was unexpected)")
    return None


def _whose(request: Request) -> sa.ColumnElement[bool]:
    """The caller's project; for an administrator every project, or one, if he says so."""
    context = request.context
    project = request.value("project_id") or request.value("tenant_id")
    everybody = request.value("all_tenants")
    if everybody is None and context.is_admin and project is not None:
        return servers.c.project_id == project
    if everybody is not None and as_bool(everybody or "1", "all_tenants"):
        if not context.is_admin:
            raise Forbidden("Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed.")
        return servers.c.project_id == project if project is not None else sa.true()
    if context.is_admin and context.project_id is None:
        return sa.true()
    return servers.c.project_id == (context.project_id or "")


def _of_statuses(request: Request) -> sa.ColumnElement[bool]:
    """Servers that show one of the statuses asked for. Raises `BadRequest` for a word that is no status."""
    wanted = {word.upper() for word in request.values("status")}
    shown = {vm: [task for task in (None, *TaskState) if status(vm, task) in wanted] for vm in VmState}
    if not any(shown.values()) and request.version >= STATUS_MUST_BE_ONE:
        raise BadRequest(f"status: {', '.join(sorted(wanted))[:80]!r} is not the status of any server")
    task_state = sa.func.coalesce(servers.c.task_state, "")
    return sa.or_(sa.false(), *((servers.c.vm_state == vm) & task_state.in_([task or "" for task in tasks]) for vm, tasks in shown.items()))


def _like(column: sa.Column[Any], pattern: str) -> sa.ColumnElement[bool]:
    """A part of the text, as in Nova without regard to case; ``^``, ``$`` and ``.*`` are all that is taken of its expressions."""
    escaped = re.sub(r"([%_/])", r"/\1", pattern.removeprefix("^").removesuffix("$")).replace(".*", "%")
    before, after = "" if pattern.startswith("^") else "%", "" if pattern.endswith("$") else "%"
    return column.ilike(before + escaped + after, escape="/")


def _has_tags(request: Request, server: Server) -> bool:
    def said(name: str) -> set[str]:
        return {tag for value in request.values(name) for tag in value.split(",") if tag}

    tags = set(server.tags)
    return (
        said("tags") <= tags
        and (not said("tags-any") or bool(said("tags-any") & tags))
        and (not said("not-tags") or not said("not-tags") <= tags)
        and not said("not-tags-any") & tags
    )


def _page(request: Request) -> tuple[list[Server], Beside, int]:
    limit = page_limit(request)
    keys, directions = request.values("sort_key"), request.values("sort_dir")
    directions += [directions[-1] if directions else "desc"] * (len(keys) - len(directions))
    sort: dict[str, str] = {}
    for key, direction in zip(keys or ["created_at"], directions or ["desc"], strict=False):
        sort.setdefault(key, direction)
    with request.plane.db.read() as tx:
        found = _found(tx, request, list(sort.items()), limit)
        around = beside(tx, request, found)
    return found, around, limit


def _found(tx: sa.Connection, request: Request, sort: list[tuple[str, str]], limit: int) -> list[Server]:
    """A full page where there is one: whoever asks for tags is given the servers behind those without them."""
    conditions, marker = _conditions(request), request.value("marker")
    if marker is not None:
        _must_be_seen(tx, request, marker)
    step = MOST if any(name in _TAG_FILTERS for name, _ in request.query) else limit
    found: list[Server] = []
    while len(found) < limit:
        servers_here = store.page(tx, conditions, sort=sort, limit=step, marker=marker)
        found += [s for s in servers_here if _has_tags(request, s)]
        if len(servers_here) < step:
            break
        marker = servers_here[-1].id
    return found[:limit]


def _must_be_seen(tx: sa.Connection, request: Request, marker: str) -> None:
    """Raises `BadRequest` for a marker that is not there, or is another's."""
    try:
        store.get(tx, marker, None if request.context.is_admin else request.context.project_id or "", deleted=True)
    except NotFound:
        raise BadRequest(f"marker [{marker[:80]}] not found") from None


def _more(request: Request, path: str, found: list[Server], limit: int) -> dict[str, Any]:
    more = next_link(request, path, found, limit, found[-1].id if found else "")
    return {"servers_links": more["links"]} if more else {}


def index(request: Request) -> Reply:
    found, _, limit = _page(request)
    return Reply(200, {"servers": [brief(request, s) for s in found]} | _more(request, "/servers", found, limit))


def detail(request: Request) -> Reply:
    found, around, limit = _page(request)
    return Reply(200, {"servers": [view(request, s, around) for s in found]} | _more(request, "/servers/detail", found, limit))


def show(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        server = find(tx, request)
        around = beside(tx, request, [server])
    return Reply(200, {"server": whole(request, server, around)})


# ---------------------------------------------------------------------------------------------------- changing


def make(request: Request) -> Reply:
    caller = caller_of(request)
    asked = new_server(request)
    made = create.request(request.plane, caller, asked.new)
    if asked.by_reservation:
        return Reply(202, {"reservation_id": made[0].reservation_id})
    first = made[0]
    body = brief(request, first)
    del body["name"]
    body |= {"OS-DCF:diskConfig": "MANUAL", "security_groups": [{"name": "default"}], "adminPass": asked.admin_pass}
    location = f"{request.plane.settings.public_url}{PREFIX}/servers/{first.id}"
    return Reply(202, {"server": body}, {"Location": location})


def update(request: Request) -> Reply:
    body = read(request, UpdateBody).server
    must_be_manual_or_auto(body.disk_config)
    must_be_no_address(body.access_ipv4, "accessIPv4")
    must_be_no_address(body.access_ipv6, "accessIPv6")
    changes: dict[str, Any] = {}
    if body.name is not msgspec.UNSET:
        changes["name"] = name_of(body.name)
    if body.description is not msgspec.UNSET:
        if request.version < Version(2, 19):
            raise BadRequest("description: servers have it from version 2.19 on")
        changes["description"] = description_of(body.description)
    if body.hostname is not msgspec.UNSET:
        if request.version < Version(2, 90):
            raise BadRequest("hostname: servers have it from version 2.90 on")
        changes["hostname"] = hostname_of(body.hostname)
    with request.plane.db.write() as tx:
        server = find(tx, request)
        must_be_unlocked(request, server)
        store.update(tx, server.id, request.plane.clock.now(), **changes)
        server = find(tx, request)
        around = beside(tx, request, [server])
    return Reply(200, {"server": after_change(request, server, around)})


def remove(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        server = find(tx, request)
    must_be_unlocked(request, server)
    delete.request(request.plane, caller_of(request), server.id)
    return Reply(204)


ROUTES = (
    Route("GET", "/servers", index, f"{RULE}:index", READER, query=_QUERY),
    Route("POST", "/servers", make, f"{RULE}:create", MEMBER, takes=(CreateBody,), gives=(202,)),
    Route("GET", "/servers/detail", detail, f"{RULE}:detail", READER, query=_QUERY),
    Route("GET", "/servers/{server}", show, f"{RULE}:show", READER),
    Route("PUT", "/servers/{server}", update, f"{RULE}:update", MEMBER, takes=(UpdateBody,)),
    Route("DELETE", "/servers/{server}", remove, f"{RULE}:delete", MEMBER, gives=(204,)),
)
