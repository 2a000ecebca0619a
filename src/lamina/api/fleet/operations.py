"""Operations as the log has them, and the operator's word on a stuck one."""

from __future__ import annotations

from typing import Any

import msgspec

from lamina.api.routing import Reply, Request
from lamina.model.errors import BadRequest
from lamina.store import sagas
from lamina.store.sagas import EventRow, SagaRow


class Abandon(msgspec.Struct, forbid_unknown_fields=True):
    reason: str


def _view(row: SagaRow, events: list[EventRow]) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "action": row.action,
        "server_id": row.subject,
        "state": row.state,
        "error": _read(row.error, dict),
        "request_id": row.request_id,
        "global_request_id": row.global_request_id,
        "project_id": row.project_id,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "abandoned_reason": row.abandoned_reason,
        "owner": row.owner,
        "steps": _read(row.steps, list) or [],
        "events": [_line(event) for event in events],
    }


def _line(event: EventRow) -> dict[str, Any]:
    told = {"step": event.step, "event": event.event, "host": event.host}
    return told | {"error": _read(event.error, dict), "finished_at": event.finished_at}


def _read(value: Any, kind: type) -> Any:
    """What is shown of a value of an operation that may be damaged."""
    return value if isinstance(value, kind) else None


def index(request: Request) -> Reply:
    """Operations that have not ended, or every one of ``?server_id=ID``; with ``?events=false`` without what happened in each.

    ``owner`` is the control plane that carries it on.
    """
    server_id, told = request.value("server_id"), request.value("events") != "false"
    with request.plane.db.read() as tx:
        rows = sagas.of_subject(tx, server_id) if server_id is not None else sagas.unfinished(tx)
        events: dict[str, list[EventRow]] = {row.id: [] for row in rows}
        for event in sagas.events(tx, events) if told else ():
            events[event.saga_id].append(event)
    return Reply(200, {"operations": [_view(row, events[row.id]) for row in rows]})


def resume(request: Request) -> Reply:
    """Let a stuck operation try again."""
    request.plane.runner.resume(request.path["operation"])
    return Reply(202)


def abandon(request: Request) -> Reply:
    """Give a stuck operation up; the reason is kept."""
    reason = request.json(Abandon).reason.strip()
    if not 1 <= len(reason) <= 1000:
        raise BadRequest("reason: say why in 1 to 1000 characters")
    request.plane.runner.abandon(request.path["operation"], reason)
    return Reply(202)
