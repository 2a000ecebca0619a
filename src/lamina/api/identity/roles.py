"""Roles and who has them, on a project or on the system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from lamina.api.identity import answers
from lamina.api.routing import ADMIN, ANY_USER, Reply, Request, Route
from lamina.model.errors import NotFound
from lamina.store import identity
from lamina.store.identity import IMPLIES, SYSTEM, Assignment


def index(request: Request) -> Reply:
    """GET /roles."""
    with request.plane.db.read() as tx:
        found = [] if request.value("domain_id") else identity.list_roles(tx, name=request.value("name"))
    return answers.listing(request, "roles", (answers.role(request.plane.settings, r) for r in found))


def show(request: Request) -> Reply:
    """GET /roles/{role_id}."""
    with request.plane.db.read() as tx:
        found = identity.get_role(tx, request.path["role_id"])
    return Reply(200, {"role": answers.role(request.plane.settings, found)})


def inferences(request: Request) -> Reply:
    """GET /role_inferences: which role brings along which."""
    with request.plane.db.read() as tx:
        known = {role.name: {"id": role.id, "name": role.name} for role in identity.list_roles(tx)}
    rules = [{"prior_role": known[prior], "implies": [known[implied]]} for prior, implied in IMPLIES.items()]
    return Reply(200, {"role_inferences": rules})


def assignments(request: Request) -> Reply:
    """GET /role_assignments; with ``effective`` the implied roles are listed, too."""
    target = SYSTEM if request.value("scope.system") else request.value("scope.project.id")
    role_id = request.value("role.id")
    with request.plane.db.read() as tx:
        found = identity.list_assignments(tx, user_id=request.value("user.id"), target=target)
        if answers.flag(request, "effective"):
            found = list(_with_implied(tx, found))
    nobody = any(request.value(name) for name in ("group.id", "scope.domain.id"))
    shown = (a for a in found if role_id in (None, a.role_id) and not nobody)
    named = bool(answers.flag(request, "include_names"))
    return answers.listing(request, "role_assignments", (_assignment(request, a, named) for a in shown))


def _with_implied(tx: sa.Connection, given: Iterable[Assignment]) -> Iterator[Assignment]:
    ids = {role.name: role.id for role in identity.list_roles(tx)}
    held: dict[tuple[str, str], list[Assignment]] = {}
    for one in given:
        held.setdefault((one.user_id, one.target), []).append(one)
    for group in held.values():
        for name in sorted(identity.with_implied(a.role_name for a in group)):
            first = group[0]
            yield Assignment(first.user_id, first.user_name, ids[name], name, first.target, first.target_name)


def _assignment(request: Request, value: Assignment, named: bool) -> dict[str, Any]:
    base = answers.base(request.plane.settings)
    where = "system" if value.target == SYSTEM else f"projects/{value.target}"
    user: dict[str, Any] = {"id": value.user_id}
    role: dict[str, Any] = {"id": value.role_id}
    scope: dict[str, Any] = {"system": {"all": True}} if value.target == SYSTEM else {"project": {"id": value.target}}
    if named:
        user |= {"name": value.user_name, "domain": answers.DOMAIN}
        role |= {"name": value.role_name}
        if value.target != SYSTEM:
            scope["project"] |= {"name": value.target_name, "domain": answers.DOMAIN}
    links = {"assignment": f"{base}/{where}/users/{value.user_id}/roles/{value.role_id}"}
    return {"user": user, "role": role, "scope": scope, "links": links}


def my_system(request: Request) -> Reply:
    """GET /auth/system: whether the caller could have a token for the system."""
    with request.plane.db.read() as tx:
        held = identity.roles_on(tx, request.context.user_id, SYSTEM)
    return answers.listing(request, "system", [{"all": True}] if held else [])


Target = Callable[[Request], str]


def _grants(path: str, target: Target, noun: str, verbs: tuple[str, str, str, str]) -> tuple[Route, ...]:
    """The four calls about a user's roles on one kind of target; `verbs` name their rules as Keystone does."""

    def held(request: Request) -> Reply:
        with request.plane.db.read() as tx:
            identity.get_user(tx, request.path["user_id"])
            found = identity.roles_on(tx, request.path["user_id"], target(request))
        return answers.listing(request, "roles", (answers.role(request.plane.settings, r) for r in found))

    def check(request: Request) -> Reply:
        role_id = request.path["role_id"]
        with request.plane.db.read() as tx:
            found = identity.roles_on(tx, request.path["user_id"], target(request))
        if role_id not in {role.id for role in found}:
            raise NotFound(f"Could not find role assignment with role: {role_id}, user: {request.path['user_id']}, {noun}.")
        return Reply(204)

    def give(request: Request) -> Reply:
        with request.plane.db.write() as tx:
            identity.assign(tx, request.path["user_id"], request.path["role_id"], target(request))
        return Reply(204)

    def take(request: Request) -> Reply:
        with request.plane.db.write() as tx:
            identity.unassign(tx, request.path["user_id"], request.path["role_id"], target(request))
        return Reply(204)

    one = f"{path}/users/{{user_id}}/roles/{{role_id}}"
    listed, checked, given, taken = (f"identity:{verb}" for verb in verbs)
    return (
        Route("GET", f"{path}/users/{{user_id}}/roles", held, listed, ADMIN),
        Route("GET", one, check, checked, ADMIN),
        Route("PUT", one, give, given, ADMIN),
        Route("DELETE", one, take, taken, ADMIN),
    )


def _on_project(request: Request) -> str:
    project_id = request.path["project_id"]
    if project_id == SYSTEM:  # the word for the system is nobody's project
        raise NotFound(f"Could not find project: {project_id}.")
    return project_id


def _on_system(_request: Request) -> str:
    return SYSTEM


ROUTES = (
    Route("GET", "/roles", index, "identity:list_roles", ADMIN),
    Route("GET", "/roles/{role_id}", show, "identity:get_role", ADMIN),
    Route("GET", "/role_inferences", inferences, "identity:list_role_inference_rules", ADMIN),
    Route("GET", "/role_assignments", assignments, "identity:list_role_assignments", ADMIN),
    Route("GET", "/auth/system", my_system, "identity:get_auth_system", ANY_USER),
    *_grants("/projects/{project_id}", _on_project, "project", ("list_grants", "check_grant", "create_grant", "revoke_grant")),
    *_grants(
        "/system",
        _on_system,
        "system",
        (
            "list_system_grants_for_user",
            "check_system_grant_for_user",
            "create_system_grant_for_user",
            "revoke_system_grant_for_user",
        ),
    ),
)
