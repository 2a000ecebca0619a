"""Instance actions, served from the operations' own log: an action is a request's operations, an event a line of the log.

Source: Compute API reference, "Servers actions", versions 2.21 to 2.84.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lamina.api.compute.answers import MICROSECOND, next_link, page_limit, parse_moment, precise_moment
from lamina.api.compute.server_views import host_id
from lamina.api.routing import READER, Reply, Request, Route, Version
from lamina.model import ids
from lamina.model.errors import BadRequest, NotFound
from lamina.model.servers import Server
from lamina.saga.log import ENDED, Event, State
from lamina.store import sagas
from lamina.store import servers as store
from lamina.store.sagas import EventRow, SagaRow

DELETED_TOO = Version(2, 21)
EVENTS_FOR_OWNERS = Version(2, 51)
PAGES = Version(2, 58)
HOSTS = Version(2, 62)
BEFORE = Version(2, 66)
DETAILS = Version(2, 84)


def _server(tx: sa.Connection, request: Request) -> Server:
    server_id = request.path["server"]
    if not ids.is_uuid(server_id):
        raise NotFound(f"Instance {server_id[:80]} could not be found.")
    project_id = None if request.context.is_admin else request.context.project_id or ""
    return store.get(tx, ids.parse_uuid(server_id), project_id, deleted=request.version >= DELETED_TOO)


def _by_request(rows: list[SagaRow]) -> dict[str, list[SagaRow]]:
    """Request id -> its operations, oldest first; the newest request comes first."""
    found: dict[str, list[SagaRow]] = {}
    for row in rows:
        found.setdefault(row.request_id, []).append(row)
    return dict(reversed(found.items()))


def _view(request: Request, attempts: list[SagaRow]) -> dict[str, Any]:
    first, last = attempts[0], attempts[-1]
    failed = State(last.state) not in (State.DONE, State.RUNNING, State.WAITING)
    shown = {
        "action": first.action,
        "instance_uuid": first.subject,
        "request_id": first.request_id,
        "user_id": first.user_id,
        "project_id": first.project_id,
        "start_time": precise_moment(first.created_at),
        "message": "Error" if failed else None,
    }
    if request.version >= PAGES:
        shown["updated_at"] = precise_moment(last.updated_at)
    return shown


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        server = _server(tx, request)
        actions = list(_by_request(sagas.of_subject(tx, server.id)).values())
    more: dict[str, Any] = {}
    if request.version >= PAGES:
        actions = _changed(request, actions)
        marker, limit = request.value("marker"), page_limit(request)
        if marker is not None:
            order = [attempts[0].request_id for attempts in actions]
            if marker not in order:
                raise BadRequest(f"marker [{marker[:80]}] not found")
            actions = actions[order.index(marker) + 1 :]
        actions = actions[:limit]
        path = f"/servers/{server.id}/os-instance-actions"
        link = next_link(request, path, actions, limit, actions[-1][0].request_id if actions else "")
        more = {"links": link["links"]} if link else {}
    return Reply(200, {"instanceActions": [_view(request, attempts) for attempts in actions]} | more)


def _changed(request: Request, actions: list[list[SagaRow]]) -> list[list[SagaRow]]:
    since, before = request.value("changes-since"), request.value("changes-before")
    if since is not None:
        moment = parse_moment(since, "changes-since")
        actions = [a for a in actions if a[-1].updated_at > moment - MICROSECOND]
    if before is not None and request.version >= BEFORE:
        moment = parse_moment(before, "changes-before")
        actions = [a for a in actions if a[-1].updated_at < moment + MICROSECOND]
    return actions


def show(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        server = _server(tx, request)
        attempts = _by_request(sagas.of_subject(tx, server.id)).get(request.path["request"])
        if attempts is None:
            raise NotFound(f"Action for request_id {request.path['request'][:80]} on instance {server.id} not found")
        lines = sagas.events(tx, [row.id for row in attempts])
    shown = _view(request, attempts)
    if request.version >= EVENTS_FOR_OWNERS or request.context.is_admin:
        ordered = sorted(lines, key=lambda line: (-line.finished_at, -line.number))
        shown["events"] = _running(attempts) + [_event(request, server, attempts, line) for line in ordered]
    return Reply(200, {"instanceAction": shown})


def _running(attempts: list[SagaRow]) -> list[dict[str, Any]]:
    """An operation that has not written a line yet is under way all the same."""
    last = attempts[-1]
    if State(last.state) in ENDED or State(last.state) is State.STUCK:
        return []
    return [{"event": f"{last.kind}: under way", "start_time": precise_moment(last.updated_at), "finish_time": None, "result": None}]


def _event(request: Request, server: Server, attempts: list[SagaRow], line: EventRow) -> dict[str, Any]:
    kind = next(row.kind for row in attempts if row.id == line.saga_id)
    failed = line.event in (Event.FAILED, Event.UNDO_FAILED)
    undone = " (undone)" if line.event in (Event.UNDONE, Event.UNDO_FAILED) else ""
    shown: dict[str, Any] = {
        "event": f"{kind}: {line.step}{undone}",
        "start_time": precise_moment(line.started_at),
        "finish_time": precise_moment(line.finished_at),
        "result": "Error" if failed else "Success",
    }
    message = line.error["message"] if failed and isinstance(line.error, dict) else None
    if request.context.is_admin:
        shown["traceback"] = message
    if request.version >= HOSTS:
        shown["hostId"] = host_id(server.project_id, line.host)
        if request.context.is_admin:
            shown["host"] = line.host
    if request.version >= DETAILS:
        shown["details"] = message
    return shown


RULE = "os_compute_api:os-instance-actions"
ROUTES = (
    Route(
        "GET",
        "/servers/{server}/os-instance-actions",
        index,
        f"{RULE}:list",
        READER,
        query=("changes-before", "changes-since", "limit", "marker"),
    ),
    Route("GET", "/servers/{server}/os-instance-actions/{request}", show, f"{RULE}:show", READER),
)
