"""The audit trail, in CADF's form."""

from __future__ import annotations

import datetime

from lamina.api.routing import Reply, Request
from lamina.model.audit import Outcome, cadf
from lamina.model.errors import BadRequest
from lamina.store import audit
from lamina.store.audit import Sought

#: most events in one answer
MOST = 1000
_WORDS = ("user", "project", "target", "action", "request")


def _moment(request: Request, name: str) -> float | None:
    text = request.value(name)
    if text is None:
        return None
    try:
        parsed = datetime.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"{name}: {text[:80]!r} is not a moment like 2026-03-01T12:00:00Z") from error


def _number(request: Request, name: str) -> int | None:
    text = request.value(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise BadRequest(f"{name}: {text[:80]!r} is not a whole number from 0 on")
    return int(text)


def _outcome(text: str | None) -> Outcome | None:
    if text is None:
        return None
    try:
        return Outcome(text)
    except ValueError as error:
        raise BadRequest(f"outcome: {text[:80]!r} is none of {', '.join(Outcome)}") from error


def index(request: Request) -> Reply:
    """Events, the newest first or, with ``sort_dir=asc``, the oldest; ``next`` is the marker of what follows.

    ``since`` and ``until`` are moments (UTC where they do not say), ``user`` an id or a name, ``project`` and ``target`` ids,
    ``action`` a part of it, ``request`` a request's id or its global one.
    """
    direction = request.value("sort_dir") or "desc"
    if direction not in ("asc", "desc"):
        raise BadRequest("sort_dir: either 'asc' or 'desc'")
    said = _number(request, "limit")
    limit = min(MOST if said is None else said, MOST)
    sought = Sought(
        since=_moment(request, "since"),
        until=_moment(request, "until"),
        outcome=_outcome(request.value("outcome")),
        **{word: request.value(word) for word in _WORDS},
    )
    with request.plane.db.read() as tx:
        found = audit.page(tx, sought, limit=limit, marker=_number(request, "marker"), direction="asc" if direction == "asc" else "desc")
    following = found[-1][0] if found and len(found) == limit else None
    return Reply(200, {"events": [cadf(event) for _, event in found], "next": following})
