"""Waiting for room: how long a server may, and in which order those that wait are looked at. Pure.

Projects take turns, and within a project who came first goes first; whoever does not fit yet is passed over. So one project
with a hundred servers in the queue holds up no other, and a large server holds up no small one.
"""

from __future__ import annotations

import dataclasses
import heapq
import re
from collections.abc import Iterable, Mapping

from lamina.model.errors import BadRequest

#: the extra spec of a flavor, and the hint of a creation, that give the seconds
WORD = "lamina:wait"
#: seconds that a server may wait: thirty days
LONGEST = 30 * 86400


def parse_wait(text: str, what: str) -> float:
    """Seconds to wait for room. Raises `BadRequest` naming `what`."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= LONGEST:
        raise BadRequest(f"{what}: {text[:80]!r} is not a whole number of seconds from 1 to {LONGEST}")
    return float(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """A server in the queue. Times are seconds since the epoch."""

    server_id: str
    project_id: str
    queued_at: float
    expires_at: float
    #: why it had no room when it was last looked at
    reason: str


def in_order(waiting: Iterable[Waiting], served_at: Mapping[str, float]) -> list[Waiting]:
    """Those who wait, as they would be served if all fitted.

    `served_at` is when each project last got something out of the queue; one that never did goes first.
    """
    of_project: dict[str, list[Waiting]] = {}
    for one in sorted(waiting, key=lambda w: (w.queued_at, w.server_id), reverse=True):
        of_project.setdefault(one.project_id, []).append(one)
    line = [(served_at.get(project, 0.0), own[-1].queued_at, project) for project, own in of_project.items()]
    heapq.heapify(line)
    latest = max(served_at.values(), default=0.0)
    ordered = []
    while line:
        _, _, project = heapq.heappop(line)
        own = of_project[project]
        ordered.append(own.pop())
        if own:
            latest += 1.0
            heapq.heappush(line, (latest, own[-1].queued_at, project))
    return ordered
