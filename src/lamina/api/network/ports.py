"""Ports, which come and go with their servers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lamina.api.network.answers import listed, moment, one, shown
from lamina.api.routing import Reply, Request
from lamina.model.errors import NotImplementedHere
from lamina.model.hosts import PowerState
from lamina.model.networks import Port
from lamina.model.servers import Server
from lamina.store import ports as store
from lamina.store import servers
from lamina.store.tables.compute import ports
from lamina.store.tables.compute import servers as server_rows


def views(tx: sa.Connection, request: Request) -> list[dict[str, Any]]:
    """The ports of the caller's project; of all projects for an administrator."""
    admin = request.context.is_admin
    asked: list[sa.ColumnElement[bool]] = [] if admin else [ports.c.project_id == (request.context.project_id or "")]
    if request.values("device_id"):
        asked.append(ports.c.server_id.in_(request.values("device_id")))
    found = store.select(tx, *asked)
    owners = {s.id: s for s in servers.page(tx, [server_rows.c.id.in_(sa.select(ports.c.server_id).where(*asked))])}
    # those of a server whose record is damaged are not shown
    return [_view(port, owners[port.server_id], admin=admin) for port in found if port.server_id in owners]


def _view(port: Port, server: Server, *, admin: bool) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": port.id,
        "name": "",
        "description": "",
        "status": "ACTIVE" if server.power_state is PowerState.RUNNING else "DOWN",
        "admin_state_up": True,
        "network_id": port.network_id,
        "mac_address": port.mac,
        "device_id": server.id,
        "device_owner": f"compute:{server.zone or 'nova'}",
        "project_id": port.project_id,
        "tenant_id": port.project_id,
        "fixed_ips": [],
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "security_groups": [],
        "port_security_enabled": False,
        "binding:vnic_type": "normal",
        "tags": [],
        "created_at": moment(port.created_at),
        "updated_at": moment(port.created_at),
    }
    return view | ({"binding:host_id": server.host or ""} if admin else {})


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        return listed(request, "ports", views(tx, request))


def show(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        return shown(request, "port", views(tx, request))


def refuse_change(request: Request) -> Reply:
    """PUT and DELETE. Raises `NotFound`, `NotImplementedHere`."""
    with request.plane.db.read() as tx:
        found = one(request, "port", views(tx, request))
    raise NotImplementedHere(f"The port {found['id']} cannot be changed here: it comes and goes with its server.")
