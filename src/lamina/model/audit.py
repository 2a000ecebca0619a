"""Events of the audit trail: who did what to which object, and how it ended.

The fields are those of CADF (DMTF DSP0262, "Cloud Auditing Data Federation", 6.2; OpenStack's profile of it as pycadf and
keystonemiddleware.audit write it). What a request had in its body, its query and its headers is no part of an event, with the one
exception of its agent: secrets travel there.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid
from collections.abc import Mapping
from typing import Any

from lamina.model import ids

TYPE_URI = "http://schemas.dmtf.org/cloud/audit/1.0/event"
#: CADF's word for what nobody knows (pycadf.cadftaxonomy)
UNKNOWN = "unknown"
#: most characters kept of a path, and of any other text that a caller chose
MOST_PATH, MOST_TEXT = 1024, 255


class Outcome(enum.StrEnum):
    """CADF's outcomes. ``PENDING``: what the event is about was committed, and how its request was answered is not known."""

    SUCCESS = "success"
    FAILURE = "failure"
    PENDING = "pending"


class Kind(enum.StrEnum):
    """What an initiator is, in CADF's taxonomy of resources."""

    USER = "service/security/account/user"
    HOST = "compute/node"
    #: Lamina itself
    SERVICE = "service/compute"


@dataclasses.dataclass(frozen=True, slots=True)
class Initiator:
    """Who did it. The address is that of the connection; who stands behind a proxy has the proxy's."""

    kind: Kind = Kind.USER
    id: str = UNKNOWN
    name: str = UNKNOWN
    project_id: str | None = None
    address: str | None = None
    agent: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What it was done to; ``of`` is the object that has it, as a server has its tags."""

    kind: str = UNKNOWN
    id: str = UNKNOWN
    of: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event. ``at`` is in seconds since the epoch, when it began."""

    id: str
    at: float
    #: CADF's verb and the policy rule that the call asked: ``delete/os_compute_api:servers:delete``
    action: str
    outcome: Outcome
    initiator: Initiator
    target: Target
    #: the room of the API, or the part of Lamina, that saw it
    observer: str
    #: None for what nobody asked for
    request_id: str | None = None
    global_request_id: str | None = None
    #: HTTP status of the answer
    status: int | None = None
    path: str | None = None
    #: further facts by name: ``left_out``, ``operation_id``, ``why``
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def own(at: float, action: str, target: Target, *, request_id: str | None = None, **more: Any) -> Event:
    """What Lamina began without being asked: it mends, confirms, clears, and keeps the queue."""
    by = Initiator(Kind.SERVICE, _service("lamina"), "lamina")
    told = {name: value for name, value in more.items() if value is not None}
    return Event(ids.new_uuid(), at, action, Outcome.SUCCESS, by, target, "operations", request_id, more=told)


def server(server_id: str) -> Target:
    return Target("service/compute/servers/server", server_id)


def verb(method: str) -> str:
    """CADF's verb for a method."""
    verbs = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete", "GET": "read", "HEAD": "read"}
    return verbs.get(method, UNKNOWN)


def _service(name: str) -> str:
    return str(uuid.uuid5(ids.LAMINA_NAMESPACE, f"service/{name}"))


def cadf(event: Event) -> dict[str, Any]:
    """The event as CADF has it in JSON."""
    who, what = event.initiator, event.target
    initiator: dict[str, Any] = {"id": who.id, "typeURI": str(who.kind), "name": who.name}
    if event.request_id is not None:
        initiator["request_id"] = event.request_id
    if who.project_id is not None:
        initiator["project_id"] = who.project_id
    if event.global_request_id is not None:
        initiator["global_request_id"] = event.global_request_id
    if who.address is not None or who.agent is not None:
        host = {"address": who.address, "agent": who.agent}
        initiator["host"] = {name: value for name, value in host.items() if value is not None}
    told: dict[str, Any] = {
        "typeURI": TYPE_URI,
        "eventType": "activity",
        "id": event.id,
        "eventTime": datetime.datetime.fromtimestamp(event.at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000"),
        "action": event.action,
        "outcome": str(event.outcome),
        "initiator": initiator,
        "target": {"id": what.id, "typeURI": what.kind},
        "observer": {"id": _service(event.observer), "typeURI": f"service/{event.observer}", "name": "lamina"},
    }
    if event.status is not None:
        told["reason"] = {"reasonCode": str(event.status), "reasonType": "HTTP"}
    if event.path is not None:
        told["requestPath"] = event.path
    attachments = ({"of": what.of} if what.of is not None else {}) | dict(event.more)
    if attachments:
        told["attachments"] = [{"typeURI": f"lamina/{name}", "name": name, "content": value} for name, value in attachments.items()]
    return told


def line(event: Event) -> str:
    """The event as one line of JSON, in ASCII: whatever a name has in it cannot begin another line."""
    return json.dumps(cadf(event), ensure_ascii=True, separators=(",", ":"))
