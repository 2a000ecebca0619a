"""What an administrator may say to evacuate a server (Compute API reference, "Evacuate Server (evacuate Action)")."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.compute.answers import as_bool
from lamina.api.compute.servers import caller_of
from lamina.api.routing import Reply, Request, Version
from lamina.model import decoding
from lamina.model.errors import BadRequest, NotFound
from lamina.model.servers import Server
from lamina.operations import evacuate as operation
from lamina.store import hosts

#: from here on the compute service finds out by itself whether disks are shared, and no password is answered
FINDS_OUT = Version(2, 14)
#: between these a named host could be forced on the scheduler
FORCE, NO_FORCE = Version(2, 29), Version(2, 68)
#: from here on an evacuated server is left stopped
STOPPED = Version(2, 95)


class Evacuate(msgspec.Struct, forbid_unknown_fields=True):
    host: str | None = None
    admin_pass: str | UnsetType = msgspec.field(default=UNSET, name="adminPass")
    on_shared_storage: bool | str | UnsetType = msgspec.field(default=UNSET, name="onSharedStorage")
    force: bool | str | UnsetType = UNSET


def evacuate(request: Request, server: Server, value: Any) -> Reply:
    """Raises `BadRequest`, `NotFound`, `InvalidState`, `Conflict`."""
    try:
        body = decoding.from_plain(value, Evacuate)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for evacuate: {error}") from error
    _must_be_served(request, body)
    if body.host is not None:
        with request.plane.db.read() as tx:
            if hosts.find_host(tx, body.host) is None:
                raise NotFound(f"Compute host {body.host[:80]} not found.")
    operation.request(request.plane, caller_of(request), server.id, host=body.host, stopped=request.version >= STOPPED)
    return Reply(200) if request.version >= FINDS_OUT else Reply(200, {})


def _must_be_served(request: Request, body: Evacuate) -> None:
    """A host that is forced is held to what it has like any other: no server goes where there is no room."""
    if request.version < FINDS_OUT:
        if body.on_shared_storage is UNSET:
            raise BadRequest(f"onSharedStorage: has to be said before version {FINDS_OUT}")
        if as_bool(body.on_shared_storage, "onSharedStorage"):
            raise BadRequest("onSharedStorage: disks are on their hosts here, none is shared")
    elif body.on_shared_storage is not UNSET:
        raise BadRequest(f"onSharedStorage: only before version {FINDS_OUT}")
    if body.force is not UNSET:
        if not FORCE <= request.version < NO_FORCE:
            raise BadRequest(f"force: only from version {FORCE} on and before {NO_FORCE}")
        if as_bool(body.force, "force") and body.host is None:
            raise BadRequest("Can't force to a non-provided destination")
