"""What every answer of the Compute API has in common: fault bodies, times, links, pages.

Sources: Compute API guide, "Faults" and "Paginated collections"; nova/api/openstack/wsgi.py for the names of faults.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from lamina.api.routing import Microversions, Reply, Request, Version, whole_seconds
from lamina.model.errors import BadRequest, LaminaError, TooManyRequests

T = TypeVar("T")

PREFIX = "/compute/v2.1"
MICROVERSIONS = Microversions("compute", Version(2, 1), Version(2, 96), ("X-OpenStack-Nova-API-Version",))
#: most things in one page (Nova's max_limit)
MOST = 1000
#: moments are shown to this, and compared no closer: who asks with a moment he was shown finds what he was shown
MICROSECOND = 1e-6

#: an escaped NUL in JSON text, which no column of a database takes; a backslash before the escape is none
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    406: "notAcceptable",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def fault(error: LaminaError, _request_id: str, _version: Version) -> Reply:
    """``{"itemNotFound": {"code": 404, "message": …}}``; with ``retryAfter``, text as Nova has it, where it is worth asking again."""
    told: dict[str, int | str] = {"code": error.status, "message": error.message}
    if isinstance(error, TooManyRequests):
        told["retryAfter"] = str(whole_seconds(error))
    return Reply(error.status, {_FAULTS.get(error.status, "computeFault"): told})


def read(request: Request, model: type[T]) -> T:
    """The body as `model`. Raises `BadRequest` that names the field, one with a NUL character in it included."""
    body = request.json(model)
    if _NUL.search(request.body):
        raise BadRequest(f"Invalid request body: a NUL character, which no name or text has - at `{_nul_at(request.json(object), '$')}`")
    return body


def _nul_at(value: object, path: str) -> str:
    """Where in a decoded body the first NUL is, as msgspec writes a path; empty where there is none."""
    if isinstance(value, str):
        return path if "\0" in value else ""
    if isinstance(value, dict):
        if any("\0" in key for key in value):
            return f"{path}.keys()"
        return next((found for key, inner in value.items() if (found := _nul_at(inner, f"{path}.{key}"))), "")
    if isinstance(value, list):
        return next((found for index, inner in enumerate(value) if (found := _nul_at(inner, f"{path}[{index}]"))), "")
    return ""


def moment(seconds: float | None) -> str | None:
    """``2026-01-31T12:00:00Z``"""
    return None if seconds is None else datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise_moment(seconds: float | None) -> str | None:
    """``2026-01-31T12:00:00.000000``, as instance actions, services and migrations have it."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def parse_moment(text: str, what: str) -> float:
    """Seconds since the epoch of an ISO 8601 moment, UTC unless it says otherwise. Raises `BadRequest`.

    In an address a "+" that nobody encoded arrives as a space; behind a time of day it can only have been a "+".
    """
    try:
        parsed = datetime.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise BadRequest(f"{what}: {text[:80]!r} is not a time in ISO 8601") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()


def links(request: Request, noun: str, key: object) -> list[dict[str, str]]:
    url = request.plane.settings.public_url
    return [{"rel": "self", "href": f"{url}{PREFIX}/{noun}/{key}"}, {"rel": "bookmark", "href": f"{url}/compute/{noun}/{key}"}]


def number_of(uuid: str) -> int:
    """What clients from before 2.53 know a host or service by: always the same, and exact in every JSON reader."""
    return int(uuid.replace("-", "")[:12], 16)


def page_limit(request: Request) -> int:
    """The most things that the page has, which may be none. Raises `BadRequest`."""
    text = request.value("limit")
    if text is None:
        return MOST
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(f"limit: {text[:80]!r} is not a whole number from 0 on")
    return min(int(text), MOST)


def next_link(request: Request, path: str, found: Sequence[Any], limit: int, marker: str) -> dict[str, Any]:
    """The link to the next page, under the collection's name; nothing on the last page."""
    if not found or len(found) < limit:
        return {}
    query = [(key, value) for key, value in request.query if key != "marker"] + [("marker", marker)]
    href = f"{request.plane.settings.public_url}{PREFIX}{path}?{urlencode(query)}"
    return {"links": [{"rel": "next", "href": href}]}


def as_bool(value: bool | str, what: str) -> bool:
    """A truth value, or a word as oslo.utils' strutils understands it. Raises `BadRequest`."""
    if isinstance(value, bool):
        return value
    lowered = value.strip().lower()
    if lowered in ("1", "t", "true", "on", "y", "yes"):
        return True
    if lowered in ("0", "f", "false", "off", "n", "no"):
        return False
    raise BadRequest(f"{what}: {value[:80]!r} is neither true nor false")


