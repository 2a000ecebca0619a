"""Host aggregates (Compute API reference, "Host aggregates"). Those of Placement follow them, host by host."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import precise_moment, read
from lamina.api.routing import ADMIN, Reply, Request, Route, Version
from lamina.model.aggregates import ZONE, Aggregate
from lamina.model.errors import AlreadyExists, BadRequest, ConcurrentUpdate, Conflict, NotFound
from lamina.store import aggregates as store

WITH_UUID = Version(2, 41)


class New(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    zone: str | None = msgspec.field(default=None, name="availability_zone")


class NewBody(msgspec.Struct, forbid_unknown_fields=True):
    aggregate: New


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    name: str | msgspec.UnsetType = msgspec.UNSET
    zone: str | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="availability_zone")


class ChangesBody(msgspec.Struct, forbid_unknown_fields=True):
    aggregate: Changes


class Member(msgspec.Struct, forbid_unknown_fields=True):
    host: str


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    metadata: dict[str, str | None]


class ActionBody(msgspec.Struct, forbid_unknown_fields=True):
    add_host: Member | None = None
    remove_host: Member | None = None
    set_metadata: Metadata | None = None


def _view(request: Request, aggregate: Aggregate) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": aggregate.id,
        "name": aggregate.name,
        "availability_zone": aggregate.zone,
        "metadata": dict(aggregate.metadata),
        "hosts": sorted(aggregate.hosts),
        "created_at": precise_moment(aggregate.created_at),
        "updated_at": precise_moment(aggregate.updated_at),
        "deleted_at": None,
        "deleted": False,
    }
    return shown | ({"uuid": aggregate.uuid} if request.version >= WITH_UUID else {})


def _id(request: Request) -> int:
    """Raises `BadRequest` for what is no number, and `NotFound` for one that no aggregate can have."""
    text = request.path["aggregate"]
    if not re.fullmatch(r"-?[0-9]+", text):
        raise BadRequest(f"id: {text[:80]!r} is not a whole number")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise NotFound(f"Aggregate {text[:80]} could not be found.")
    return int(text)


def _name(text: str) -> str:
    stripped = text.strip()
    if not 1 <= len(stripped) <= 255 or not stripped.isprintable():
        raise BadRequest("name: 1 to 255 printable characters are needed")
    return stripped


def _zone(text: str | None) -> str:
    """Raises `BadRequest` also for none at all: an aggregate that makes a zone is one for good."""
    if text is None or not 1 <= len(text) <= 255 or not text.isprintable() or text != text.strip() or ":" in text:
        raise BadRequest("availability_zone: 1 to 255 printable characters are needed, no ':' and no space at either end")
    return text


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        found = store.every(tx)
    return Reply(200, {"aggregates": [_view(request, aggregate) for aggregate in found]})


def create(request: Request) -> Reply:
    body = read(request, NewBody).aggregate
    zone = None if body.zone is None else _zone(body.zone)
    with request.plane.db.write() as tx:
        made = store.add(tx, _name(body.name), zone, request.plane.clock.now())
    shown = _view(request, made)
    return Reply(200, {"aggregate": {key: value for key, value in shown.items() if key not in ("hosts", "metadata")}})


def show(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        found = store.get(tx, _id(request))
    return Reply(200, {"aggregate": _view(request, found)})


def update(request: Request) -> Reply:
    body = read(request, ChangesBody).aggregate
    if body.name is msgspec.UNSET and body.zone is msgspec.UNSET:
        raise BadRequest("aggregate: a name or an availability_zone to change is needed")
    name = None if body.name is msgspec.UNSET else _name(body.name)
    metadata: dict[str, str | None] = {} if body.zone is msgspec.UNSET else {ZONE: _zone(body.zone)}
    with request.plane.db.write() as tx:
        changed = _updated(tx, request, name, metadata)
    return Reply(200, {"aggregate": _view(request, changed)})


def _updated(tx: sa.Connection, request: Request, name: str | None, metadata: dict[str, str | None]) -> Aggregate:
    """Raises `BadRequest` for a zone that cannot be, as Nova does for a change, and `Conflict` for a name that is taken."""
    try:
        return store.update(tx, _id(request), request.plane.clock.now(), name=name, metadata=metadata)
    except (AlreadyExists, ConcurrentUpdate):
        raise
    except Conflict as error:
        raise BadRequest(error.message) from error


def delete(request: Request) -> Reply:
    with request.plane.db.write() as tx:
        try:
            store.delete(tx, _id(request))
        except ConcurrentUpdate:
            raise
        except Conflict as error:
            raise BadRequest(error.message) from error
    return Reply(200)


def act(request: Request) -> Reply:
    """Add a host, remove one, or set metadata, of which null takes a key out."""
    body = read(request, ActionBody)
    now = request.plane.clock.now()
    with request.plane.db.write() as tx:
        match (body.add_host, body.remove_host, body.set_metadata):
            case (Member() as added, None, None):
                changed = store.add_host(tx, _id(request), added.host, now)
            case (None, Member() as removed, None):
                changed = store.remove_host(tx, _id(request), removed.host, now)
            case (None, None, Metadata() as said):
                changed = _updated(tx, request, None, _metadata(said.metadata))
            case _:
                raise BadRequest("An aggregate's action is one of add_host, remove_host and set_metadata.")
    return Reply(200, {"aggregate": _view(request, changed)})


def _metadata(items: dict[str, str | None]) -> dict[str, str | None]:
    for key, value in items.items():
        if not re.fullmatch(r"[a-zA-Z0-9_:. -]{1,255}", key):
            raise BadRequest(f"metadata: {key[:80]!r} is not a key: 1 to 255 of letters, digits, '_', ':', '.', '-' and space")
        if value is not None and len(value) > 255:
            raise BadRequest(f"metadata: the value of {key} is longer than 255 characters")
    if ZONE in items:
        _zone(items[ZONE])
    return items


RULE = "os_compute_api:os-aggregates"
ROUTES = (
    Route("GET", "/os-aggregates", index, f"{RULE}:index", ADMIN),
    Route("POST", "/os-aggregates", create, f"{RULE}:create", ADMIN, takes=(NewBody,)),
    Route("GET", "/os-aggregates/{aggregate}", show, f"{RULE}:show", ADMIN),
    Route("PUT", "/os-aggregates/{aggregate}", update, f"{RULE}:update", ADMIN, takes=(ChangesBody,)),
    Route("DELETE", "/os-aggregates/{aggregate}", delete, f"{RULE}:delete", ADMIN),
    Route(
        "POST",
        "/os-aggregates/{aggregate}/action",
        act,
        f"{RULE}:action",
        ADMIN,
        takes=(ActionBody,),
        actions=("add_host", "remove_host", "set_metadata"),
    ),
)
