"""Server groups: servers kept together or apart (Compute API reference, "Server groups")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import page_limit, read
from lamina.api.routing import MEMBER, READER, Reply, Request, Route, Version
from lamina.model import ids, limits
from lamina.model.errors import BadRequest, Forbidden, NotFound
from lamina.model.server_groups import GroupPolicy, ServerGroup
from lamina.store import quotas
from lamina.store import server_groups as store

WITH_OWNERS = Version(2, 13)
SOFT = Version(2, 15)
ONE_POLICY = Version(2, 64)
ONLY_KNOWN_PARAMETERS = Version(2, 75)
_PARAMETERS = frozenset({"all_projects", "limit", "offset"})
MOST_PER_HOST = 2**31 - 1


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    max_server_per_host: int | str | None = None


class New(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    #: to 2.63 a list of one, from 2.64 on the word alone
    policies: list[str] | None = None
    policy: str | None = None
    rules: Rules | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    server_group: New


def _view(request: Request, group: ServerGroup, members: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": group.id, "name": group.name, "members": list(members)}
    if request.version >= WITH_OWNERS:
        shown |= {"project_id": group.project_id, "user_id": group.user_id}
    if request.version < ONE_POLICY:
        return shown | {"policies": [str(group.policy)], "metadata": {}}
    rules = {} if group.max_server_per_host is None else {"max_server_per_host": group.max_server_per_host}
    return shown | {"policy": str(group.policy), "rules": rules}


def find(tx: sa.Connection, request: Request, group_id: str) -> ServerGroup:
    """The group, if the caller may see it; what is another's is as if it were not there. Raises `NotFound`."""
    if not ids.is_uuid(group_id):
        raise NotFound(f"Instance group {group_id[:80]} could not be found.")
    return store.get(tx, ids.parse_uuid(group_id), None if request.context.is_admin else request.context.project_id or "")


def index(request: Request) -> Reply:
    """Every project's for an administrator who asks; from anybody else the question is not heard."""
    unknown = next((name for name, _ in request.query if name not in _PARAMETERS), None)
    if unknown is not None and request.version >= ONLY_KNOWN_PARAMETERS:
        raise BadRequest(f"{unknown[:80]}: there is no such parameter from version {ONLY_KNOWN_PARAMETERS} on")
    everyones = request.context.is_admin and request.value("all_projects") is not None
    limit, offset = page_limit(request), _offset(request)
    with request.plane.db.read() as tx:
        found = store.page(tx, None if everyones else request.context.project_id or "", limit=limit, offset=offset)
        members = store.members(tx, [group.id for group in found])
    return Reply(200, {"server_groups": [_view(request, group, members[group.id]) for group in found]})


def _offset(request: Request) -> int:
    text = request.value("offset") or "0"
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(f"offset: {text[:80]!r} is not a whole number from 0 on")
    return int(text)


def create(request: Request) -> Reply:
    if request.context.project_id is None:
        raise Forbidden("A token with a project is needed.")
    body = read(request, Body).server_group
    if not 1 <= len(body.name) <= 255 or not body.name.isprintable() or body.name != body.name.strip():
        raise BadRequest("name: 1 to 255 printable characters are needed, and no space at either end")
    policy = _policy(request, body)
    made = ServerGroup(
        id=ids.new_uuid(),
        name=body.name,
        project_id=request.context.project_id,
        user_id=request.context.user_id,
        policy=policy,
        max_server_per_host=_most_per_host(request, body.rules, policy),
    )
    with request.plane.db.write() as tx:
        store.add(tx, made)
        quotas.must_allow(tx, quotas.Owner(made.project_id, made.user_id), taken={limits.GROUPS: 1})
    return Reply(200, {"server_group": _view(request, made, ())})


def _policy(request: Request, body: New) -> GroupPolicy:
    known = [str(p) for p in GroupPolicy if p.hard or request.version >= SOFT]
    if request.version >= ONE_POLICY:
        if body.policies is not None or body.policy not in known:
            raise BadRequest(f"policy: one of {', '.join(known)}, and no policies from version {ONE_POLICY} on")
        return GroupPolicy(body.policy)
    if body.policy is not None or body.policies is None or len(body.policies) != 1 or body.policies[0] not in known:
        raise BadRequest(f"policies: a list of one of {', '.join(known)}; policy is known from version {ONE_POLICY} on")
    return GroupPolicy(body.policies[0])


def _most_per_host(request: Request, rules: Rules | None, policy: GroupPolicy) -> int | None:
    if rules is None:
        return None
    if request.version < ONE_POLICY:
        raise BadRequest(f"rules: groups have them from version {ONE_POLICY} on")
    said = rules.max_server_per_host
    if said is None:
        return None
    if policy is not GroupPolicy.ANTI_AFFINITY:
        raise BadRequest("rules: Only anti-affinity policy supports rules.")
    if not re.fullmatch(r"[0-9]{1,10}", str(said)) or not 1 <= int(said) <= MOST_PER_HOST:
        raise BadRequest(f"rules.max_server_per_host: {str(said)[:80]!r} is not a whole number from 1 to {MOST_PER_HOST}")
    return int(said)


def show(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        group = find(tx, request, request.path["group"])
        members = store.members(tx, [group.id])[group.id]
    return Reply(200, {"server_group": _view(request, group, members)})


def delete(request: Request) -> Reply:
    with request.plane.db.write() as tx:
        store.delete(tx, find(tx, request, request.path["group"]).id)
    return Reply(204)


RULE = "os_compute_api:os-server-groups"
ROUTES = (
    Route("GET", "/os-server-groups", index, f"{RULE}:index", READER, query=("all_projects", "limit", "offset")),
    Route("POST", "/os-server-groups", create, f"{RULE}:create", MEMBER, takes=(Body,)),
    Route("GET", "/os-server-groups/{group}", show, f"{RULE}:show", READER),
    Route("DELETE", "/os-server-groups/{group}", delete, f"{RULE}:delete", MEMBER, gives=(204,)),
)
