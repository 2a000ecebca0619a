"""The one ASGI application: rooms mounted under their paths, each request authenticated, authorised, answered.

What happens to a request, in this order: the room's microversion is negotiated, the route is found, the token is
looked up and its project's requests counted, the route's rule is checked, the body is read within its limit (a small
one before), the handler runs in a worker thread (or, where it waits for long, on the event loop).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import anyio
import anyio.to_thread
import microversion_parse
import msgspec
import structlog
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response
from starlette.routing import Route as HttpRoute
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from lamina.api import request_counts
from lamina.api.auditing import Entry
from lamina.api.authentication import by_token
from lamina.api.keystone import TokensOfKeystone
from lamina.api.policy import Policy
from lamina.api.rate_limits import RateLimits
from lamina.api.refusals import Refusals
from lamina.api.routing import (
    Authenticate,
    Context,
    Handler,
    Microversions,
    ParkingHandler,
    Reply,
    Request,
    Room,
    Route,
    Shown,
    Version,
    whole_seconds,
)
from lamina.api.security_headers import with_headers
from lamina.model.errors import BadRequest, LaminaError, NotAcceptable, NotFound, TooLarge, TooManyRequests, TooSlow, Unauthorized
from lamina.operations.control_plane import ControlPlane

T = TypeVar("T")
log = structlog.get_logger()

#: where a listener with mutual TLS puts the client's verified certificate (DER) in the ASGI scope
CERTIFICATE = "lamina.certificate"

#: most bytes of a body that is read before its sender is known
SMALL = 1 << 16
#: worker threads of one application at most
WORKERS = 40
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_NO_VERSION = Version(0, 0)


class MethodNotAllowed(LaminaError):
    """The path exists and the method does not."""

    code = "lamina.method_not_allowed"
    status = 405


def application(plane: ControlPlane, rooms: Iterable[Room]) -> House:
    """Mount the rooms. Raises ValueError when a route has no rule: nothing is served that policy cannot name.

    Raises `BadRequest` for a policy file that cannot be taken as it is.
    """
    rooms, settings = tuple(rooms), plane.settings
    policy = Policy((route for room in rooms for route in room.routes), settings.policy_file)
    tokens = by_token if settings.keystone is None else TokensOfKeystone(settings.keystone)
    served = _Served(plane, policy, tokens, anyio.CapacityLimiter(WORKERS), RateLimits(settings.rate_limit), Refusals())
    # a longer prefix first, so that /compute/v2.1 is not taken for something below /compute
    return House([(room.prefix, _router(served, room)) for room in sorted(rooms, key=lambda r: -len(r.prefix))])


def _router(served: _Served, room: Room) -> Router:
    by_path: dict[str, list[Route]] = {}
    for route in room.routes:
        by_path.setdefault(route.path, []).append(route)
    routes = [
        HttpRoute(room.prefix + path or "/", _Endpoint(served, room, tuple(choices)), methods=_METHODS)
        for path, choices in by_path.items()
    ]
    return Router([*routes, HttpRoute(room.prefix + "/{rest:path}", _Endpoint(served, room, ()), methods=_METHODS)])


@dataclasses.dataclass(frozen=True, slots=True)
class House:
    """Sends a request to the room it is for, before any of a room's many paths are looked at."""

    rooms: Sequence[tuple[str, Router]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")  # there is none in the events of a server's life
        send = with_headers(scope, send)
        for prefix, router in self.rooms:
            if path == prefix or path.startswith(prefix + "/"):
                await router(scope, receive, send)
                return
        await Router([])(scope, receive, send)


@dataclasses.dataclass(frozen=True, slots=True)
class _Served:
    """What every endpoint of one application works with. Its worker threads are its own: handlers of another application
    may all be waiting for hosts, whose answers come in here.
    """

    plane: ControlPlane
    policy: Policy
    #: whose a token is, in rooms that do not know otherwise
    tokens: Authenticate
    workers: anyio.CapacityLimiter
    limits: RateLimits
    #: what the audit trail leaves out
    refusals: Refusals

    async def in_thread(self, function: Callable[..., T], *values: object) -> T:
        return await anyio.to_thread.run_sync(function, *values, limiter=self.workers)


@dataclasses.dataclass(frozen=True)
class _Endpoint:
    """One path of a room, with the routes that answer there. An ASGI application: the router calls it as it is."""

    served: _Served
    room: Room
    choices: tuple[Route, ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock, http = self.served.plane.clock, HttpRequest(scope, receive, send)
        began = clock.now()
        response = await self._respond(http)
        await response(scope, receive, send)
        request_counts.answered(self.room.name, http.method, response.status_code, clock.now() - began)

    async def _respond(self, http: HttpRequest) -> Response:
        room = self.room
        entry = Entry(self.served.plane, room, http)
        request_id = entry.request_id
        version = room.microversions.least if room.microversions else _NO_VERSION
        try:
            version = negotiate(room.microversions, http)
            with entry.accompanied():
                reply = await _answer(self.served, room, self.choices, http, version, entry)
        except LaminaError as error:
            told = {"room": room.name, "path": http.url.path, "code": error.code, "why": error.message}
            log.info("refused", **(error.context | told | entry.names))
            reply = room.fault(error, request_id, version)
            reply = dataclasses.replace(reply, headers={**reply.headers, **self._told(error)})
        except ClientDisconnect:
            reply = Reply(400)
        except Exception:
            log.exception("failed", room=room.name, path=http.url.path, **entry.names)
            unexpected = LaminaError(f"Lamina met an unexpected error; its log tells more under {request_id}.")
            reply = room.fault(unexpected, request_id, version)
        await entry.close(reply, self.served.refusals, self.served.in_thread)
        return _response(room, reply, request_id, version, http.method)

    def _told(self, error: LaminaError) -> dict[str, str]:
        """What a refusal says in headers, whichever API's it is."""
        if isinstance(error, MethodNotAllowed):
            return {"Allow": ", ".join(sorted({c.method for c in self.choices}))}
        if isinstance(error, TooManyRequests):
            return {"Retry-After": str(whole_seconds(error))}
        if isinstance(error, TooSlow):
            return {"Connection": "close"}  # what is still to come is not waited for
        return {}


async def _answer(
    served: _Served, room: Room, choices: tuple[Route, ...], http: HttpRequest, version: Version, entry: Entry
) -> Reply:
    method = "GET" if http.method == "HEAD" and not any(c.method == "HEAD" for c in choices) else http.method
    named = [route for route in choices if route.method == method]
    if choices and not named:
        raise MethodNotAllowed(f"The method {http.method} is not allowed for this resource.")
    route = next((r for r in named if r.answers(version)), None)
    entry.route = route
    admitted = partial(_admitted, served, room, route, http, method, version, entry)
    if route is not None and not route.upload and not route.parks and _is_small(http, _limit(served, route)):
        # everything in one turn of one thread: handing over costs more than what most requests do
        body = entry.body = await _within(served.plane.settings.limits.body_time, http.body()) if "content-length" in http.headers else b""
        handler = cast(Handler, route.handler)
        return await served.in_thread(lambda: handler(dataclasses.replace(admitted(), body=body)))
    request = await served.in_thread(admitted)
    if route is None:
        raise NotFound("The resource could not be found.")
    async with _body(served, route, http) as (body, upload):
        entry.body = body
        request = dataclasses.replace(request, body=body, upload=upload)
        if route.parks:
            return await cast(ParkingHandler, route.handler)(dataclasses.replace(request, gone=partial(_gone, http)))
        return await served.in_thread(cast(Handler, route.handler), request)


def _limit(served: _Served, route: Route) -> int:
    settings = served.plane.settings
    return settings.max_image if route.upload else route.most_body or settings.max_body


def _is_small(http: HttpRequest, limit: int) -> bool:
    """Whether the body is told to be so small, or none, that it may be read before anybody knows whose it is."""
    if "transfer-encoding" in http.headers:
        return False
    told = http.headers.get("content-length", "0")
    return told.isascii() and told.isdecimal() and len(told) < 9 and int(told) <= min(SMALL, limit)


def _admitted(
    served: _Served, room: Room, route: Route | None, http: HttpRequest, method: str, version: Version, entry: Entry
) -> Request:
    """The request without its body, if its sender may send it."""
    if route is not None and route.public:
        context = Context(entry.request_id, global_request_id=entry.global_request_id)
        served.limits.count(context, _address(http), method, served.plane.clock.now())
    else:
        # a path that does not exist is told to holders of a token only, so that nobody maps the API from outside
        shown = Shown(http.headers.get("x-auth-token"), http.scope.get(CERTIFICATE))
        try:
            context = (room.authenticate or served.tokens)(served.plane, shown, entry.request_id)
        except Unauthorized:
            served.limits.count(Context(entry.request_id), _address(http), method, served.plane.clock.now())
            raise
        if entry.global_request_id is not None:
            context = dataclasses.replace(context, global_request_id=entry.global_request_id)
        entry.context = context
        served.limits.count(context, _address(http), method, served.plane.clock.now())
        if route is None:
            raise NotFound("The resource could not be found.")
        served.policy.enforce(route.rule, context)
    query = tuple(http.query_params.multi_items())
    if any("\0" in word for pair in (*http.path_params.items(), *query) for word in pair):
        raise BadRequest("The address has a NUL character in it; no name or id has one.")
    request = Request(
        enforce=partial(_enforce, served.policy, route, context),
        plane=served.plane,
        context=context,
        method=method,
        url=str(http.url),
        path=dict(http.path_params),
        query=query,
        headers=http.headers,
        version=version,
        client=_address(http),
    )
    if route is not None and route.admit is not None:
        route.admit(request)
    return request


def _address(http: HttpRequest) -> str:
    """Who is at the other end of the connection. Headers that claim to know better are anybody's to write."""
    return http.client.host if http.client else ""


def _enforce(policy: Policy, route: Route, context: Context, rule: str) -> None:
    """A handler asks the rules that its route names and no others: every rule has a default and is in `lamina policy`."""
    if rule not in route.asks:
        raise LookupError(f"{route.method} {route.path} does not name the rule {rule} among those that it asks")
    policy.enforce(rule, context)


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def negotiate(microversions: Microversions | None, http: HttpRequest) -> Version:
    """The version the client asked for. Raises `NotAcceptable` outside the range and `BadRequest` on nonsense."""
    if microversions is None:
        return _NO_VERSION
    wanted = microversion_parse.get_version(http.headers.items(), microversions.service_type, list(microversions.legacy_headers))
    if wanted is None:
        return microversions.least
    if wanted == "latest":
        return microversions.most
    version = Version.parse(wanted)
    if not microversions.least <= version <= microversions.most:
        raise NotAcceptable(
            f"Unacceptable version header: {version}. Version {version} is not supported by the API. "
            f"Minimum is {microversions.least} and maximum is {microversions.most}."
        )
    return version


@contextlib.asynccontextmanager
async def _body(served: _Served, route: Route, http: HttpRequest) -> AsyncIterator[tuple[bytes, Path | None]]:
    settings, limit = served.plane.settings, _limit(served, route)
    told = http.headers.get("content-length", "0")
    if not (told.isascii() and told.isdecimal()):
        raise BadRequest("Content-Length is not a number.")
    if int(told) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    if route.upload:
        spool = settings.images / f"upload-{secrets.token_hex(16)}"
        try:
            await _spool(served, http, spool, limit)
            yield b"", spool
        finally:
            spool.unlink(missing_ok=True)
        return
    yield await _within(settings.limits.body_time, _whole(http, limit)), None


async def _within(seconds: float, coming: Awaitable[T]) -> T:
    """What comes in that time. Raises `TooSlow` where it does not."""
    try:
        with anyio.fail_after(seconds):
            return await coming
    except TimeoutError as error:
        raise TooSlow(f"The body did not come within {seconds:g} seconds.") from error


async def _whole(http: HttpRequest, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in http.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def _spool(served: _Served, http: HttpRequest, path: Path, limit: int) -> None:
    size, idle = 0, served.plane.settings.limits.idle_time
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        pieces = http.stream()
        while chunk := await _within(idle, anext(pieces, b"")):
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"The body is larger than {limit} bytes.")
            await served.in_thread(file.write, chunk)


def _response(room: Room, reply: Reply, request_id: str, version: Version, method: str) -> Response:
    headers = dict.fromkeys(room.request_id_headers, request_id)
    if room.microversions is not None:
        headers["OpenStack-API-Version"] = f"{room.microversions.service_type} {version}"
        headers["Vary"] = room.microversions.vary
        for name in room.microversions.legacy_headers:
            headers[name] = str(version)
            headers["Vary"] += f", {name}"
    headers |= reply.headers
    if reply.file is not None:
        return FileResponse(reply.file, reply.status, headers, media_type="application/octet-stream")
    if reply.body is None:
        return Response(status_code=reply.status, headers=headers)
    if isinstance(reply.body, bytes):
        return Response(reply.body, reply.status, headers)
    headers.setdefault("Content-Type", "application/json")
    content = msgspec.json.encode(reply.body)
    return Response(b"" if method == "HEAD" else content, reply.status, headers)
