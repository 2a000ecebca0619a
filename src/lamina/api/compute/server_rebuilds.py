"""What a caller may say to rebuild a server (Compute API reference, "Rebuild Server (rebuild Action)")."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from lamina.api.compute.answers import PREFIX, as_bool
from lamina.api.compute.server_requests import (
    description_of,
    find_image,
    hostname_of,
    metadata_of,
    must_be_manual_or_auto,
    must_be_no_address,
    name_of,
    public_key_of,
    user_data_of,
)
from lamina.api.compute.server_views import after_change
from lamina.api.compute.servers import beside, caller_of
from lamina.api.routing import Reply, Request, Version
from lamina.model import decoding
from lamina.model.errors import BadRequest
from lamina.model.servers import Server
from lamina.operations import rebuild as operation
from lamina.store import servers as store

#: parameter -> the version that servers can be rebuilt with it from
SINCE = {
    "description": Version(2, 19),
    "key_name": Version(2, 54),
    "user_data": Version(2, 57),
    "trusted_image_certificates": Version(2, 63),
    "hostname": Version(2, 90),
    "reimage_boot_volume": Version(2, 93),
}


class Rebuild(msgspec.Struct, forbid_unknown_fields=True):
    image: str = msgspec.field(name="imageRef")
    name: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    key_name: str | UnsetType | None = UNSET
    user_data: str | UnsetType | None = UNSET
    hostname: str | UnsetType = UNSET
    trusted_image_certificates: list[str] | UnsetType | None = UNSET
    reimage_boot_volume: bool | str | UnsetType = UNSET
    preserve_ephemeral: bool | str = False
    admin_pass: str | None = msgspec.field(default=None, name="adminPass")
    personality: list[dict[str, str]] = []
    disk_config: str | None = msgspec.field(default=None, name="OS-DCF:diskConfig")
    access_ipv4: str | None = msgspec.field(default=None, name="accessIPv4")
    access_ipv6: str | None = msgspec.field(default=None, name="accessIPv6")


def rebuild(request: Request, server: Server, value: Any) -> Reply:
    """Raises `BadRequest`, `Forbidden`, `InvalidState`."""
    try:
        body = decoding.from_plain(value, Rebuild)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for rebuild: {error}") from error
    _must_be_served(request, body)
    changes = _changes(request, body)
    with request.plane.db.read() as tx:
        image_id = find_image(tx, request, body.image, server.flavor)
    operation.request(request.plane, caller_of(request), server.id, image_id, changes)
    with request.plane.db.read() as tx:
        server = store.get(tx, server.id)
        shown = after_change(request, server, beside(tx, request, [server]))
    if request.version >= SINCE["key_name"]:
        shown["key_name"] = server.key_name
    if request.version >= SINCE["user_data"]:
        shown["user_data"] = server.user_data
    return Reply(202, {"server": shown}, {"Location": f"{request.plane.settings.public_url}{PREFIX}/servers/{server.id}"})


def _must_be_served(request: Request, body: Rebuild) -> None:
    for name, since in SINCE.items():
        if getattr(body, name) is not UNSET and request.version < since:
            raise BadRequest(f"{name}: servers can be rebuilt with it from version {since} on")
    if body.trusted_image_certificates not in (UNSET, None, []):
        raise BadRequest("trusted_image_certificates: signatures of images are not checked here")
    if body.reimage_boot_volume is not UNSET and as_bool(body.reimage_boot_volume, "reimage_boot_volume"):
        raise BadRequest("reimage_boot_volume: servers boot from a local disk; there are no volumes here")
    if body.personality:
        raise BadRequest("personality: files cannot be put into a server; use user_data")
    as_bool(body.preserve_ephemeral, "preserve_ephemeral")  # there are no ephemeral disks beside the one that is made anew
    must_be_manual_or_auto(body.disk_config)
    must_be_no_address(body.access_ipv4, "accessIPv4")
    must_be_no_address(body.access_ipv6, "accessIPv6")


def _changes(request: Request, body: Rebuild) -> dict[str, Any]:
    """Columns of the server that the caller wants otherwise. Raises `BadRequest`, `Forbidden`."""
    changes: dict[str, Any] = {}
    if body.name is not UNSET:
        changes["name"] = name_of(body.name)
    if body.metadata is not UNSET:
        changes["metadata"] = metadata_of(body.metadata)
    if body.description is not UNSET:
        changes["description"] = description_of(body.description)
    if body.user_data is not UNSET:
        changes["user_data"] = user_data_of(body.user_data)
    if body.hostname is not UNSET:
        changes["hostname"] = hostname_of(body.hostname)
    if body.key_name is not UNSET:
        with request.plane.db.read() as tx:
            public_key = public_key_of(tx, request, body.key_name) if body.key_name is not None else None
        changes |= {"key_name": body.key_name, "public_key": public_key}
    return changes
