"""What every call of the Placement API shares: how it is guarded, how it answers, how it errs.

Source: Placement API reference, "Errors" and "REST API Version History". Microversion 1.15 brought the headers
``last-modified`` and ``cache-control``, 1.23 the ``code`` of an error.
"""

from __future__ import annotations

import email.utils
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from lamina.api.placement.schema_words import in_words_of_json_schema
from lamina.api.reasons import reason
from lamina.api.routing import PROJECT_ADMIN, Handler, Microversions, Reply, Request, Route, Version
from lamina.model import decoding, errors
from lamina.model.errors import BadRequest, LaminaError, NotAcceptable, UnsupportedMedia

T = TypeVar("T")

PREFIX = "/placement"
MICROVERSIONS = Microversions("placement", Version(1, 0), Version(1, 39), vary="openstack-api-version")
#: most traits, aggregates, inventories, providers or consumers that one body lists
MOST_LISTED = 1000
UNDEFINED = "placement.undefined_code"

_CODES: Mapping[type[LaminaError], str] = {
    errors.ConcurrentUpdate: "placement.concurrent_update",
    errors.AlreadyExists: "placement.duplicate_name",
    errors.InventoryInUse: "placement.inventory.inuse",
    errors.ProviderInUse: "placement.resource_provider.inuse",
    errors.ProviderHasChildren: "placement.resource_provider.cannot_delete_parent",
}


class UnknownProvider(BadRequest):
    """A body that speaks of a provider that does not exist."""

    code = "placement.resource_provider.not_found"


class BadValue(BadRequest):
    """A query parameter whose value means nothing."""

    code = "placement.query.bad_value"


class MissingValue(BadRequest):
    """A query parameter that has to be there."""

    code = "placement.query.missing_value"


class DuplicateKey(BadRequest):
    """A query parameter that may be given once."""

    code = "placement.query.duplicate_key"


def fault(error: LaminaError, request_id: str, version: Version) -> Reply:
    """``{"errors": [{"status", "title", "detail", "request_id", "code"}]}``."""
    told: dict[str, Any] = {
        "status": error.status,
        "title": reason(error.status),
        "detail": error.message,
        "request_id": request_id,
    }
    if version >= Version(1, 23):
        own = error.code if error.code.startswith("placement.") else UNDEFINED
        told["code"] = _CODES.get(type(error), own)
    if isinstance(error, NotAcceptable):
        told |= {"max_version": str(MICROVERSIONS.most), "min_version": str(MICROVERSIONS.least)}
    return Reply(error.status, {"errors": [told]})


def route(method: str, path: str, handler: Handler, rule: str, *, since: int = 0, until: int | None = None, **more: Any) -> Route:
    """A route of this API, its answers and bodies JSON; `since` and `until` are minor versions, `more` is as in `Route`.

    It is for admins of a project: Placement's rules have no use for a token of the whole system.
    """
    last = None if until is None else Version(1, until)
    refuses = (406, *((415,) if more.get("takes") else ()), *more.pop("refuses", ()))
    guarded = _guarded(handler)
    return Route(
        method, path, guarded, f"placement:{rule}", PROJECT_ADMIN, since=Version(1, since), until=last, refuses=refuses, **more
    )


def _guarded(handler: Handler) -> Callable[[Request], Reply]:
    @functools.wraps(handler)
    def guarded(request: Request) -> Reply:
        accept = request.headers.get("accept", "*/*")
        if request.method == "GET" and not any(kind in accept for kind in ("application/json", "application/*", "*/*")):
            raise NotAcceptable("Only application/json is provided")
        if request.method in ("POST", "PUT") and request.body and not request.headers.get("content-type"):
            raise BadRequest("content-type header required when content-length > 0")
        said = [*request.path.values(), *(text for pair in request.query for text in pair)]
        if b"\\u0000" in request.body or any("\0" in text for text in said):
            raise BadRequest("A NUL character is part of no name and of no id")
        return handler(request)

    return guarded


def body(request: Request, model: type[T]) -> T:
    """The body as `model`. Raises `UnsupportedMedia` where it is not JSON by its header, `BadRequest` where it is wrong."""
    kind = request.headers.get("content-type")
    if kind is None or kind.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMedia(f"The media type {kind} is not supported, use application/json")
    request.must_be_shallow()
    try:
        plain = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"Malformed JSON: {error}") from error
    try:
        return decoding.from_plain(plain, model)
    except msgspec.ValidationError as error:
        raise BadRequest(f"JSON does not validate: {in_words_of_json_schema(str(error), plain)}") from error


def at_least(request: Request, minor: int) -> bool:
    """Whether the request is of microversion 1.`minor` or later."""
    return request.version >= Version(1, minor)


def reply(
    request: Request, content: Any = None, *, status: int = 200, modified: float | None = None, location: str | None = None
) -> Reply:
    """An answer with the headers of its microversion; `modified` (seconds since the epoch) is now where nothing tells."""
    headers: dict[str, str] = {}
    if at_least(request, 15):
        when = request.plane.clock.now() if modified is None else modified
        headers |= {"Last-Modified": email.utils.formatdate(when, usegmt=True), "Cache-Control": "no-cache"}
    if location is not None:
        headers |= at(request, location)
    return Reply(status, content, headers)


def at(request: Request, location: str) -> dict[str, str]:
    """The header that says where something is."""
    return {"Location": request.plane.settings.public_url + PREFIX + location}


def path_to(request: Request, *parts: str) -> str:
    """The address of something without scheme and host, as this API's links have it."""
    return "/".join((urlsplit(request.plane.settings.public_url).path + PREFIX, *parts))
