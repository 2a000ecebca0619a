"""Repairs: what was out of order and was mended, and a look at everything now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lamina.api.routing import Reply, Request
from lamina.model.errors import BadRequest
from lamina.model.repairs import Repair
from lamina.operations import reconcile
from lamina.store import hosts, repairs

#: most repairs in one answer
MOST = 1000


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    #: this host only; else all hosts, and what is paid for
    host: str | None = None
    #: False only tells what would be done
    mend: bool = True
    #: the records are true, also about hosts that know more than they do
    trust_records: bool = False


def _view(repair: Repair) -> dict[str, Any]:
    return {
        "what": str(repair.what),
        "host": repair.host,
        "object": repair.object,
        "server_id": repair.server_id,
        "why": repair.why,
        "operation_id": repair.operation_id,
    }


def _number(text: str, name: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise BadRequest(f"{name}: {text[:80]!r} is not a whole number from 0 on")
    return min(int(text), most)


def index(request: Request) -> Reply:
    """What was mended, the newest first; ``?host=NAME``, ``limit`` and ``marker`` (an id), ``next`` being the marker of what follows."""
    limit = _number(request.value("limit") or str(MOST), "limit", MOST)
    marker = request.value("marker")
    behind = None if marker is None else _number(marker, "marker", 2**62)
    with request.plane.db.read() as tx:
        found = repairs.page(tx, host=request.value("host"), limit=limit, marker=behind)
    views = [{"id": row.id, "at": row.at} | _view(row.repair) | {"outcome": row.outcome, "error": row.error} for row in found]
    return Reply(200, {"repairs": views, "next": found[-1].id if found and len(found) == limit else None})


def create(request: Request) -> Reply:
    """Look at one host, or at everything, now. ``waiting`` is looked at once more before it is removed."""
    said = request.json(Ask)
    if said.trust_records and not said.mend:
        raise BadRequest("trust_records: it goes with mend")
    with request.plane.db.read() as tx:
        names = [host.name for host in hosts.all_hosts(tx)] if said.host is None else [hosts.get_host(tx, said.host).name]
    if said.trust_records:
        for name in names:
            reconcile.trust(request.plane, name)
    survey = reconcile.everything(request.plane, None if said.host is None else names, mend=said.mend)
    return Reply(
        200,
        {
            "mend": said.mend,
            "repairs": _views(repair for look in survey.looks for repair in look.repairs),
            "waiting": _views(repair for look in survey.looks for repair in look.waiting),
            "silent": list(survey.silent),
        },
    )


def _views(found: Iterable[Repair]) -> list[dict[str, Any]]:
    return [_view(repair) for repair in found]
