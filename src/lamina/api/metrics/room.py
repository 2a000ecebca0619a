"""The page of figures. They tell what tenants do, so it is an administrator's unless the operator opens it to whoever reaches the port."""

from __future__ import annotations

import dataclasses

from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from lamina.api.metrics import standing
from lamina.api.routing import ADMIN, Reply, Request, Room, Route, Version
from lamina.model.errors import LaminaError


def show(request: Request) -> Reply:
    """What this process has counted since its start, and then how things stand in the database, which every control plane says alike."""
    counted = generate_latest(REGISTRY)
    return Reply(200, counted + generate_latest(standing.of(request.plane)), {"Content-Type": CONTENT_TYPE_LATEST})


def fault(error: LaminaError, request_id: str, _version: Version) -> Reply:
    """``{"error": {code, message, request_id}}``"""
    return Reply(error.status, {"error": {"code": error.code, "message": error.message, "request_id": request_id}})


_ROUTE = Route("GET", "", show, "metrics:show", ADMIN)
ROOM = Room("metrics", "/metrics", (_ROUTE,), fault)
#: for those who have no token that lasts
OPEN = dataclasses.replace(ROOM, routes=(dataclasses.replace(_ROUTE, public=True),))
