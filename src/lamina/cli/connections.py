"""Connections to a listener, bounded: how long a request may take to come in and how large its head may be, and how many there are.

uvicorn's connections with what they leave open: they wait for ever for a head, or for a client that reads, and take a head of
any size. How long a body may take the application says, which knows what is sent.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lamina.api.reasons import reason
from lamina.api.security_headers import with_headers
from lamina.model.settings import Limits

#: seconds after which it is worth coming again where there were too many
AGAIN = 1
#: seconds that one who has connected, and asked nothing yet, has for it when the listener ends
LAST_CALL = 1.0


class _Part(enum.Enum):
    """Of which part of a request the next byte is."""

    NONE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    status: HTTPStatus
    why: str


class BoundedConnection(HttpToolsProtocol):
    def __init__(self, limits: Limits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._part = _Part.NONE
        #: bytes of the head so far, and of what came while it was not complete
        self._head = self._pending = 0
        self._refusal = _Refusal(HTTPStatus.BAD_REQUEST, "This is not an HTTP request.")
        self._coming_in: asyncio.TimerHandle | None = None
        self._going_out: asyncio.TimerHandle | None = None
        self._asked = self._ends = False

    # ------------------------------------------------------------------------------------------------ its life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most, there = self._limits.connections, len(self.connections)
        if there > 2 * most:  # not even time for a word
            transport.abort()
        elif there > most:
            self.app = _too_many
        self._within(self._limits.head_time, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._part is _Part.HEAD:
            self._pending += len(data)
            if self._pending > self._limits.head:
                self._refusal = _TOO_LARGE
                self.send_400_response("")
                return
        super().data_received(data)
        if self._part is _Part.NONE and self._is_at_rest() and self._coming_in is None:
            self._within(self._limits.head_time, self._head_is_late)  # empty lines before a request, perhaps for ever

    def shutdown(self) -> None:
        """The listener ends: what is being asked is answered, and who has only just come may ask once."""
        self._ends = True
        if not self._asked:
            self._within(LAST_CALL, self._head_is_late)
        elif self._part is not _Part.HEAD:
            super().shutdown()

    # ------------------------------------------------------------------------------------------------ what comes in

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._asked, self._part, self._head, self._pending = True, _Part.HEAD, 0, 0
        if self._coming_in is None:
            self._within(self._limits.head_time, self._head_is_late)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.url:
            self._refusal = _Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"The address is longer than {self._limits.url} bytes.")
            raise ValueError(self._refusal.why)  # which ends the parsing

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + 4
        if self._head > self._limits.head:
            self._refusal = _TOO_LARGE
            raise ValueError(self._refusal.why)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._cancel()
        self._part = _Part.BODY
        super().on_headers_complete()
        if self._ends:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._part = _Part.NONE
        self._cancel()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._part is _Part.BODY:
            # answered before it was all there: the rest is awaited, or who sends it might never see the answer, but not for ever
            self._within(self._limits.body_time, self.transport.close)

    def _head_is_late(self) -> None:
        self._coming_in = None
        if self._part is _Part.HEAD:
            late = f"The head of the request took longer than {self._limits.head_time:g} seconds."
            self._refusal = _Refusal(HTTPStatus.REQUEST_TIMEOUT, late)
            self.send_400_response("")
        elif self._is_at_rest():
            self.transport.close()

    def _is_at_rest(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _within(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self._cancel()
        self._coming_in = self.loop.call_later(seconds, otherwise)

    def _cancel(self) -> None:
        if self._coming_in is not None:
            self._coming_in.cancel()
            self._coming_in = None

    # ------------------------------------------------------------------------------------------------ what goes out

    def pause_writing(self) -> None:
        super().pause_writing()
        self._going_out = self.loop.call_later(self._limits.idle_time, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._going_out is not None:
            self._going_out.cancel()
            self._going_out = None

    def send_400_response(self, _msg: str) -> None:
        """uvicorn's word for a request that cannot be read; here for every one that does not reach the application."""
        self._cancel()
        if self._is_at_rest() and not self.transport.is_closing():
            self.transport.write(_written(self._refusal))
        self.transport.close()


_TOO_LARGE = _Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large.")


def _written(refusal: _Refusal) -> bytes:
    body = refusal.why.encode()
    head = [
        f"HTTP/1.1 {refusal.status} {reason(refusal.status)}",
        "content-type: text/plain; charset=utf-8",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    """What is served on a connection that is one too many."""
    told = {"error": {"code": 503, "message": "There are too many connections; come again in a moment.", "title": "Service Unavailable"}}
    answer = JSONResponse(told, 503, {"Retry-After": str(AGAIN), "Connection": "close"})
    await answer(scope, receive, with_headers(scope, send))
