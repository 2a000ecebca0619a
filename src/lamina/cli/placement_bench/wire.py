"""Calls of one client of a Placement API over one kept-alive connection, as cheap as the standard library has them.

The load shares the machine with the server that it measures: what a client burns the server lacks.
"""

from __future__ import annotations

import dataclasses
import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lamina.cli.client import sentence_of
from lamina.model.errors import BadRequest, LaminaError, Unauthorized, Unavailable

#: seconds that one answer may take before a server counts as one that does not answer
PATIENCE = 120.0
#: the newest version that both Lamina and OpenStack's Placement answer
MICROVERSION = "placement 1.39"


class TookTooLong(Unavailable):
    """No answer within the time that was given for it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a Placement API is and what opens it. ``pid`` is its process, where it can be looked at from here."""

    url: str
    token: str
    pid: int | None = None

    def must_be_sound(self) -> None:
        """Raises `BadRequest` for an address that is none."""
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise BadRequest(f"--against: {self.url!r} is not an address like http://127.0.0.1:8778")


class Caller:
    """One client. Not for several threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        parts = urlsplit(endpoint.url)
        self._url = endpoint.url
        self._prefix = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
        self._headers = {"X-Auth-Token": endpoint.token, "Accept": "application/json", "OpenStack-API-Version": MICROVERSION}

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None, *, patience: float = PATIENCE) -> tuple[int, bytes]:
        """Status and body. Raises `TookTooLong` after `patience` seconds, `Unavailable` where nobody answers."""
        headers: Mapping[str, str] = self._headers
        content = None
        if body is not None:
            content, headers = msgspec.json.encode(body), self._headers | {"Content-Type": "application/json"}
        try:
            self._send(method, path, content, headers, patience)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except TimeoutError as error:
            self._connection.close()
            raise TookTooLong(f"{method} {path.partition('?')[0]} was not answered within {patience:g} s.") from error
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise Unavailable(f"No Placement API answers at {self._url}.", cause=str(error)) from error

    def must(self, method: str, path: str, body: Any = None, *, patience: float = PATIENCE) -> Any:
        """The JSON of an answer that is no refusal. Raises `LaminaError` with the sentence of a refusal."""
        status, content = self.ask(method, path, body, patience=patience)
        if status == 401:
            raise Unauthorized(f"{self._url} does not know the token.")
        if status >= 400:
            raise LaminaError(f"{method} {path.partition('?')[0]} was answered {status}: {sentence_of(content) or 'no reason given'}")
        return msgspec.json.decode(content) if content else None

    def _send(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], patience: float) -> None:
        self._connection.timeout = patience
        if self._connection.sock is not None:
            self._connection.sock.settimeout(patience)
        try:
            self._connection.request(method, self._prefix + path, content, headers)
        except (BrokenPipeError, ConnectionResetError):
            # the server ended the connection while it was idle; nothing of this request was read
            self._connection.close()
            self._connection.request(method, self._prefix + path, content, headers)
