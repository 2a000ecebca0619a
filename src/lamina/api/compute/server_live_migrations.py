"""What a caller may say to move a running server (Compute API reference, "Live-Migrate Server (os-migrateLive Action)")."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.compute.answers import as_bool
from lamina.api.compute.servers import caller_of
from lamina.api.routing import Reply, Request, Version
from lamina.model import decoding
from lamina.model.errors import BadRequest
from lamina.model.servers import Server
from lamina.operations import live_migrate as operation
from lamina.store import hosts

#: block migration may be left to the server, and over-commitment of disks is no longer asked about
AUTO = Version(2, 25)
#: the rule for naming a host
TO_HOST = "os_compute_api:os-migrate-server:migrate_live:host"
#: a host may be named without the scheduler's consent, and no longer
FORCE, NO_FORCE = Version(2, 30), Version(2, 68)


class LiveMigration(msgspec.Struct, forbid_unknown_fields=True):
    host: str | None
    block_migration: bool | str
    disk_over_commit: bool | str | UnsetType = UNSET
    force: bool | str | UnsetType = UNSET


def live_migrate(request: Request, server: Server, value: Any) -> Reply:
    """Raises `BadRequest`, `InvalidState`."""
    try:
        body = decoding.from_plain(value, LiveMigration)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for os-migrateLive: {error}") from error
    if (body.disk_over_commit is UNSET) != (request.version >= AUTO):
        raise BadRequest(f"os-migrateLive.disk_over_commit: it is said up to version 2.24, and not from {AUTO} on")
    if body.disk_over_commit is not UNSET:
        as_bool(body.disk_over_commit, "disk_over_commit")
    if body.force is not UNSET:
        if not FORCE <= request.version < NO_FORCE:
            raise BadRequest("os-migrateLive.force: it is said in versions 2.30 to 2.67")
        if as_bool(body.force, "force") and body.host is None:
            raise BadRequest("os-migrateLive.force: only a host that is named can be forced")
    _must_carry_disks(request, body.block_migration)
    if body.host is not None:
        request.enforce(TO_HOST)
        with request.plane.db.read() as tx:
            if hosts.find_host(tx, body.host) is None:
                raise BadRequest(f"os-migrateLive.host: Compute host {body.host[:80]} could not be found.")
    operation.request(request.plane, caller_of(request), server.id, host=body.host)
    return Reply(202)


def _must_carry_disks(request: Request, said: bool | str) -> None:
    if said == "auto" and request.version >= AUTO:
        return
    if not as_bool(said, "block_migration"):
        raise BadRequest("os-migrateLive.block_migration: disks are local to their hosts here and go along; say true, or 'auto'")
