"""From a token of a real Keystone to who is asking. Source: Identity API v3, "Validate and show information for token".

Each token is asked for once in `FRESH` seconds, which is how long a revoked one goes on being good here (keystonemiddleware's
``token_cache_time`` is 300). Where Keystone does not answer nobody is let in.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import re
import ssl
import threading
from typing import Any

import httpx
import msgspec
import structlog

from lamina.api.routing import Context, Shown
from lamina.model import decoding
from lamina.model.errors import Unauthorized, Unavailable
from lamina.model.settings import Keystone
from lamina.operations.control_plane import ControlPlane
from lamina.store.tokens import token_hash

log = structlog.get_logger()

#: seconds for which an answer of Keystone's holds, good or bad
FRESH = 10.0
#: tokens remembered at most
MOST_KEPT = 10_000
#: seconds that Keystone may take for an answer
PATIENCE = 10.0
#: Fernet and JWS tokens, which are the ones Keystone makes, and uuids, which it made
_TOKEN = re.compile(r"[A-Za-z0-9_.=-]{1,8192}")


class _Named(msgspec.Struct):
    id: str
    name: str


class _Token(msgspec.Struct):
    user: _Named
    expires_at: str
    roles: list[_Named] = []
    project: _Named | None = None
    domain: _Named | None = None
    system: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    token: _Token


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """What Keystone said of a token, and until when that holds; None for a token that is not good."""

    token: _Token | None
    until: float


class TokensOfKeystone:
    """Safe for threads. An `lamina.api.routing.Authenticate`."""

    def __init__(self, service: Keystone, transport: httpx.BaseTransport | None = None) -> None:
        """`service` is whom Lamina is for Keystone. Raises OSError for a CA file that cannot be read."""
        self._service = service
        verify = ssl.create_default_context(cafile=str(service.ca_file) if service.ca_file else None)
        self._http = httpx.Client(timeout=PATIENCE, trust_env=False, verify=verify, transport=transport)
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[str, _Answer] = collections.OrderedDict()
        self._own_token = ""

    def __call__(self, plane: ControlPlane, shown: Shown, request_id: str) -> Context:
        """Raises `Unauthorized`, and `Unavailable` where Keystone does not answer, or not to Lamina."""
        if not shown.token or not _TOKEN.fullmatch(shown.token):
            raise Unauthorized("The request you have made requires authentication.")
        now, hash_ = plane.clock.now(), token_hash(shown.token)
        with self._lock:
            answer = self._kept.get(hash_)
        if answer is None or now >= answer.until:
            answer = self._ask(shown.token, now)
            with self._lock:
                self._kept[hash_] = answer
                self._kept.move_to_end(hash_)
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
        if answer.token is None:
            raise Unauthorized("The request you have made requires authentication.")
        return _context(answer.token, request_id, hash_)

    def _ask(self, token: str, now: float) -> _Answer:
        said = self._validated(token)
        if said.status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST):
            return _Answer(None, now + FRESH)
        if said.status_code != httpx.codes.OK:
            log.error("Keystone does not validate tokens for Lamina", status=said.status_code, user=self._service.username)
            raise Unavailable("Tokens cannot be validated now: Keystone does not answer Lamina's service user.")
        try:
            found = decoding.from_json(said.content, _Body).token
            runs_out = datetime.datetime.fromisoformat(found.expires_at).timestamp()
        except (msgspec.DecodeError, ValueError) as error:
            raise Unavailable("Tokens cannot be validated now: Keystone's answer is not one.", cause=str(error)) from error
        return _Answer(found if now < runs_out else None, min(now + FRESH, runs_out) if now < runs_out else now + FRESH)

    def _validated(self, token: str) -> httpx.Response:
        """Keystone's answer; where Lamina's own token has run out meanwhile, with a new one."""
        own = self._own_token
        for _ in range(2):
            own = own or self._log_in()
            headers = {"X-Auth-Token": own, "X-Subject-Token": token}
            said = self._send("GET", "/auth/tokens?nocatalog", headers=headers)
            if said.status_code != httpx.codes.UNAUTHORIZED:
                break
            own = ""
        return said

    def _log_in(self) -> str:
        service = self._service
        user = {"name": service.username, "password": service.password, "domain": {"name": service.user_domain_name}}
        project = {"name": service.project_name, "domain": {"name": service.project_domain_name}}
        identity = {"methods": ["password"], "password": {"user": user}}
        said = self._send("POST", "/auth/tokens", json={"auth": {"identity": identity, "scope": {"project": project}}})
        if said.status_code != httpx.codes.CREATED:
            log.error("Keystone does not let Lamina's service user in", status=said.status_code, user=service.username)
            raise Unavailable("Tokens cannot be validated now: Keystone does not let Lamina's service user in.")
        self._own_token = said.headers["X-Subject-Token"]
        return self._own_token

    def _send(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            return self._http.request(method, self._service.auth_url + path, **what)
        except httpx.HTTPError as error:
            log.warning("Keystone does not answer", url=self._service.auth_url, why=str(error))
            raise Unavailable("Tokens cannot be validated now: Keystone does not answer.", cause=str(error)) from error


def _context(token: _Token, request_id: str, hash_: str) -> Context:
    # roles on a domain are not held on any project, nor on the system; an administrator of a domain is none here
    roles = frozenset() if token.domain is not None else frozenset(role.name for role in token.roles)
    return Context(
        request_id=request_id,
        user_id=token.user.id,
        user_name=token.user.name,
        project_id=token.project.id if token.project else None,
        project_name=token.project.name if token.project else None,
        roles=roles,
        system=token.system is not None,
        token_hash=hash_,
    )
