"""Roles that operators add, and those that stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.unit.api.identity.calls import V3, Caller

from lamina.store.roles import BOOTSTRAP_ROLES

Headers = Callable[..., dict[str, str]]
Ids = dict[str, str]


@pytest.fixture
def admin(client: TestClient, headers: Headers) -> Caller:
    return Caller(client, headers("admin"))


def test_a_role_is_made_changed_and_deleted(admin: Caller) -> None:
    made = admin.make("role", name="operator", description="d")
    assert made == {
        "id": made["id"],
        "name": "operator",
        "description": "d",
        "domain_id": None,
        "options": {},
        "links": {"self": f"http://127.0.0.1:8774{V3}/roles/{made['id']}"},
    }
    assert admin.call("GET", f"/roles/{made['id']}", 200) == {"role": made}
    assert admin.change("role", made["id"], name="Operator", description=None) == made | {"name": "Operator", "description": ""}
    admin.call("DELETE", f"/roles/{made['id']}", 204)
    for method in ("GET", "DELETE"):
        admin.call(method, f"/roles/{made['id']}", 404)


@pytest.mark.parametrize("name", BOOTSTRAP_ROLES)
def test_the_roles_that_rules_are_about_stay(admin: Caller, role_ids: Ids, name: str) -> None:
    told = admin.call("DELETE", f"/roles/{role_ids[name]}", 403)
    assert f"The role {name} comes with Lamina" in told["error"]["message"]
    admin.change("role", role_ids[name], 403, name="another")
    shown = admin.call("GET", f"/roles/{role_ids[name]}", 200)["role"]
    assert (shown["name"], shown["options"]) == (name, {"immutable": True})


@pytest.mark.parametrize("name", ["admin", "Admin", "ADMIN", "Reader"])
@pytest.mark.weakness(178)
def test_no_role_looks_like_another_to_the_rules(admin: Caller, name: str) -> None:
    """oslo.policy compares roles without regard to case, so that ``Admin`` would pass for ``admin``."""
    admin.make("role", 409, name=name)
    mine = admin.make("role", name="mine")
    admin.change("role", mine["id"], 409, name=name)


@pytest.mark.parametrize(
    "facts", [{}, {"name": ""}, {"name": "x" * 256}, {"name": "x", "options": {"immutable": True}}, {"name": "x", "domain_id": "default"}]
)
def test_bad_roles(admin: Caller, facts: Any) -> None:
    admin.make("role", 400, **facts)
    assert admin.names("/roles") == sorted(BOOTSTRAP_ROLES)


def test_a_deleted_role_is_nobodys(admin: Caller, client: TestClient, headers: Headers, user_ids: Ids, project_ids: Ids) -> None:
    role = admin.make("role", name="operator")["id"]
    admin.call("PUT", f"/projects/{project_ids['admin']}/users/{user_ids['demo']}/roles/{role}", 204)
    token = Caller(client, headers("demo", project_ids["admin"]))
    told = client.get(f"{V3}/auth/tokens", headers=token.headers | {"X-Subject-Token": token.headers["X-Auth-Token"]}).json()
    assert told["token"]["roles"] == [{"id": role, "name": "operator"}]
    admin.call("DELETE", f"/roles/{role}", 204)
    token.call("GET", "/auth/projects", 401)
    assert admin.names(f"/projects/{project_ids['admin']}/users/{user_ids['demo']}/roles") == []
