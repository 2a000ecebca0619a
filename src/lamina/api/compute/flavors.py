"""Flavors, their extra specs and who may use them (Compute API reference, "Flavors", "Flavor extra-specs", "Flavors access")."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import as_bool, links, next_link, page_limit, read
from lamina.api.routing import ADMIN, READER, Reply, Request, Route, Version
from lamina.model import ids
from lamina.model.errors import BadRequest, NotFound
from lamina.model.flavors import Flavor
from lamina.store import flavors

WITH_DESCRIPTION = Version(2, 55)
WITH_EXTRA_SPECS = Version(2, 61)
SWAP_IS_A_NUMBER = Version(2, 75)


class NewFlavor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    ram: int | str
    vcpus: int | str
    disk: int | str
    id: str | int | None = None
    swap: int | str | None = 0
    ephemeral: int | str = msgspec.field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    rxtx_factor: float | str = 1.0
    public: bool | str = msgspec.field(default=True, name="os-flavor-access:is_public")
    description: str | None = None


class NewFlavorBody(msgspec.Struct, forbid_unknown_fields=True):
    flavor: NewFlavor


class Description(msgspec.Struct, forbid_unknown_fields=True):
    description: str | None


class DescriptionBody(msgspec.Struct, forbid_unknown_fields=True):
    flavor: Description


class ExtraSpecsBody(msgspec.Struct, forbid_unknown_fields=True):
    extra_specs: dict[str, str | int | float]


class Tenant(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str


class AccessBody(msgspec.Struct, forbid_unknown_fields=True):
    add: Tenant | None = msgspec.field(default=None, name="addTenantAccess")
    remove: Tenant | None = msgspec.field(default=None, name="removeTenantAccess")


def view(request: Request, flavor: Flavor) -> dict[str, Any]:
    swap: int | str = flavor.swap_mb if request.version >= SWAP_IS_A_NUMBER or flavor.swap_mb else ""
    shown: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "ram": flavor.memory_mb,
        "disk": flavor.disk_gb,
        "swap": swap,
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gb,
        "OS-FLV-DISABLED:disabled": False,
        "vcpus": flavor.vcpus,
        "os-flavor-access:is_public": flavor.public,
        "rxtx_factor": flavor.rxtx_factor,
        "links": links(request, "flavors", flavor.id),
    }
    if request.version >= WITH_DESCRIPTION:
        shown["description"] = flavor.description
    if request.version >= WITH_EXTRA_SPECS:
        shown["extra_specs"] = dict(flavor.extra_specs)
    return shown


def _seen_by(request: Request) -> str | None:
    """The project whose flavors these are; None for an administrator, who sees every one."""
    return None if request.context.is_admin else request.context.project_id or ""


def _find(request: Request) -> Flavor:
    with request.plane.db.read() as tx:
        return flavors.get(tx, request.path["flavor"], project_id=_seen_by(request))


def _page(request: Request) -> tuple[list[Flavor], int]:
    public: bool | None = True
    asked = request.value("is_public")
    if request.context.is_admin and asked is not None:
        public = None if asked.lower() == "none" else as_bool(asked, "is_public")
    direction = request.value("sort_dir") or "asc"
    if direction not in ("asc", "desc"):
        raise BadRequest(f"sort_dir: {direction[:80]!r} is neither 'asc' nor 'desc'")
    limit, marker = page_limit(request), request.value("marker")
    with request.plane.db.read() as tx:
        if marker is not None:
            _must_see(tx, request, marker)
        found = flavors.page(
            tx,
            public=public,
            project_id=request.context.project_id,
            min_memory_mb=_least(request, "minRam"),
            min_disk_gb=_least(request, "minDisk"),
            sort=request.value("sort_key") or "flavorid",
            direction="asc" if direction == "asc" else "desc",
            marker=marker,
            limit=limit,
        )
    return found, limit


def _must_see(tx: sa.Connection, request: Request, marker: str) -> None:
    """Raises `BadRequest` for a marker that the caller may not see, in the words of one that is not there."""
    try:
        flavors.get(tx, marker, project_id=_seen_by(request))
    except NotFound:
        raise BadRequest(f"marker [{marker[:80]}] not found") from None


def _least(request: Request, name: str) -> int:
    text = request.value(name) or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 11):
        raise BadRequest(f"{name}: {text[:80]!r} is not a whole number from 0 on")
    return int(text)


def index(request: Request) -> Reply:
    found, limit = _page(request)
    shown: list[dict[str, Any]] = []
    for flavor in found:
        shown.append({"id": flavor.id, "name": flavor.name, "links": links(request, "flavors", flavor.id)})
        if request.version >= WITH_DESCRIPTION:
            shown[-1]["description"] = flavor.description
    return Reply(200, {"flavors": shown} | _more(request, "/flavors", found, limit))


def detail(request: Request) -> Reply:
    found, limit = _page(request)
    return Reply(200, {"flavors": [view(request, f) for f in found]} | _more(request, "/flavors/detail", found, limit))


def _more(request: Request, path: str, found: list[Flavor], limit: int) -> dict[str, Any]:
    more = next_link(request, path, found, limit, found[-1].id if found else "")
    return {"flavors_links": more["links"]} if more else {}


def show(request: Request) -> Reply:
    return Reply(200, {"flavor": view(request, _find(request))})


def create(request: Request) -> Reply:
    body = read(request, NewFlavorBody).flavor
    if body.description is not None and request.version < WITH_DESCRIPTION:
        raise BadRequest(f"description: flavors have one from version {WITH_DESCRIPTION} on")
    flavor_id = str(body.id) if body.id not in (None, "", "auto") else ids.new_uuid()
    flavor = Flavor(
        id=flavor_id,
        name=body.name.strip(),
        vcpus=_whole(body.vcpus, "vcpus"),
        memory_mb=_whole(body.ram, "ram"),
        disk_gb=_whole(body.disk, "disk"),
        ephemeral_gb=_whole(body.ephemeral, "OS-FLV-EXT-DATA:ephemeral"),
        swap_mb=_whole(body.swap or 0, "swap"),
        rxtx_factor=_number(body.rxtx_factor, "rxtx_factor"),
        public=as_bool(body.public, "os-flavor-access:is_public"),
        description=body.description,
    )
    with request.plane.db.write() as tx:
        flavors.create(tx, flavor)
    return Reply(200, {"flavor": view(request, flavor)})


def _whole(value: int | str, what: str) -> int:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,10}", value):
        raise BadRequest(f"{what}: {value[:80]!r} is not a whole number")
    return int(value)


def _number(value: float | str, what: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise BadRequest(f"{what}: {str(value)[:80]!r} is not a number") from None


def describe(request: Request) -> Reply:
    body = read(request, DescriptionBody).flavor
    with request.plane.db.write() as tx:
        changed = flavors.describe(tx, request.path["flavor"], body.description)
    return Reply(200, {"flavor": view(request, changed)})


def delete(request: Request) -> Reply:
    with request.plane.db.write() as tx:
        flavors.delete(tx, request.path["flavor"])
    return Reply(202)


# ---------------------------------------------------------------------------------------------------- extra specs


def list_extra_specs(request: Request) -> Reply:
    return Reply(200, {"extra_specs": dict(_find(request).extra_specs)})


def show_extra_spec(request: Request) -> Reply:
    key = request.path["key"]
    specs = _find(request).extra_specs
    if key not in specs:
        raise NotFound(f"Flavor {request.path['flavor']} has no extra specs with key {key}.")
    return Reply(200, {key: specs[key]})


def create_extra_specs(request: Request) -> Reply:
    body = read(request, ExtraSpecsBody)
    specs = {key: str(value) for key, value in body.extra_specs.items()}
    with request.plane.db.write() as tx:
        flavors.set_extra_specs(tx, request.path["flavor"], specs)
    return Reply(200, {"extra_specs": specs})


def set_extra_spec(request: Request) -> Reply:
    key = request.path["key"]
    body = read(request, dict[str, str | int | float])
    if list(body) != [key]:
        raise BadRequest(f"{key}: the body has this one key and its value")
    with request.plane.db.write() as tx:
        flavors.set_extra_specs(tx, request.path["flavor"], {key: str(body[key])})
    return Reply(200, {key: str(body[key])})


def delete_extra_spec(request: Request) -> Reply:
    with request.plane.db.write() as tx:
        flavors.delete_extra_spec(tx, request.path["flavor"], request.path["key"])
    return Reply(200)


# ---------------------------------------------------------------------------------------------------- access


def list_access(request: Request) -> Reply:
    flavor_id = request.path["flavor"]
    with request.plane.db.read() as tx:
        found = flavors.list_access(tx, flavor_id)
    return Reply(200, {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": project_id} for project_id in found]})


def act(request: Request) -> Reply:
    body = read(request, AccessBody)
    flavor_id = request.path["flavor"]
    with request.plane.db.write() as tx:
        if body.add is not None and body.remove is None:
            flavors.add_access(tx, flavor_id, body.add.tenant)
        elif body.remove is not None and body.add is None:
            flavors.remove_access(tx, flavor_id, body.remove.tenant)
        else:
            raise BadRequest("A flavor's action is either addTenantAccess or removeTenantAccess.")
    return list_access(request)


RULE = "os_compute_api:flavors"
SPECS = "os_compute_api:os-flavor-extra-specs"
ACCESS = "os_compute_api:os-flavor-access"
MANAGE = "os_compute_api:os-flavor-manage"
ROUTES = (
    Route(
        "GET",
        "/flavors",
        index,
        f"{RULE}:index",
        READER,
        query=("is_public", "limit", "marker", "minDisk", "minRam", "sort_dir", "sort_key"),
    ),
    Route("POST", "/flavors", create, f"{MANAGE}:create", ADMIN, takes=(NewFlavorBody,)),
    Route(
        "GET",
        "/flavors/detail",
        detail,
        f"{RULE}:detail",
        READER,
        query=("is_public", "limit", "marker", "minDisk", "minRam", "sort_dir", "sort_key"),
    ),
    Route("GET", "/flavors/{flavor}", show, f"{RULE}:show", READER),
    Route("PUT", "/flavors/{flavor}", describe, f"{MANAGE}:update", ADMIN, since=WITH_DESCRIPTION, takes=(DescriptionBody,)),
    Route("DELETE", "/flavors/{flavor}", delete, f"{MANAGE}:delete", ADMIN, gives=(202,)),
    Route("GET", "/flavors/{flavor}/os-extra_specs", list_extra_specs, f"{SPECS}:index", READER),
    Route("POST", "/flavors/{flavor}/os-extra_specs", create_extra_specs, f"{SPECS}:create", ADMIN, takes=(ExtraSpecsBody,)),
    Route("GET", "/flavors/{flavor}/os-extra_specs/{key}", show_extra_spec, f"{SPECS}:show", READER),
    Route("PUT", "/flavors/{flavor}/os-extra_specs/{key}", set_extra_spec, f"{SPECS}:update", ADMIN, takes=(dict[str, str | int | float],)),
    Route("DELETE", "/flavors/{flavor}/os-extra_specs/{key}", delete_extra_spec, f"{SPECS}:delete", ADMIN),
    Route("GET", "/flavors/{flavor}/os-flavor-access", list_access, ACCESS, ADMIN),
    Route(
        "POST",
        "/flavors/{flavor}/action",
        act,
        f"{ACCESS}:add_tenant_access",
        ADMIN,
        takes=(AccessBody,),
        actions=("addTenantAccess", "removeTenantAccess"),
    ),
)
