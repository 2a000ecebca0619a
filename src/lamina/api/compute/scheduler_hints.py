"""Hints to the scheduler that come with a creation (Compute API reference, "Create Server").

``group`` is obeyed, and ``lamina:wait``, Lamina's own: seconds to wait for room. What filters that Nova does not enable by
default would read is checked for its form and has no effect, as with Nova; so have hints of any other name.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute import server_groups
from lamina.api.routing import Request
from lamina.model import ids
from lamina.model.errors import BadRequest, NotFound
from lamina.model.queueing import WORD, parse_wait


class Hints(msgspec.Struct):
    group: str | None = None
    different_host: str | list[str] = []
    same_host: str | list[str] = []
    query: str | dict[str, Any] = ""
    target_cell: str = ""
    different_cell: str | list[str] = []
    build_near_host_ip: str = ""
    cidr: str = ""
    wait: int | str | None = msgspec.field(default=None, name=WORD)


def wait_of(hints: Hints) -> float | None:
    """How many seconds the new servers wait for room. Raises `BadRequest`."""
    return None if hints.wait is None else parse_wait(str(hints.wait), f"os:scheduler_hints.{WORD}")


def group_of(tx: sa.Connection, request: Request, hints: Hints) -> str | None:
    """The id of the group that the new servers are to be in. Raises `BadRequest`."""
    for what, said in (("different_host", hints.different_host), ("same_host", hints.same_host)):
        for server_id in [said] if isinstance(said, str) else said:
            ids.parse_uuid(server_id, f"os:scheduler_hints.{what}")
    if hints.group is None:
        return None
    try:
        return server_groups.find(tx, request, ids.parse_uuid(hints.group, "os:scheduler_hints.group")).id
    except NotFound as error:
        raise BadRequest(f"os:scheduler_hints.group: {error.message}") from None
