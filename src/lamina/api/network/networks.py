"""Networks, as hosts tell of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lamina.api.network.answers import listed, one, shown
from lamina.api.routing import Reply, Request
from lamina.model import ids
from lamina.model.errors import NotImplementedHere
from lamina.store import hosts


def views(tx: sa.Connection, request: Request) -> list[dict[str, Any]]:
    """Every network by name: one network of that name on however many hosts."""
    now, service_down = request.plane.clock.now(), request.plane.settings.service_down
    with_it: dict[str, list[hosts.Host]] = {}
    for host in hosts.all_hosts(tx):
        for name in host.networks:
            with_it.setdefault(name, []).append(host)
    return [
        _view(name, up=any(h.is_up(now, service_down) for h in known), zones=sorted({h.zone for h in known}))
        for name, known in sorted(with_it.items())
    ]


def _view(name: str, *, up: bool, zones: list[str]) -> dict[str, Any]:
    """Nobody's own and open to all; of its addresses and its MTU nothing is known here."""
    return {
        "id": ids.network_id(name),
        "name": name,
        "description": "",
        "status": "ACTIVE" if up else "DOWN",
        "admin_state_up": True,
        "shared": True,
        "router:external": False,
        "is_default": False,
        "port_security_enabled": False,
        "project_id": "",
        "tenant_id": "",
        "mtu": None,
        "subnets": [],
        "availability_zones": zones,
        "availability_zone_hints": [],
        "tags": [],
    }


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        return listed(request, "networks", views(tx, request))


def show(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        return shown(request, "network", views(tx, request))


def refuse_change(request: Request) -> Reply:
    """PUT and DELETE. Raises `NotFound`, `NotImplementedHere`."""
    with request.plane.db.read() as tx:
        found = one(request, "network", views(tx, request))
    raise NotImplementedHere(f"The network {found['name']} cannot be changed here: it is what the hosts' own settings make it.")
