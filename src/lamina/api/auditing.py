"""What of a request goes into the audit trail: every one that changes something, and everybody who is not let in.

The record is made at the door, so that no handler can forget it. A changing request is recorded in the commit of its change, as
pending, and once more when its answer is known (docs/decisions/0018-audit.md). Of a body nothing is looked at but
which action its only key names, and that only where it names one that there is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgspec
import structlog
from starlette.requests import Request as HttpRequest

from lamina.api.refusals import Refusals
from lamina.api.routing import UNCHANGING, Context, Reply, Room, Route
from lamina.model import audit, decoding, ids
from lamina.model.audit import Event, Initiator, Kind, Outcome, Target
from lamina.model.errors import LaminaError
from lamina.operations.control_plane import ControlPlane
from lamina.store import audit as store

log = structlog.get_logger()

_NOT_LET_IN = frozenset({401, 403})
_TOO_MANY = 429
#: CADF has a verb of its own for proving who one is
_AUTHENTICATE = "identity:authenticate"


class Entry:
    """One request on its way through the door, which fills in what it learns."""

    def __init__(self, plane: ControlPlane, room: Room, http: HttpRequest) -> None:
        self.request_id = ids.new_request_id()
        self.global_request_id = ids.global_request_id(http.headers.get("x-openstack-request-id", ""))
        self.route: Route | None = None
        self.context: Context | None = None
        self.body = b""
        self._with_change: store.Accompanied | None = None
        self._id, self._at = ids.new_uuid(), plane.clock.now()
        self._plane, self._room, self._http = plane, room, http

    @property
    def names(self) -> dict[str, str]:
        """What the log calls the request."""
        told = {"request_id": self.request_id, "global_request_id": self.global_request_id}
        return {name: value for name, value in told.items() if value is not None}

    @property
    def _changes(self) -> bool:
        return self._http.method not in UNCHANGING and (self.route is None or self.route.audited)

    @contextlib.contextmanager
    def accompanied(self) -> Iterator[None]:
        """While the request is answered: its first change is committed together with the record of it."""
        if self._http.method in UNCHANGING:
            yield
            return
        with store.accompanied(self._pending) as self._with_change:
            yield

    def _pending(self) -> Event | None:
        return self._event(Outcome.PENDING) if self._changes else None

    async def close(self, reply: Reply, refusals: Refusals, in_thread: Callable[..., Awaitable[None]]) -> None:
        """Record how it ended: before the answer goes out, unless what matters of it is recorded already."""
        event = self._ended(reply, refusals)
        if event is None:
            return
        may_wait = event.outcome is Outcome.FAILURE or (self._with_change is not None and self._with_change.recorded)
        if not (may_wait and self._plane.ledger.later(event)):
            await in_thread(self._record, event)

    def _ended(self, reply: Reply, refusals: Refusals) -> Event | None:
        if not self._changes and reply.status not in _NOT_LET_IN:
            return None
        event = self._event(Outcome.SUCCESS if reply.status < 400 else Outcome.FAILURE, reply)
        known = event.initiator.id != audit.UNKNOWN
        if event.outcome is Outcome.SUCCESS or (known and self._changes and reply.status != _TOO_MANY):
            return event
        sender = f"user {event.initiator.id}" if known else f"address {event.initiator.address}"
        left_out = refusals.admit(sender, self._at)
        if left_out is None:
            return None
        return dataclasses.replace(event, more={"left_out": left_out} if left_out else {})

    def _record(self, event: Event) -> None:
        """What was answered stands, whether or not it can be recorded: a change has its record already."""
        try:
            self._plane.ledger.now(event)
        except LaminaError as error:
            told = {"why": error.message, "action": event.action}
            log.error("how a request ended is not in the audit trail", **(error.context | told | self.names))

    def _event(self, outcome: Outcome, reply: Reply | None = None) -> Event:
        status = reply.status if reply is not None else None
        return Event(
            id=self._id,
            at=self._at,
            action=_action(self._http.method, self.route, self.body),
            outcome=outcome,
            initiator=_initiator(self._http, self.context, reply.by if reply is not None else None),
            target=_target(self._room, self.route, self._http.path_params, reply if outcome is Outcome.SUCCESS else None),
            observer=self._room.name,
            request_id=self.request_id,
            global_request_id=self.global_request_id,
            status=status,
            path=self._path(),
        )

    def _path(self) -> str:
        """As it was sent, without the query; of a path that leads nowhere only the room: it may be anything, a secret too."""
        if self.route is None:
            return self._room.prefix or "/"
        sent: bytes = self._http.scope.get("raw_path", b"")
        return sent.decode("ascii", "replace").partition("?")[0][: audit.MOST_PATH]


def _action(method: str, route: Route | None, body: bytes) -> str:
    if route is None:
        return audit.UNKNOWN
    if route.rule == _AUTHENTICATE:
        return f"authenticate/{route.rule}"
    if not route.actions:
        return f"{audit.verb(method)}/{route.rule}"
    named = _only_key(body)
    return f"update/{route.rule}/{named}" if named in route.actions else f"update/{route.rule}"


def _only_key(body: bytes) -> str | None:
    try:
        keys = list(decoding.from_json(body, dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return keys[0] if len(keys) == 1 else None


def _initiator(http: HttpRequest, context: Context | None, by: Initiator | None) -> Initiator:
    address = _clean(http.client.host)[:64] if http.client is not None else None
    agent = http.headers.get("user-agent")
    told = Initiator(address=address, agent=_clean(agent) if agent is not None else None)
    if context is not None and context.host:
        return dataclasses.replace(told, kind=Kind.HOST, id=context.host, name=context.host)
    if context is not None and context.user_id:
        return dataclasses.replace(told, id=_clean(context.user_id), name=_clean(context.user_name), project_id=context.project_id)
    if by is not None:
        return dataclasses.replace(by, address=told.address, agent=told.agent)
    return told


def _target(room: Room, route: Route | None, named: Mapping[str, Any], made: Reply | None) -> Target:
    """The object that the path names last, or else the one that was made."""
    if route is None:
        return Target(f"service/{room.name}")
    kind = "/".join(word.strip("{}").partition(":")[0].removesuffix("_id") for word in route.path.split("/"))
    ids_ = [_clean(str(value)) for value in named.values()]
    if not ids_ and made is not None:
        ids_ = [_clean(found)] if (found := _made(made)) is not None else []
    last = ids_[-1] if ids_ else audit.UNKNOWN
    return Target(f"service/{room.name}{kind}"[: audit.MOST_TEXT], last, ids_[0] if len(ids_) > 1 else None)


def _made(reply: Reply) -> str | None:
    """The id of what an answer is about: beside everything else, within its one object, or at the end of its Location."""
    body = reply.body if isinstance(reply.body, dict) else {}
    for one in (body, *(value for value in body.values() if isinstance(value, dict))):
        found = one.get("id", one.get("uuid"))
        if isinstance(found, str | int):
            return str(found)
    place = reply.headers.get("Location")
    return place.rstrip("/").rpartition("/")[2] if place else None


def _clean(text: str) -> str:
    """As any database takes it, and not too much of it; whoever writes it somewhere else escapes it there."""
    return text[: audit.MOST_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
