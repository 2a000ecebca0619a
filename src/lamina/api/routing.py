"""What an API is made of: rooms with a route table each, the request a handler gets and the reply it gives.

A handler is an ordinary function ``handler(request) -> Reply``, run in a worker thread. It reads the request, asks the
store or starts an operation, and answers plain values; it raises `LaminaError` for everything else, which the room
turns into its own fault body in one place.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from lamina.model import decoding
from lamina.model.audit import Initiator
from lamina.model.errors import BadRequest, LaminaError, TooManyRequests
from lamina.operations.control_plane import ControlPlane

T = TypeVar("T")
log = structlog.get_logger()

#: methods of requests that change nothing (RFC 9110, 9.2.1)
UNCHANGING = frozenset({"GET", "HEAD", "OPTIONS"})
#: check strings in oslo.policy's language; whose object it is, the queries decide by the project of the context
ADMIN = "rule:context_is_admin"
#: for an API that has no use for tokens of the whole system
PROJECT_ADMIN = "rule:context_is_admin and not system_scope:all"
MANAGER = "rule:project_manager_or_admin"
MEMBER = "rule:project_member_or_admin"
READER = "rule:project_reader_or_admin"
#: in the Identity API: admins, and who has that role on a domain, within it
DOMAIN_MANAGER = "rule:context_is_admin or rule:domain_manager"
DOMAIN_READER = "rule:context_is_admin or rule:domain_reader"
ANY_USER = "@"
#: what the checks refer to, by Nova's names (nova/policies/base.py), so that a policy file for Nova is understood
PERSONAS: Mapping[str, str] = {
    "context_is_admin": "role:admin",
    "project_manager_or_admin": "role:manager or rule:context_is_admin",
    "project_member_or_admin": "role:member or rule:context_is_admin",
    "project_reader_or_admin": "role:reader or role:member or rule:context_is_admin",
    "domain_manager": "domain_roles:manager",
    "domain_reader": "domain_roles:reader",
}


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Version:
    """A microversion."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Parse ``2.96``. Raises `BadRequest` on anything else."""
        major, dot, minor = text.partition(".")
        if not (dot and major.isascii() and major.isdecimal() and minor.isascii() and minor.isdecimal() and len(text) <= 9):
            raise BadRequest(f"invalid version string: {text[:80]}; it looks like 2.96")
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclasses.dataclass(frozen=True, slots=True)
class Microversions:
    """The range a room answers and the headers in which clients name the one they want."""

    service_type: str
    least: Version
    most: Version
    legacy_headers: tuple[str, ...] = ()
    #: the name of the common header as the service spells it in ``Vary``
    vary: str = "OpenStack-API-Version"


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """Who is asking. An empty user id means nobody (only on routes that are open to all)."""

    request_id: str
    user_id: str = ""
    user_name: str = ""
    #: None for a token whose scope is no project
    project_id: str | None = None
    project_name: str | None = None
    roles: frozenset[str] = frozenset()
    system: bool = False
    #: None for a token whose scope is no domain
    domain_id: str | None = None
    #: roles held on the domain; they count in the Identity API only, and are not among ``roles``
    domain_roles: frozenset[str] = frozenset()
    #: SHA-256 of the token that was shown, for revocation
    token_hash: str = ""
    #: whether the token was got by an application credential that may make no others
    restricted: bool = False
    #: the host that speaks, where hosts dial in
    host: str = ""
    #: what the caller's own caller names the whole by
    global_request_id: str | None = None

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


def _must_not_ask(rule: str) -> None:
    raise LookupError(f"the route does not name the rule {rule} among those that it asks")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole. ``path`` has the route's parameters, decoded."""

    plane: ControlPlane
    context: Context
    method: str
    url: str
    path: Mapping[str, str]
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    version: Version
    #: the address at the other end of the connection
    client: str = ""
    body: bytes = b""
    #: the spooled body of a route with ``upload``; deleted after the handler unless it moved it
    upload: Path | None = None
    #: raises `Forbidden` where a rule of those that the route's handler asks says no
    enforce: Callable[[str], None] = _must_not_ask
    #: in a handler that parks: returns when the client has hung up
    gone: Callable[[], Awaitable[None]] | None = None

    def must_be_shallow(self) -> None:
        """Raises `BadRequest` for a body that is nested deeper than any that makes sense; what hosts say is their own matter."""
        if not self.context.host and decoding.is_deep(self.body):
            raise BadRequest(f"Invalid request body: lists and objects are within each other more than {decoding.DEEPEST} deep")

    def json(self, model: type[T]) -> T:
        """The body as `model`, a msgspec Struct. Raises `BadRequest` that names the field."""
        self.must_be_shallow()
        try:
            return decoding.from_json(self.body, model)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"Invalid request body: {error}") from error

    def values(self, name: str) -> list[str]:
        """Every value of a query parameter, in order."""
        return [value for key, value in self.query if key == name]

    def value(self, name: str) -> str | None:
        """The last value of a query parameter, as web frameworks have it."""
        values = self.values(name)
        return values[-1] if values else None


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: a value to be written as JSON, bytes as they are, a file, or nothing."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    file: Path | None = None
    #: who turned out to have asked, where the route is open to everybody; for the audit trail
    by: Initiator | None = None


def whole_seconds(error: TooManyRequests) -> int:
    """When asking again is worth it, as the header ``Retry-After`` has it (RFC 9110, 10.2.3)."""
    return max(1, math.ceil(error.retry_after))


Handler = Callable[[Request], Reply]
ParkingHandler = Callable[[Request], Awaitable[Reply]]


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One call of an API. ``rule`` is its name in policy files and ``check`` that rule's default."""

    method: str
    path: str
    #: run in a worker thread, or, where it is a coroutine function because it waits for long, on the event loop
    handler: Handler | ParkingHandler
    rule: str
    check: str = READER
    #: further rules with their defaults, which the handler asks where it knows what is wanted
    asks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: first and last microversion that has it
    since: Version | None = None
    until: Version | None = None
    #: what its JSON body is decoded as; several where that depends on the microversion
    takes: tuple[Any, ...] = ()
    #: the type of that body
    media_type: str = "application/json"
    #: with which statuses it is answered where it does what is asked
    gives: tuple[int, ...] = (200,)
    #: with which it is refused beside those with which any call is that has such a path, such a body and such a method
    refuses: tuple[int, ...] = ()
    #: the query parameters that it looks at, those for which things are told apart by any attribute left out
    query: tuple[str, ...] = ()
    #: open to everybody, a token neither needed nor looked at (version documents, making a token)
    public: bool = False
    #: the body is spooled to a file and not bound by the limit of JSON bodies
    upload: bool = False
    #: largest body in bytes, where it is another than the settings say
    most_body: int | None = None
    #: run before the body is read; raises what there is to say against the request already
    admit: Callable[[Request], None] | None = None
    #: words of which the body's only key may be one and then says what is done; the audit trail names it
    actions: Collection[str] = ()
    #: whether the audit trail has every call, where it is one that changes something; refusals it has of every route
    audited: bool = True
    #: whether the handler waits for long, on the event loop
    parks: bool = dataclasses.field(init=False, default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parks", inspect.iscoroutinefunction(self.handler))

    def answers(self, version: Version) -> bool:
        return (self.since is None or self.since <= version) and (self.until is None or version <= self.until)


Fault = Callable[[LaminaError, str, Version], Reply]


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What a caller shows of itself: a token, and the certificate (DER) that TLS has verified."""

    token: str | None
    certificate: bytes | None


#: (control plane, what is shown, request id) -> who it is; raises `Unauthorized`
Authenticate = Callable[[ControlPlane, Shown, str], Context]


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """One API under one path. ``fault`` shapes (error, request id, version) as this API's clients expect it."""

    name: str
    prefix: str
    routes: tuple[Route, ...]
    fault: Fault
    #: from what a caller shows to who it is; by token where nothing else is said
    authenticate: Authenticate | None = None
    microversions: Microversions | None = None
    #: names under which the request id goes back
    request_id_headers: tuple[str, ...] = ("X-Openstack-Request-Id",)
