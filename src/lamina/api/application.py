"""The one ASGI application: rooms mounted under their paths, each request authenticated, authorised, answered.

What happens to a request, in this order: the room's microversion is negotiated, the route is found, the token is
looked up, the route's rule is checked, the body is read within its limit, the handler runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import anyio.to_thread
import microversion_parse
import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response
from starlette.routing import Route as HttpRoute

from lamina.api.authentication import authenticate
from lamina.api.policy import Policy
from lamina.api.routing import Context, Microversions, Reply, Request, Room, Route, Version
from lamina.model import ids
from lamina.model.errors import BadRequest, LaminaError, NotAcceptable, NotFound, TooLarge, Unauthorized
from lamina.operations.control_plane import ControlPlane

log = structlog.get_logger()

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_NO_VERSION = Version(0, 0)


class MethodNotAllowed(LaminaError):
    """The path exists and the method does not."""

    code = "lamina.method_not_allowed"
    status = 405


def application(plane: ControlPlane, rooms: Iterable[Room]) -> Starlette:
    """Mount the rooms. Raises ValueError when a route has no rule: nothing is served that policy cannot name."""
    rooms = tuple(rooms)
    policy = Policy(route for room in rooms for route in room.routes)
    routes: list[HttpRoute] = []
    # a longer prefix first, so that /compute/v2.1 is not taken for something below /compute
    for room in sorted(rooms, key=lambda r: -len(r.prefix)):
        by_path: dict[str, list[Route]] = {}
        for route in room.routes:
            by_path.setdefault(route.path, []).append(route)
        routes.extend(
            HttpRoute(room.prefix + path or "/", _endpoint(plane, policy, room, tuple(choices)), methods=_METHODS)
            for path, choices in by_path.items()
        )
    routes.extend(
        HttpRoute(room.prefix + "/{rest:path}", _endpoint(plane, policy, room, ()), methods=_METHODS)
        for room in sorted(rooms, key=lambda r: -len(r.prefix))
    )
    return Starlette(routes=routes)


def _endpoint(
    plane: ControlPlane, policy: Policy, room: Room, choices: tuple[Route, ...]
) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def endpoint(http: HttpRequest) -> Response:
        request_id = ids.new_request_id()
        version = room.microversions.least if room.microversions else _NO_VERSION
        try:
            version = negotiate(room.microversions, http)
            reply = await _answer(plane, policy, choices, http, version, request_id)
        except LaminaError as error:
            told = {"room": room.name, "path": http.url.path, "request_id": request_id, "code": error.code, "why": error.message}
            log.info("refused", **(error.context | told))
            reply = room.fault(error, request_id, version)
            if isinstance(error, MethodNotAllowed):
                reply = dataclasses.replace(reply, headers={**reply.headers, "Allow": ", ".join(sorted({c.method for c in choices}))})
        except ClientDisconnect:
            reply = Reply(400)
        except Exception:
            log.exception("failed", room=room.name, path=http.url.path, request_id=request_id)
            unexpected = LaminaError(f"Lamina met an unexpected error; its log tells more under {request_id}.")
            reply = room.fault(unexpected, request_id, version)
        return _response(room, reply, request_id, version, http.method)

    return endpoint


async def _answer(
    plane: ControlPlane, policy: Policy, choices: tuple[Route, ...], http: HttpRequest, version: Version, request_id: str
) -> Reply:
    method = "GET" if http.method == "HEAD" and not any(c.method == "HEAD" for c in choices) else http.method
    named = [route for route in choices if route.method == method]
    if choices and not named:
        raise MethodNotAllowed(f"The method {http.method} is not allowed for this resource.")
    route = next((r for r in named if r.answers(version)), None)
    if route is not None and route.public:
        context = Context(request_id)
    else:
        # a path that does not exist is told to holders of a token only, so that nobody maps the API from outside
        token = http.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request you have made requires authentication.")
        context = await anyio.to_thread.run_sync(authenticate, plane, token, request_id)
        if route is None:
            raise NotFound("The resource could not be found.")
        policy.enforce(route, context)
    if any("\0" in word for pair in (*http.path_params.items(), *http.query_params.multi_items()) for word in pair):
        raise BadRequest("The address has a NUL character in it; no name or id has one.")
    request = Request(
        plane=plane,
        context=context,
        method=method,
        url=str(http.url),
        path=dict(http.path_params),
        query=tuple(http.query_params.multi_items()),
        headers=http.headers,
        version=version,
    )
    if route.admit is not None:
        await anyio.to_thread.run_sync(route.admit, request)
    async with _body(plane, route, http) as (body, upload):
        return await anyio.to_thread.run_sync(route.handler, dataclasses.replace(request, body=body, upload=upload))


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
            f"Version {version} is not supported by the API. Minimum is {microversions.least} and maximum is {microversions.most}."
        )
    return version


@contextlib.asynccontextmanager
async def _body(plane: ControlPlane, route: Route, http: HttpRequest) -> AsyncIterator[tuple[bytes, Path | None]]:
    limit = plane.settings.max_image if route.upload else plane.settings.max_body
    told = http.headers.get("content-length", "0")
    if not (told.isascii() and told.isdecimal()):
        raise BadRequest("Content-Length is not a number.")
    if int(told) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    if route.upload:
        spool = plane.settings.images / f"upload-{secrets.token_hex(16)}"
        try:
            await _spool(http, spool, limit)
            yield b"", spool
        finally:
            spool.unlink(missing_ok=True)
        return
    chunks, size = [], 0
    async for chunk in http.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
        chunks.append(chunk)
    yield b"".join(chunks), None


async def _spool(http: HttpRequest, path: Path, limit: int) -> None:
    size = 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        async for chunk in http.stream():
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"The body is larger than {limit} bytes.")
            await anyio.to_thread.run_sync(file.write, chunk)


def _response(room: Room, reply: Reply, request_id: str, version: Version, method: str) -> Response:
    headers = dict.fromkeys(room.request_id_headers, request_id)
    if room.microversions is not None:
        headers["OpenStack-API-Version"] = f"{room.microversions.service_type} {version}"
        headers["Vary"] = "OpenStack-API-Version"
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
