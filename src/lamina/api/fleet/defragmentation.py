"""Defragmentation: what it would take to make room for more, or to have less free framebuffer that is of no use."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from lamina.api.routing import Reply, Request
from lamina.model.errors import BadRequest, NotFound
from lamina.model.flavors import Flavor
from lamina.operations import defragmentation
from lamina.scheduling.defragmentation import Standing
from lamina.store import flavors

Few = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Goal(msgspec.Struct, forbid_unknown_fields=True):
    #: id or name of the flavor to make room for, and for how many servers of it
    flavor: str | None = None
    count: Few | None = None
    lower: bool = False
    most_moves: Few = 20
    #: whether servers that run have to stay where they are
    only_stopped: bool = False


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "free_mb": standing.free_mb,
        "useless_mb": standing.useless_mb,
        "fragmentation": round(standing.useless_share, 4),
        "fits": standing.fits,
    }


def plan(request: Request) -> Reply:
    """A plan, made anew at each call; nothing is changed. Raises `BadRequest`."""
    goal = request.json(Goal)
    if (goal.flavor is not None) == goal.lower:
        raise BadRequest("Say either a flavor to make room for, or lower: true.")
    if goal.lower and goal.count is not None:
        raise BadRequest("count: it goes with a flavor")
    room_for = (_flavor(request, goal.flavor), goal.count or 1) if goal.flavor is not None else None
    made = defragmentation.plan(request.plane, room_for, most_moves=goal.most_moves, only_stopped=goal.only_stopped)
    view = {
        "flavor": room_for[0].name if room_for else None,
        "count": room_for[1] if room_for else None,
        "before": _standing(made.before),
        "after": _standing(made.after),
        "framebuffer_mb": sum(move.framebuffer_mb for move in made.moves),
        "stun_seconds": round(sum(move.stun_seconds for move in made.moves), 1),
        "moves": [
            {
                "server_id": move.server_id,
                "server_name": move.server_name,
                "from": {"host": move.from_host, "gpus": move.from_gpus},
                "to": {"host": move.to_host, "gpus": move.to_gpus},
                "types": move.types,
                "framebuffer_mb": move.framebuffer_mb,
                "stun_seconds": move.stun_seconds,
            }
            for move in made.moves
        ],
    }
    return Reply(200, {"plan": view})


def _flavor(request: Request, said: str) -> Flavor:
    with request.plane.db.read() as tx:
        try:
            return flavors.get(tx, said)
        except NotFound:
            pass
        try:
            return flavors.get_named(tx, said)
        except NotFound as error:
            raise BadRequest(f"flavor: there is no flavor with the id or the name {said[:80]!r}") from error
