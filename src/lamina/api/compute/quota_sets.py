"""Quota sets: the limits of a project, or of a user within it, and the default class (Compute API reference, "Quota sets").

They are the limits that the Identity API has as unified limits, by Nova's older names; what Nova's quotas have no name for, a resource
class or a vGPU type, goes by its name there (``class:VGPU``). Where a real Keystone is, this is where limits are set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import as_bool, read
from lamina.api.compute.server_requests import MOST_METADATA
from lamina.api.routing import ADMIN, READER, Reply, Request, Route, Version
from lamina.model.errors import BadRequest, Forbidden, NotFound
from lamina.model.limits import KEY_PAIRS, MEMBERS, QUOTAS, UNLIMITED, Resource, parse_amount, parse_quota
from lamina.store import identity, quotas
from lamina.store import limits as store
from lamina.store.quotas import Owner, Standing

#: what quotas and limits had until the version at which they lost it
WITHOUT_NETWORKS = Version(2, 36)
WITHOUT_IMAGE_METADATA = Version(2, 39)
WITHOUT_PERSONALITY = Version(2, 57)
QUOTAS_OF_OLD: dict[Version, tuple[str, ...]] = {
    WITHOUT_NETWORKS: ("fixed_ips", "floating_ips", "networks", "security_group_rules", "security_groups"),
    WITHOUT_PERSONALITY: ("injected_file_content_bytes", "injected_file_path_bytes", "injected_files"),
}
#: longest id of a project or a user, in characters
MOST_ID = 64
#: quota classes of other names were never more than names
DEFAULT = "default"
#: what is counted of no project as a whole: of each user, of each group
_OF_SOMEBODY = frozenset({KEY_PAIRS, MEMBERS})


class Body(msgspec.Struct, forbid_unknown_fields=True):
    quota_set: dict[str, int | str | bool | None]


class ClassBody(msgspec.Struct, forbid_unknown_fields=True):
    quota_class_set: dict[str, int | str | bool | None]


def project_asked_about(request: Request, asked: str | None) -> str:
    """The project asked about; another's, real or not, only by an administrator. Raises `Forbidden`."""
    own = request.context.project_id or ""
    if asked is not None and asked != own and not request.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:limits:other_project to be performed.")
    return asked or own


def _old(request: Request) -> tuple[str, ...]:
    return tuple(name for lost, names in QUOTAS_OF_OLD.items() if request.version < lost for name in names)


def _limits(request: Request, amounts: Mapping[Resource, int]) -> dict[str, int]:
    """Every quota by the API's name for it."""
    shown = dict.fromkeys((*QUOTAS, *_old(request)), UNLIMITED) | {"metadata_items": MOST_METADATA}
    return dict(sorted((shown | {resource.told: amount for resource, amount in amounts.items()}).items()))


def _standings(request: Request) -> tuple[str, str | None, dict[str, Standing]]:
    project_id, user_id = project_asked_about(request, request.path["project"]), request.value("user_id")
    with request.plane.db.read() as tx:
        return project_id, user_id, quotas.standings(tx, Owner(project_id, user_id or ""))


def _limit(standing: Standing) -> int:
    """What a user may have, where he has a limit of his own, and otherwise what the project may."""
    return standing.limit if standing.user_limit == UNLIMITED else standing.user_limit


def _used(standing: Standing, *, of_user: bool) -> int:
    """By a user, or by the project; nothing where it is counted of somebody and nobody is named."""
    if of_user:
        return standing.used.user
    return 0 if standing.resource.key in _OF_SOMEBODY else standing.used.project


def _set(request: Request, standings: Mapping[str, Standing]) -> dict[str, int]:
    return _limits(request, {s.resource: _limit(s) for s in standings.values() if _limit(s) != UNLIMITED})


def show(request: Request) -> Reply:
    project_id, _, standings = _standings(request)
    return Reply(200, {"quota_set": {"id": project_id} | _set(request, standings)})


def detail(request: Request) -> Reply:
    project_id, user_id, standings = _standings(request)
    shown = {name: _shown(limit, 0) for name, limit in _limits(request, {}).items()}
    for standing in standings.values():
        shown[standing.resource.told] = _shown(_limit(standing), _used(standing, of_user=bool(user_id)))
    return Reply(200, {"quota_set": {"id": project_id} | dict(sorted(shown.items()))})


def _shown(limit: int, used: int) -> dict[str, int]:
    return {"limit": limit, "in_use": used, "reserved": 0}


def defaults(request: Request) -> Reply:
    project_id = project_asked_about(request, request.path["project"])
    with request.plane.db.read() as tx:
        return Reply(200, {"quota_set": {"id": project_id} | _limits(request, _registered(tx))})


def _registered(tx: sa.Connection) -> dict[Resource, int]:
    return {limit.resource: limit.amount for limit in store.registered(tx)}


def _wanted(given: Mapping[str, Any]) -> dict[Resource, int]:
    """Raises `BadRequest` for what has no limit here that could be set."""
    for name in given.keys() & {"metadata_items", *(name for names in QUOTAS_OF_OLD.values() for name in names)}:
        raise BadRequest(f"{name}: this cannot be set here; leave it out")
    return {parse_quota(name): parse_amount(value, name) for name, value in given.items() if name != "force"}


def change(request: Request) -> Reply:
    """Raises `BadRequest` for less than is used already, and for a user's limit above the project's, unless it is forced."""
    project_id, user_id = request.path["project"], request.value("user_id")
    body = read(request, Body).quota_set
    wanted, forced = _wanted(body), as_bool(str(body.get("force", False)), "force")
    with request.plane.db.write() as tx:
        _must_be_there(request, tx, project_id, user_id)
        if user_id and any(resource.key == MEMBERS for resource in wanted):
            raise BadRequest("server_group_members: a group's members are limited by its project, not by user")
        if not forced:
            _must_suit(wanted, quotas.standings(tx, Owner(project_id, user_id or "")), of_user=bool(user_id))
        store.set_limits(tx, project_id, user_id or None, wanted.items())
        standings = quotas.standings(tx, Owner(project_id, user_id or ""))
    return Reply(200, {"quota_set": _set(request, standings)})


def _must_be_there(request: Request, tx: sa.Connection, project_id: str, user_id: str | None) -> None:
    """Where a real Keystone knows who there is, whatever may be an id is taken for one."""
    for what, given, get in (("Project", project_id, identity.get_project), ("User", user_id or None, identity.get_user)):
        if given is None:
            continue
        try:
            if len(given) > MOST_ID:
                raise NotFound(f"An id has at most {MOST_ID} characters.")
            if request.plane.settings.keystone is None:
                get(tx, given)
        except NotFound:
            raise BadRequest(f"{what} ID {given[:80]} is not a valid {what.lower()}.") from None


def _must_suit(wanted: Mapping[Resource, int], standings: Mapping[str, Standing], *, of_user: bool) -> None:
    for resource, amount in wanted.items():
        standing = standings.get(resource.key)
        if standing is None or amount == UNLIMITED:
            continue
        used = _used(standing, of_user=of_user)
        what = f"Quota limit {amount} for {resource.told}"
        if amount < used:
            raise BadRequest(f"{what} must be greater than or equal to already used and reserved {used}.")
        if of_user and standing.limit != UNLIMITED and amount > standing.limit:
            raise BadRequest(f"{what} must be less than or equal to {standing.limit}.")


def delete(request: Request) -> Reply:
    project_id, user_id = request.path["project"], request.value("user_id")
    with request.plane.db.write() as tx:
        _must_be_there(request, tx, project_id, user_id)
        store.revert(tx, project_id, user_id)
    return Reply(202)


# ---------------------------------------------------------------------------------------------------- the default class


def _class(request: Request) -> str:
    if request.path["class"] != DEFAULT:
        raise NotFound(f"There is no quota class {request.path['class'][:80]}: the one there is, is '{DEFAULT}'.")
    return DEFAULT


def show_class(request: Request) -> Reply:
    name = _class(request)
    with request.plane.db.read() as tx:
        return Reply(200, {"quota_class_set": {"id": name} | _limits(request, _registered(tx))})


def change_class(request: Request) -> Reply:
    _class(request)
    wanted = _wanted(read(request, ClassBody).quota_class_set)
    with request.plane.db.write() as tx:
        for resource, amount in wanted.items():
            store.set_default(tx, resource, amount)
        return Reply(200, {"quota_class_set": _limits(request, _registered(tx))})


_SETS, _CLASSES = "os_compute_api:os-quota-sets", "os_compute_api:os-quota-class-sets"
ROUTES = (
    Route("GET", "/os-quota-sets/{project}", show, f"{_SETS}:show", READER, query=("user_id",)),
    Route("PUT", "/os-quota-sets/{project}", change, f"{_SETS}:update", ADMIN, takes=(Body,), query=("user_id",)),
    Route("DELETE", "/os-quota-sets/{project}", delete, f"{_SETS}:delete", ADMIN, gives=(202,), query=("user_id",)),
    Route("GET", "/os-quota-sets/{project}/defaults", defaults, f"{_SETS}:defaults", READER),
    Route("GET", "/os-quota-sets/{project}/detail", detail, f"{_SETS}:detail", READER, query=("user_id",)),
    Route("GET", "/os-quota-class-sets/{class}", show_class, f"{_CLASSES}:show", ADMIN),
    Route("PUT", "/os-quota-class-sets/{class}", change_class, f"{_CLASSES}:update", ADMIN, takes=(ClassBody,)),
)
