"""What every answer of the Network API has in common: fault bodies, filters, fields, pages.

Sources: Networking API v2.0 reference, "Filtering and Column Selection", "Pagination"; neutron/api/api_common.py for
the shape of errors.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from lamina.api.routing import Reply, Request, Version
from lamina.model.errors import BadRequest, LaminaError, NotFound

PREFIX = "/network/v2.0"


def fault(error: LaminaError, request_id: str, version: Version) -> Reply:
    """``{"NeutronError": {"type", "message", "detail"}}``."""
    return Reply(error.status, {"NeutronError": {"type": type(error).__name__, "message": error.message, "detail": ""}})


def moment(seconds: float) -> str:
    """``2026-01-31T12:00:00Z``"""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def listed(request: Request, collection: str, items: Sequence[dict[str, Any]]) -> Reply:
    """The page of `items` that the query asks for. Raises `BadRequest` for a limit or a marker that is none.

    A parameter that names an attribute keeps the items whose attribute is one of its values; others say nothing here.
    """
    found = [item for item in items if _matches(request, item)]
    marker, limit = request.value("marker"), _limit(request)
    if marker is not None:
        at = next((index for index, item in enumerate(found) if item["id"] == marker), None)
        if at is None:
            raise BadRequest(f"marker: {marker[:80]!r} is not the id of anything listed here")
        found = found[at + 1 :]
    page = found if limit is None else found[:limit]
    body: dict[str, Any] = {collection: [_with_fields(request, item) for item in page]}
    if len(page) < len(found):
        query = [(key, value) for key, value in request.query if key != "marker"] + [("marker", page[-1]["id"])]
        href = f"{request.plane.settings.public_url}{PREFIX}/{collection}?{urlencode(query)}"
        body[f"{collection}_links"] = [{"rel": "next", "href": href}]
    return Reply(200, body)


def shown(request: Request, singular: str, items: Sequence[dict[str, Any]]) -> Reply:
    """The item that the path names. Raises `NotFound`."""
    return Reply(200, {singular: _with_fields(request, one(request, singular, items))})


def one(request: Request, singular: str, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Raises `NotFound`."""
    found = next((item for item in items if item["id"] == request.path["id"]), None)
    if found is None:
        raise NotFound(f"{singular.capitalize()} {request.path['id'][:80]} could not be found.")
    return found


def _matches(request: Request, item: dict[str, Any]) -> bool:
    for name in {key for key, _ in request.query} & item.keys():
        value = item[name]
        if isinstance(value, list | dict):
            continue
        told = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        asked = [said.lower() if isinstance(value, bool) else said for said in request.values(name)]
        if told not in asked:
            return False
    return True


def _with_fields(request: Request, item: dict[str, Any]) -> dict[str, Any]:
    fields = request.values("fields")
    return {name: value for name, value in item.items() if name in fields} if fields else item


def _limit(request: Request) -> int | None:
    """The most items of the page; None where all are wanted. Raises `BadRequest`."""
    text = request.value("limit")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(f"limit: {text[:80]!r} is not a whole number from 0 on")
    return int(text) or None
