"""Resource classes. Source: Placement API reference, "Resource Classes", "Resource Class"."""

from __future__ import annotations

from typing import Any

import msgspec

from lamina.api.placement.answers import at, body, path_to, reply, route
from lamina.api.routing import Reply, Request
from lamina.model import resources
from lamina.model.errors import BadRequest, NotFound
from lamina.store.resource_names import RESOURCE_CLASSES


class Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str


def _shown(request: Request, name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": path_to(request, "resource_classes", name)}]}


def index(request: Request) -> Reply:
    """GET /resource_classes."""
    with request.plane.db.read() as tx:
        found = RESOURCE_CLASSES.all(tx)
    return reply(request, {"resource_classes": [_shown(request, name) for name in found]})


def show(request: Request) -> Reply:
    """GET /resource_classes/{name}."""
    name = request.path["name"]
    with request.plane.db.read() as tx:
        if not RESOURCE_CLASSES.exists(tx, name):
            raise NotFound(f"No such resource class {name[:255]}.")
    return reply(request, _shown(request, name))


def create(request: Request) -> Reply:
    """POST /resource_classes."""
    name = _custom(body(request, Named).name)
    with request.plane.db.write() as tx:
        RESOURCE_CLASSES.create(tx, name)
    return Reply(201, headers=at(request, f"/resource_classes/{name}"))


def _custom(text: str) -> str:
    try:
        return resources.parse_custom_class(text)
    except BadRequest as error:
        keyword = "maxLength" if len(text) > resources.MOST_NAME else "pattern"
        raise BadRequest(f"JSON does not validate: {error.message}. Failed validating '{keyword}'") from error


def rename(request: Request) -> Reply:
    """PUT /resource_classes/{name} before 1.7: the custom class gets another name."""
    wanted = _custom(body(request, Named).name)
    with request.plane.db.write() as tx:
        RESOURCE_CLASSES.rename(tx, request.path["name"], wanted)
    return reply(request, _shown(request, wanted))


def ensure(request: Request) -> Reply:
    """PUT /resource_classes/{name} from 1.7 on: 201 where the class is new, 204 where it was there."""
    if request.body:
        raise BadRequest("PUT /resource_classes/{name} takes no body from microversion 1.7 on")
    name = _custom(request.path["name"])
    with request.plane.db.write() as tx:
        new = RESOURCE_CLASSES.ensure(tx, name)
    return Reply(201 if new else 204, headers=at(request, f"/resource_classes/{name}"))


def delete(request: Request) -> Reply:
    """DELETE /resource_classes/{name}."""
    with request.plane.db.write() as tx:
        RESOURCE_CLASSES.delete(tx, request.path["name"])
    return Reply(204)


ROUTES = (
    route("GET", "/resource_classes", index, "resource_classes:list", since=2),
    route("POST", "/resource_classes", create, "resource_classes:create", since=2, takes=(Named,), gives=(201,)),
    route("GET", "/resource_classes/{name}", show, "resource_classes:show", since=2),
    route("PUT", "/resource_classes/{name}", rename, "resource_classes:update", since=2, until=6, takes=(Named,)),
    route("PUT", "/resource_classes/{name}", ensure, "resource_classes:update", since=7, gives=(201, 204)),
    route("DELETE", "/resource_classes/{name}", delete, "resource_classes:delete", since=2, gives=(204,)),
)
