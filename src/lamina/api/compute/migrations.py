"""Migrations, resizes included (Compute API reference, "Migrations" and "Server migrations")."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lamina.api.compute.answers import MICROSECOND, MOST, links, next_link, page_limit, parse_moment, precise_moment, read
from lamina.api.compute.servers import find, must_be_unlocked
from lamina.api.routing import ADMIN, Reply, Request, Route, Version
from lamina.model.errors import BadRequest, InvalidState, NotFound, NotImplementedHere
from lamina.model.servers import LIVE_MIGRATION, Migration, MigrationStatus
from lamina.operations import live_migrate
from lamina.store import servers as store
from lamina.store.tables.compute import migrations

WITH_LINKS = Version(2, 23)
PAGES = Version(2, 59)
BEFORE = Version(2, 66)
WITH_OWNERS = Version(2, 80)
_FILTERS: dict[str, sa.Column[Any]] = {
    "status": migrations.c.status,
    "instance_uuid": migrations.c.server_id,
    "migration_type": migrations.c.type,
    "source_compute": migrations.c.source_host,
}
_FILTERS_BY_OWNER: dict[str, sa.Column[Any]] = {"user_id": migrations.c.user_id, "project_id": migrations.c.project_id}
#: what a live migration that is under way is in
_MOVING = tuple(status for status in MigrationStatus if not status.is_over)
#: from when on one can be forced and aborted, and from when on before it has begun to move
FORCE, ABORT, ABORT_EARLY = Version(2, 22), Version(2, 24), Version(2, 65)
_EARLY = (MigrationStatus.ACCEPTED, MigrationStatus.PREPARING)


def _view(request: Request, migration: Migration) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": migration.seq,
        "instance_uuid": migration.server_id,
        "source_compute": migration.source_host,
        "source_node": migration.source_host,
        "dest_compute": migration.dest_host,
        "dest_node": migration.dest_host,
        "dest_host": migration.dest_host,
        "status": migration.status,
        "old_instance_type_id": migration.old_flavor.id,
        "new_instance_type_id": migration.new_flavor.id,
        "created_at": precise_moment(migration.created_at),
        "updated_at": precise_moment(migration.updated_at),
    }
    if request.version >= WITH_LINKS:
        shown |= {"migration_type": migration.type, "links": links(request, f"servers/{migration.server_id}/migrations", migration.seq)}
    if request.version >= PAGES:
        shown["uuid"] = migration.id
    if request.version >= WITH_OWNERS:
        shown |= {"user_id": migration.user_id, "project_id": migration.project_id}
    return shown


def index(request: Request) -> Reply:
    conditions: list[sa.ColumnElement[bool]] = []
    for name, column in (_FILTERS | _FILTERS_BY_OWNER if request.version >= WITH_OWNERS else _FILTERS).items():
        value = request.value(name)
        if value is not None:
            conditions.append(column == value)
    host = request.value("host")
    if host is not None:
        conditions.append(sa.or_(migrations.c.source_host == host, migrations.c.dest_host == host))
    since, before = request.value("changes-since"), request.value("changes-before")
    if since is not None and request.version >= PAGES:
        conditions.append(migrations.c.updated_at > parse_moment(since, "changes-since") - MICROSECOND)
    if before is not None and request.version >= BEFORE:
        conditions.append(migrations.c.updated_at < parse_moment(before, "changes-before") + MICROSECOND)
    limit, marker = (page_limit(request), request.value("marker")) if request.version >= PAGES else (MOST, None)
    with request.plane.db.read() as tx:
        found = store.migrations_page(tx, conditions, limit=limit, marker=marker)
    more = next_link(request, "/os-migrations", found, limit, found[-1].id if found else "") if request.version >= PAGES else {}
    body: dict[str, Any] = {"migrations": [_view(request, m) for m in found]}
    return Reply(200, body | ({"migrations_links": more["links"]} if more else {}))


def _moving(request: Request) -> list[Migration]:
    with request.plane.db.read() as tx:
        server = find(tx, request)
        live = [migrations.c.type == LIVE_MIGRATION, migrations.c.status.in_(_MOVING)]
        return store.migrations_page(tx, [migrations.c.server_id == server.id, *live])


def of_server(request: Request) -> Reply:
    """The live migrations that are under way."""
    return Reply(200, {"migrations": [_server_view(request, m) for m in _moving(request)]})


def _asked_for(request: Request) -> Migration:
    wanted = request.path["migration"]
    for migration in _moving(request):
        if wanted in (str(migration.seq), migration.id):
            return migration
    raise NotFound(f"In-progress live migration {wanted[:80]} is not found for server {request.path['server'][:80]}.")


def show(request: Request) -> Reply:
    return Reply(200, {"migration": _server_view(request, _asked_for(request))})


def abort(request: Request) -> Reply:
    """Raises `NotFound`, `BadRequest`, `Conflict`."""
    migration = _of_unlocked(request)
    if migration.status is MigrationStatus.POST_MIGRATING or (migration.status in _EARLY and request.version < ABORT_EARLY):
        raise BadRequest(f"Migration {migration.seq} of instance {migration.server_id} is {migration.status}: it cannot be aborted now.")
    try:
        live_migrate.abort(request.plane, migration)
    except InvalidState as error:
        raise BadRequest(error.message) from error
    return Reply(202)


def act(request: Request) -> Reply:
    """Raises `NotFound`, `BadRequest`, `NotImplementedHere`."""
    _of_unlocked(request)
    if read(request, dict[str, Any]) != {"force_complete": None}:
        raise BadRequest("The one action on a migration is force_complete, which takes null.")
    raise NotImplementedHere("A live migration cannot be forced to its end here: it ends by itself, or is aborted.")


def _of_unlocked(request: Request) -> Migration:
    with request.plane.db.read() as tx:
        must_be_unlocked(request, find(tx, request))
    return _asked_for(request)


def _server_view(request: Request, migration: Migration) -> dict[str, Any]:
    shown = _view(request, migration)
    for name in ("instance_uuid", "old_instance_type_id", "new_instance_type_id", "migration_type", "links"):
        shown.pop(name, None)
    figures = ("memory_total_bytes", "memory_processed_bytes", "memory_remaining_bytes")
    disks = ("disk_total_bytes", "disk_processed_bytes", "disk_remaining_bytes")
    known = migration.progress or {}
    return shown | {"server_uuid": migration.server_id} | {name: known.get(name) for name in (*figures, *disks)}


ROUTES = (
    Route(
        "GET",
        "/os-migrations",
        index,
        "os_compute_api:os-migrations:index",
        ADMIN,
        query=("changes-before", "changes-since", "host", "limit", "marker"),
    ),
    Route("GET", "/servers/{server}/migrations", of_server, "os_compute_api:servers:migrations:index", ADMIN, since=WITH_LINKS),
    Route("GET", "/servers/{server}/migrations/{migration}", show, "os_compute_api:servers:migrations:show", ADMIN, since=WITH_LINKS),
    Route(
        "DELETE",
        "/servers/{server}/migrations/{migration}",
        abort,
        "os_compute_api:servers:migrations:delete",
        ADMIN,
        since=ABORT,
        gives=(202,),
    ),
    Route(
        "POST",
        "/servers/{server}/migrations/{migration}/action",
        act,
        "os_compute_api:servers:migrations:force_complete",
        ADMIN,
        since=FORCE,
        takes=(dict[str, Any],),
        gives=(),
        refuses=(501,),
        actions=("force_complete",),
    ),
)
