"""Who has which role: users and groups, on projects, on domains and on the system."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from lamina.api.identity import answers, reach
from lamina.api.routing import ADMIN, ANY_USER, DOMAIN_MANAGER, DOMAIN_READER, Reply, Request, Route
from lamina.model.errors import BadRequest, NotFound
from lamina.store import domains, role_assignments, roles
from lamina.store.role_assignments import SYSTEM, Assignment, Holder


def assignments(request: Request) -> Reply:
    """GET /role_assignments; with ``effective`` what users have by groups and by implication, and no groups."""
    user_id, group_id, role_id = (request.value(name) or None for name in ("user.id", "group.id", "role.id"))
    effective = bool(answers.flag(request, "effective"))
    if group_id is not None and (user_id is not None or effective):
        raise BadRequest("group.id: not with user.id, and not with effective, which tells what users have")
    target = _asked_target(request)
    with request.plane.db.read() as tx:
        if effective:
            found = role_assignments.list_effective(tx, user_id=user_id, target=target)
        else:
            found = role_assignments.list_assignments(tx, user_id=user_id, group_id=group_id, target=target)
        domain_names = {domain.id: domain.name for domain in domains.list_domains(tx)}
    # a role on a domain is not handed down to its projects
    inherited = request.value("scope.OS-INHERIT:inherited_to") is not None
    within = request.context.domain_id
    shown = (a for a in found if role_id in (None, a.role_id) and within in (None, a.within) and not inherited)
    names = domain_names if answers.flag(request, "include_names") else None
    return answers.listing(request, "role_assignments", (_assignment(request, a, names) for a in shown))


def _asked_target(request: Request) -> str | None:
    asked = [request.value(f"scope.{kind}") for kind in ("project.id", "domain.id")]
    if request.value("scope.system"):
        asked.append(SYSTEM)
    wanted = [target for target in asked if target]
    if len(wanted) > 1:
        raise BadRequest("scope: say one of scope.project.id, scope.domain.id and scope.system")
    return wanted[0] if wanted else None


def _assignment(request: Request, value: Assignment, domain_names: dict[str, str] | None) -> dict[str, Any]:
    """With the names of the domains, all names are told."""
    base = answers.base(request.plane.settings)
    holder: dict[str, Any] = {"id": value.holder_id}
    role: dict[str, Any] = {"id": value.role_id}
    kind, path = _scope_of(value)
    scope: dict[str, Any] = {"all": True} if kind == "system" else {"id": value.target}
    if domain_names is not None:
        holder |= {"name": value.holder_name, "domain": _named(value.holder_domain_id, domain_names)}
        role |= {"name": value.role_name}
        if kind != "system":
            scope |= {"name": value.target_name}
        if kind == "project" and value.target_domain_id is not None:
            scope |= {"domain": _named(value.target_domain_id, domain_names)}
    given_to = f"groups/{value.by_group}" if value.by_group is not None else f"{value.holder}s/{value.holder_id}"
    links = {"assignment": f"{base}/{path}/{given_to}/roles/{value.role_id}"}
    if value.by_group is not None:
        links["membership"] = f"{base}/groups/{value.by_group}/users/{value.holder_id}"
    return {str(value.holder): holder, "role": role, "scope": {kind: scope}, "links": links}


def _scope_of(value: Assignment) -> tuple[str, str]:
    if value.target == SYSTEM:
        return "system", "system"
    return ("domain", f"domains/{value.target}") if value.on_domain else ("project", f"projects/{value.target}")


def _named(domain_id: str, names: dict[str, str]) -> dict[str, str]:
    return {"id": domain_id, "name": names.get(domain_id, "")}


def my_system(request: Request) -> Reply:
    """GET /auth/system: whether the caller could have a token for the system."""
    with request.plane.db.read() as tx:
        held = role_assignments.effective_roles(tx, request.context.user_id, SYSTEM)
    return answers.listing(request, "system", [{"all": True}] if held else [])


#: the target in the path. Raises `NotFound`
Target = Callable[[Request, sa.Connection], str]


def _on_project(request: Request, tx: sa.Connection) -> str:
    return reach.project(request, tx, request.path["project_id"]).id


def _on_domain(request: Request, tx: sa.Connection) -> str:
    domain_id = request.path["domain_id"]
    reach.must_reach(request, "domain", domain_id, domain_id)
    return domains.get_domain(tx, domain_id).id


def _on_system(_request: Request, _tx: sa.Connection) -> str:
    return SYSTEM


def _holder_in_path(request: Request, tx: sa.Connection, holder: Holder) -> str:
    """Raises `NotFound`."""
    found = reach.user if holder is Holder.USER else reach.group
    return found(request, tx, request.path[f"{holder}_id"]).id


@dataclasses.dataclass(frozen=True, slots=True)
class _Grants:
    """The calls about the roles of one kind of holder on one kind of target."""

    holder: Holder
    target: Target

    def held(self, request: Request) -> Reply:
        with request.plane.db.read() as tx:
            holder_id, target = _holder_in_path(request, tx, self.holder), self.target(request, tx)
            found = role_assignments.roles_on(tx, holder_id, target, self.holder)
        return answers.listing(request, "roles", (answers.role(request.plane.settings, r) for r in found))

    def check(self, request: Request) -> Reply:
        role_id = request.path["role_id"]
        with request.plane.db.read() as tx:
            holder_id, target = _holder_in_path(request, tx, self.holder), self.target(request, tx)
            found = role_assignments.roles_on(tx, holder_id, target, self.holder)
        if role_id not in {role.id for role in found}:
            raise NotFound(f"Could not find role assignment with role: {role_id}, {self.holder}: {holder_id}.")
        return Reply(204)

    def give(self, request: Request) -> Reply:
        with request.plane.db.write() as tx:
            holder_id, target = _holder_in_path(request, tx, self.holder), self.target(request, tx)
            role = roles.get_role(tx, request.path["role_id"])
            reach.must_be_given_in_domains(request, role.name)
            role_assignments.assign(tx, holder_id, role.id, target, self.holder)
        return Reply(204)

    def take(self, request: Request) -> Reply:
        with request.plane.db.write() as tx:
            holder_id, target = _holder_in_path(request, tx, self.holder), self.target(request, tx)
            role = roles.get_role(tx, request.path["role_id"])
            reach.must_be_given_in_domains(request, role.name)
            role_assignments.unassign(tx, holder_id, role.id, target, self.holder)
        return Reply(204)


#: names of rules, as Keystone has them
_GRANT = ("list_grants", "check_grant", "create_grant", "revoke_grant")
_SYSTEM_GRANT = tuple(
    f"{verb}_for_{{}}" for verb in ("list_system_grants", "check_system_grant", "create_system_grant", "revoke_system_grant")
)


def _routes(path: str, target: Target, read: str, write: str, rules: tuple[str, ...]) -> tuple[Route, ...]:
    """Of users and of groups."""
    found: list[Route] = []
    for holder in Holder:
        grants = _Grants(holder, target)
        every = f"{path}/{holder}s/{{{holder}_id}}/roles"
        one = every + "/{role_id}"
        listed, checked, given, taken = ("identity:" + rule.format(holder) for rule in rules)
        found += (
            Route("GET", every, grants.held, listed, read),
            Route("GET", one, grants.check, checked, read, gives=(204,)),
            Route("PUT", one, grants.give, given, write, gives=(204,)),
            Route("DELETE", one, grants.take, taken, write, gives=(204,)),
        )
    return tuple(found)


ROUTES = (
    Route(
        "GET",
        "/role_assignments",
        assignments,
        "identity:list_role_assignments",
        DOMAIN_READER,
        query=(
            *("effective", "group.id", "include_names", "role.id", "scope.OS-INHERIT:inherited_to"),
            *("scope.domain.id", "scope.project.id", "scope.system", "user.id"),
        ),
    ),
    Route("GET", "/auth/system", my_system, "identity:get_auth_system", ANY_USER),
    *_routes("/projects/{project_id}", _on_project, DOMAIN_READER, DOMAIN_MANAGER, _GRANT),
    *_routes("/domains/{domain_id}", _on_domain, DOMAIN_READER, DOMAIN_MANAGER, _GRANT),
    *_routes("/system", _on_system, ADMIN, ADMIN, _SYSTEM_GRANT),
)
