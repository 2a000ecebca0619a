"""What hangs on a server: metadata, tags, interfaces, and the attachments that there are none of here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import read
from lamina.api.compute.server_networks import addresses, interface
from lamina.api.compute.server_requests import metadata_of, tags_of
from lamina.api.compute.servers import find, must_be_unlocked
from lamina.api.routing import MEMBER, READER, Reply, Request, Route, Version
from lamina.model.errors import BadRequest, NotFound
from lamina.model.hosts import PowerState
from lamina.model.servers import Server
from lamina.store import ports, servers

TAGS = Version(2, 26)
TAGGED_INTERFACES = Version(2, 70)


class MetadataBody(msgspec.Struct, forbid_unknown_fields=True):
    metadata: dict[str, str]


class MetaBody(msgspec.Struct, forbid_unknown_fields=True):
    meta: dict[str, str]


class TagsBody(msgspec.Struct, forbid_unknown_fields=True):
    tags: list[str]


def _read(request: Request) -> Server:
    with request.plane.db.read() as tx:
        return find(tx, request)


def _writable(tx: sa.Connection, request: Request) -> Server:
    server = find(tx, request)
    must_be_unlocked(request, server)
    return server


def list_metadata(request: Request) -> Reply:
    return Reply(200, {"metadata": _read(request).metadata})


def show_meta(request: Request) -> Reply:
    key = request.path["key"]
    metadata = _read(request).metadata
    if key not in metadata:
        raise NotFound("Metadata item was not found")
    return Reply(200, {"meta": {key: metadata[key]}})


def _change_metadata(request: Request, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
    """What `change` makes of the metadata that the server has in this very transaction."""
    with request.plane.db.write() as tx:
        server = _writable(tx, request)
        metadata = metadata_of(change(server.metadata))
        servers.update(tx, server.id, request.plane.clock.now(), expected=server.generation, metadata=metadata)
    return metadata


def merge_metadata(request: Request) -> Reply:
    items = read(request, MetadataBody).metadata
    return Reply(200, {"metadata": _change_metadata(request, lambda metadata: metadata | items)})


def replace_metadata(request: Request) -> Reply:
    items = read(request, MetadataBody).metadata
    return Reply(200, {"metadata": _change_metadata(request, lambda _metadata: items)})


def set_meta(request: Request) -> Reply:
    key, meta = request.path["key"], read(request, MetaBody).meta
    if list(meta) != [key]:
        raise BadRequest("Request body and URI mismatch")
    _change_metadata(request, lambda metadata: metadata | meta)
    return Reply(200, {"meta": meta})


def delete_meta(request: Request) -> Reply:
    key = request.path["key"]

    def without(metadata: dict[str, str]) -> dict[str, str]:
        if key not in metadata:
            raise NotFound("Metadata item was not found")
        return {k: v for k, v in metadata.items() if k != key}

    _change_metadata(request, without)
    return Reply(204)


# ---------------------------------------------------------------------------------------------------- tags


def list_tags(request: Request) -> Reply:
    return Reply(200, {"tags": list(_read(request).tags)})


def has_tag(request: Request) -> Reply:
    if request.path["tag"] not in _read(request).tags:
        raise _no_tag(request)
    return Reply(204)


def _no_tag(request: Request) -> NotFound:
    return NotFound(f"Server {request.path['server'][:80]} has no tag '{request.path['tag'][:80]}'")


def _change_tags(request: Request, change: Callable[[list[str]], list[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tags that the server had, and what `change` has made of them in the same transaction."""
    with request.plane.db.write() as tx:
        server = _writable(tx, request)
        changed = tags_of(change(list(server.tags)))
        servers.update(tx, server.id, request.plane.clock.now(), expected=server.generation, tags=list(changed))
    return server.tags, changed


def replace_tags(request: Request) -> Reply:
    tags = read(request, TagsBody).tags
    _, changed = _change_tags(request, lambda _tags: tags)
    return Reply(200, {"tags": list(changed)})


def add_tag(request: Request) -> Reply:
    tag = request.path["tag"]
    before, _ = _change_tags(request, lambda tags: tags if tag in tags else [*tags, tag])
    return Reply(204) if tag in before else Reply(201, headers={"Location": request.url})


def delete_tag(request: Request) -> Reply:
    tag = request.path["tag"]

    def without(tags: list[str]) -> list[str]:
        if tag not in tags:
            raise _no_tag(request)
        return [t for t in tags if t != tag]

    _change_tags(request, without)
    return Reply(204)


def delete_tags(request: Request) -> Reply:
    _change_tags(request, lambda _tags: [])
    return Reply(204)


# ---------------------------------------------------------------------------------------------------- attachments


def _interfaces(request: Request) -> list[dict[str, Any]]:
    with request.plane.db.read() as tx:
        server = find(tx, request)
        running = server.power_state is PowerState.RUNNING
        return [interface(port, running=running, tagged=request.version >= TAGGED_INTERFACES) for port in ports.of_server(tx, server.id)]


def list_interfaces(request: Request) -> Reply:
    return Reply(200, {"interfaceAttachments": _interfaces(request)})


def show_interface(request: Request) -> Reply:
    port_id = request.path["port"]
    for shown in _interfaces(request):
        if shown["port_id"] == port_id:
            return Reply(200, {"interfaceAttachment": shown})
    raise NotFound(f"Instance {request.path['server'][:80]} does not have a port with id {port_id[:80]}")


def no_volumes(request: Request) -> Reply:
    _read(request)
    return Reply(200, {"volumeAttachments": []})


def _addresses(request: Request) -> dict[str, list[Any]]:
    with request.plane.db.read() as tx:
        return addresses(ports.of_server(tx, find(tx, request).id))


def list_addresses(request: Request) -> Reply:
    return Reply(200, {"addresses": _addresses(request)})


def show_addresses(request: Request) -> Reply:
    network, known = request.path["network"], _addresses(request)
    if network not in known:
        raise NotFound(f"Instance is not a member of specified network: {network[:80]}")
    return Reply(200, {network: known[network]})


def security_groups(request: Request) -> Reply:
    _read(request)
    return Reply(200, {"security_groups": [{"id": "default", "name": "default", "description": "", "rules": []}]})


META = "os_compute_api:server-metadata"
TAG = "os_compute_api:os-server-tags"
ROUTES = (
    Route("GET", "/servers/{server}/metadata", list_metadata, f"{META}:index", READER),
    Route("POST", "/servers/{server}/metadata", merge_metadata, f"{META}:create", MEMBER, takes=(MetadataBody,)),
    Route("PUT", "/servers/{server}/metadata", replace_metadata, f"{META}:update_all", MEMBER, takes=(MetadataBody,)),
    Route("GET", "/servers/{server}/metadata/{key}", show_meta, f"{META}:show", READER),
    Route("PUT", "/servers/{server}/metadata/{key}", set_meta, f"{META}:update", MEMBER, takes=(MetaBody,)),
    Route("DELETE", "/servers/{server}/metadata/{key}", delete_meta, f"{META}:delete", MEMBER, gives=(204,)),
    Route("GET", "/servers/{server}/tags", list_tags, f"{TAG}:index", READER, since=TAGS),
    Route("PUT", "/servers/{server}/tags", replace_tags, f"{TAG}:update_all", MEMBER, since=TAGS, takes=(TagsBody,)),
    Route("DELETE", "/servers/{server}/tags", delete_tags, f"{TAG}:delete_all", MEMBER, since=TAGS, gives=(204,)),
    Route("GET", "/servers/{server}/tags/{tag}", has_tag, f"{TAG}:show", READER, since=TAGS, gives=(204,)),
    Route("PUT", "/servers/{server}/tags/{tag}", add_tag, f"{TAG}:update", MEMBER, since=TAGS, gives=(201, 204)),
    Route("DELETE", "/servers/{server}/tags/{tag}", delete_tag, f"{TAG}:delete", MEMBER, since=TAGS, gives=(204,)),
    Route("GET", "/servers/{server}/os-interface", list_interfaces, "os_compute_api:os-attach-interfaces:list", READER),
    Route("GET", "/servers/{server}/os-interface/{port}", show_interface, "os_compute_api:os-attach-interfaces:show", READER),
    Route("GET", "/servers/{server}/os-volume_attachments", no_volumes, "os_compute_api:os-volumes-attachments:index", READER),
    Route("GET", "/servers/{server}/ips", list_addresses, "os_compute_api:ips:index", READER),
    Route("GET", "/servers/{server}/ips/{network}", show_addresses, "os_compute_api:ips:show", READER),
    Route("GET", "/servers/{server}/os-security-groups", security_groups, "os_compute_api:os-security-groups:list", READER),
)
