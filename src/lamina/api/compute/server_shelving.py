"""What a caller may say to unshelve a server (Compute API reference, "Unshelve (Restore) Shelved Server (unshelve Action)")."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.compute.servers import caller_of
from lamina.api.routing import Reply, Request, Version
from lamina.model import decoding
from lamina.model.errors import BadRequest, InvalidState
from lamina.model.servers import Server
from lamina.operations import unshelve as operation
from lamina.store import hosts

#: the rule for naming a host
TO_HOST = "os_compute_api:os-shelve:unshelve_to_host"
#: from when on a zone can be named, and a host, or any zone
NAMED_ZONE, NAMED_HOST = Version(2, 77), Version(2, 91)


class Unshelve(msgspec.Struct, forbid_unknown_fields=True):
    availability_zone: str | UnsetType | None = UNSET
    host: str | UnsetType = UNSET


def unshelve(request: Request, server: Server, value: Any) -> Reply:
    """Raises `BadRequest`, `Forbidden`, `InvalidState`."""
    try:
        body = decoding.from_plain({} if value is None else value, Unshelve)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for unshelve: {error}") from error
    zone, host = _zone(request, body.availability_zone), None
    if not isinstance(body.host, UnsetType):
        host = body.host
        if request.version < NAMED_HOST:
            raise BadRequest(f"unshelve.host: a host can be named from version {NAMED_HOST} on")
        request.enforce(TO_HOST)
        with request.plane.db.read() as tx:
            if hosts.find_host(tx, host) is None:
                raise BadRequest(f"unshelve.host: Compute host {host[:80]} could not be found.")
    operation.request(request.plane, caller_of(request), server.id, zone=zone, host=host)
    return Reply(202)


def _zone(request: Request, said: str | UnsetType | None) -> operation.Zone | None:
    if isinstance(said, UnsetType):
        return None
    if request.version < (NAMED_ZONE if said is not None else NAMED_HOST):
        raise BadRequest(f"unshelve.availability_zone: one can be named from version {NAMED_ZONE} on, and left open from {NAMED_HOST} on")
    if said is not None:
        with request.plane.db.read() as tx:
            if said not in {host.zone for host in hosts.all_hosts(tx)}:
                raise BadRequest(f"The requested availability zone {said[:80]!r} is not available")
    return operation.Zone(said)


def offload(_request: Request, server: Server, _value: Any) -> Reply:
    """There is no server to do it to: one that is shelved has given its host back already. Raises `InvalidState`."""
    raise InvalidState(f"Cannot 'shelveOffload' instance {server.id} while it is in vm_state {server.vm_state}")
