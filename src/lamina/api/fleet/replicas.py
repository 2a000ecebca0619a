"""The control planes of this fleet."""

from __future__ import annotations

from lamina.api.routing import Reply, Request
from lamina.operations.presence import FORGET, SILENT
from lamina.store import replicas


def index(request: Request) -> Reply:
    """Every control plane on this database; one without a sign of life is `down` for a day, and then forgotten.

    None where the records are in SQLite, which one process has for itself.
    """
    now = request.plane.clock.now()
    with request.plane.db.read() as tx:
        known = replicas.heard_since(tx, now - FORGET)
    return Reply(
        200,
        {
            "replicas": [
                {
                    "id": one.id,
                    "url": one.public_url,
                    "agents_url": one.agents_url,
                    "version": one.version,
                    "state": "up" if one.heard_at >= now - SILENT else "down",
                    "started_at": one.started_at,
                    "last_seen_at": one.heard_at,
                    "this": one.id == request.plane.runner.me,
                }
                for one in known
            ]
        },
    )
