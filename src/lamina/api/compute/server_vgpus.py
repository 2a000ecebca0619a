"""vGPUs of a server, and giving it one more or one less while it goes on. Lamina's own: Nova knows them by flavor only."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from lamina.api.compute.answers import read
from lamina.api.compute.servers import caller_of, find, must_be_unlocked
from lamina.api.routing import MEMBER, READER, Reply, Request, Route
from lamina.model import attached, ids, resources
from lamina.model.servers import Server
from lamina.operations import attach, detach
from lamina.store import hosts
from lamina.store.hosts import Vgpu

RULE = "lamina:servers:vgpus"


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Attach(msgspec.Struct, forbid_unknown_fields=True):
    vgpu: Wanted


def _views(server: Server, held: list[Vgpu]) -> list[dict[str, Any]]:
    """Of several of one type, those that were made last are told as the attached ones: any of them may be given back."""
    beside = [one.trait for one in attached.of(server.flavor)]
    views = []
    for one in sorted(held, key=lambda vgpu: (-vgpu.created_at, vgpu.uuid)):
        trait = resources.type_trait(one.type)
        by_itself = trait in beside
        if by_itself:
            beside.remove(trait)
        views.append({"id": one.uuid, "type": one.type, "state": str(one.state), "attached": by_itself})
    return views[::-1]


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        server = find(tx, request)
        held = hosts.vgpus_of_server(tx, server.id, server.id)
    return Reply(200, {"vgpus": _views(server, held)})


def make(request: Request) -> Reply:
    wanted = read(request, Attach).vgpu
    with request.plane.db.read() as tx:
        server = find(tx, request)
    must_be_unlocked(request, server)
    attach.request(request.plane, caller_of(request), server.id, wanted.type)
    return Reply(202)


def remove(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        server = find(tx, request)
    must_be_unlocked(request, server)
    detach.request(request.plane, caller_of(request), server.id, ids.parse_uuid(request.path["vgpu"], "vgpu"))
    return Reply(202)


ROUTES = (
    Route("GET", "/servers/{server}/lamina-vgpus", index, f"{RULE}:list", READER),
    Route("POST", "/servers/{server}/lamina-vgpus", make, f"{RULE}:attach", MEMBER, takes=(Attach,), gives=(202,)),
    Route("DELETE", "/servers/{server}/lamina-vgpus/{vgpu}", remove, f"{RULE}:detach", MEMBER, gives=(202,)),
)
