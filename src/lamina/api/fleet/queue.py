"""The queue: servers that wait for room, of all projects."""

from __future__ import annotations

from lamina.api.routing import Reply, Request
from lamina.operations import queueing


def index(request: Request) -> Reply:
    """Those who wait, in the order in which they are looked at."""
    with request.plane.db.read() as tx:
        places = queueing.places(tx)
    return Reply(
        200,
        {
            "queue": [
                {
                    "position": place,
                    "server_id": one.server_id,
                    "project_id": one.project_id,
                    "queued_at": one.queued_at,
                    "expires_at": one.expires_at,
                    "reason": one.reason,
                }
                for place, one in sorted(places.values(), key=lambda found: found[0])
            ]
        },
    )
