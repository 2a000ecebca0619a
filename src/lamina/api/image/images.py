"""Images by themselves: made, shown, changed, tagged, deleted. Source: Image API v2 reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.image import access, answers, attributes, listing
from lamina.api.routing import MEMBER, READER, Reply, Request, Route
from lamina.model import ids
from lamina.model.errors import BadRequest, Conflict, Forbidden, NotFound, NotImplementedHere, UnsupportedMedia
from lamina.operations import image_contents
from lamina.store import images
from lamina.store.images import Image

_PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """One step of a patch; ``path`` is a JSON pointer to an attribute (RFC 6902, RFC 6901)."""

    op: Literal["add", "replace", "remove"]
    path: str
    value: Any = UNSET

    @property
    def name(self) -> str:
        """The attribute. Raises `BadRequest` for pointers that lead deeper."""
        head, slash, name = self.path.partition("/")
        if head or not slash or not name or "/" in name:
            raise BadRequest(f"path: {self.path[:80]!r} does not name one attribute; it looks like /name")
        return name.replace("~1", "/").replace("~0", "~")




def create(request: Request) -> Reply:
    """POST /images."""
    wanted = dict(request.json(dict[str, Any]))
    now = request.plane.clock.now()
    image_id = wanted.pop("id", None)
    if image_id is not None and not isinstance(image_id, str):
        raise BadRequest("id: the id of an image is a uuid")
    owner = wanted.setdefault("owner", request.context.project_id)
    if owner is None:
        raise BadRequest("owner: a token without a project must say which project shall own the image")
    blank = Image(
        id=ids.parse_uuid(image_id) if image_id is not None else ids.new_uuid(), owner=str(owner), created_at=now, updated_at=now
    )
    made = attributes.said(blank, request.context, wanted)
    with request.plane.db.write() as tx:
        images.add(tx, made)
    location = f"{request.plane.settings.public_url}/image/v2/images/{made.id}"
    return Reply(201, answers.image(made), {"Location": location, "OpenStack-image-import-methods": ""})


def show(request: Request) -> Reply:
    """GET /images/{image_id}."""
    with request.plane.db.read() as tx:
        found = access.visible(tx, request)
    return Reply(200, answers.image(found))


def change(request: Request) -> Reply:
    """PATCH /images/{image_id}."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _PATCH_TYPE:
        raise UnsupportedMedia(f"An image is changed with a body of the type {_PATCH_TYPE}.")
    changes = request.json(list[Change])
    with request.plane.db.write() as tx:
        found = access.changeable(tx, request)
        wanted = attributes.flat(found)
        for one in changes:
            _apply(one, wanted)
        changed = dataclasses.replace(attributes.said(found, request.context, wanted), updated_at=request.plane.clock.now())
        images.change(tx, changed)
    return Reply(200, answers.image(changed))


def _apply(one: Change, wanted: dict[str, Any]) -> None:
    name = one.name
    if name in attributes.READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if one.op == "remove":
        if name in attributes.NAMES:
            raise Forbidden(f"Attribute '{name}' cannot be removed.")
        if name not in wanted:
            raise Conflict(f"Property {name} does not exist.")
        del wanted[name]
        return
    if isinstance(one.value, UnsetType):
        raise BadRequest(f"value: '{one.op}' of {name} needs one")
    if one.op == "replace" and name not in wanted:
        raise Conflict(f"Property {name} does not exist.")
    wanted[name] = one.value


def delete(request: Request) -> Reply:
    """DELETE /images/{image_id}."""
    with request.plane.db.write() as tx:
        found = access.changeable(tx, request)
        if found.protected:
            raise Forbidden(f"Image {found.id} is protected and cannot be deleted.")
        images.delete(tx, found.id)
    image_contents.remove(request.plane, found.id)
    return Reply(204)


def tag(request: Request) -> Reply:
    """PUT /images/{image_id}/tags/{tag}."""
    return _retag(request, lambda tags, word: tuple(dict.fromkeys((*tags, word))))


def untag(request: Request) -> Reply:
    """DELETE /images/{image_id}/tags/{tag}."""

    def without(tags: tuple[str, ...], word: str) -> tuple[str, ...]:
        if word not in tags:
            raise NotFound(f"The image has no tag {word!r}.")
        return tuple(one for one in tags if one != word)

    return _retag(request, without)


def _retag(request: Request, how: Callable[[tuple[str, ...], str], tuple[str, ...]]) -> Reply:
    with request.plane.db.write() as tx:
        found = access.changeable(tx, request)
        wanted = attributes.flat(found) | {"tags": list(how(found.tags, request.path["tag"]))}
        changed = attributes.said(found, request.context, wanted)
        images.change(tx, dataclasses.replace(changed, updated_at=request.plane.clock.now()))
    return Reply(204)


def members(request: Request) -> Reply:
    """GET /images/{image_id}/members: nobody."""
    with request.plane.db.read() as tx:
        access.visible(tx, request)
    return Reply(200, {"members": [], "schema": "/v2/schemas/members"})


def add_member(request: Request) -> Reply:
    """POST /images/{image_id}/members."""
    with request.plane.db.read() as tx:
        access.visible(tx, request)
    raise NotImplementedHere("An image cannot be shared with single projects here; make it 'community' or 'public' instead.")


def import_info(request: Request) -> Reply:
    """GET /info/import: content is sent with PUT …/file, and in no other way."""
    methods = {"description": "Import methods available.", "type": "array", "value": list[str]()}
    return Reply(200, {"import-methods": methods})


ROUTES = (
    Route(
        "GET",
        "/images",
        listing.index,
        "get_images",
        READER,
        query=("limit", "marker", "size_max", "size_min", "sort", "sort_dir", "sort_key", "tag", "visibility"),
    ),
    Route("POST", "/images", create, "add_image", MEMBER, takes=(dict[str, Any],), gives=(201,)),
    Route("GET", "/images/{image_id}", show, "get_image", READER),
    Route("PATCH", "/images/{image_id}", change, "modify_image", MEMBER, takes=(list[Change],), media_type=_PATCH_TYPE, refuses=(415,)),
    Route("DELETE", "/images/{image_id}", delete, "delete_image", MEMBER, gives=(204,)),
    Route("PUT", "/images/{image_id}/tags/{tag}", tag, "modify_image", MEMBER, gives=(204,)),
    Route("DELETE", "/images/{image_id}/tags/{tag}", untag, "modify_image", MEMBER, gives=(204,)),
    Route("GET", "/images/{image_id}/members", members, "get_members", READER),
    Route("POST", "/images/{image_id}/members", add_member, "add_member", MEMBER, gives=(), refuses=(501,)),
    Route("GET", "/info/import", import_info, "get_import_info", READER),
)
