"""Proving who one is: tokens made, scoped, looked at, run out and ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from lamina.operations.control_plane import ControlPlane
from lamina.store import identity as store
from lamina.store import passwords, role_assignments
from lamina.store.bootstrap import bootstrap
from lamina.store.tables import identity as tables

TOKENS = "/identity/v3/auth/tokens"
Body = Callable[..., dict[str, Any]]
Headers = Callable[..., dict[str, str]]


def issued(client: TestClient, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    answer = client.post(TOKENS, json=body)
    assert answer.status_code == 201, answer.text
    token: dict[str, Any] = answer.json()["token"]
    return answer.headers["X-Subject-Token"], token


def test_a_password_and_a_project_make_a_token(client: TestClient, log_in: Body, project_ids: dict[str, str]) -> None:
    shown, token = issued(client, log_in("admin", {"project": {"name": "admin", "domain": {"name": "Default"}}}))
    assert token["project"] == {"id": project_ids["admin"], "name": "admin", "domain": {"id": "default", "name": "Default"}}
    assert {role["name"] for role in token["roles"]} == {"admin", "manager", "member", "reader"}
    assert token["methods"] == ["password"]
    assert token["issued_at"] == "2027-01-15T08:00:00.000000Z"
    assert token["expires_at"] == "2027-01-15T09:00:00.000000Z"
    assert shown not in str(token)
    assert {service["type"] for service in token["catalog"]} == {"compute", "placement", "identity", "image", "network", "fleet"}
    assert client.get("/identity/v3/users", headers={"X-Auth-Token": shown}).status_code == 200


def test_the_catalog_names_the_paths(client: TestClient, headers: Headers) -> None:
    catalog = client.get("/identity/v3/auth/catalog", headers=headers("demo")).json()["catalog"]
    assert {(s["type"], s["name"], e["url"]) for s in catalog for e in s["endpoints"] if e["interface"] == "public"} == {
        ("compute", "nova", "http://127.0.0.1:8774/compute/v2.1"),
        ("placement", "placement", "http://127.0.0.1:8774/placement"),
        ("identity", "keystone", "http://127.0.0.1:8774/identity/v3"),
        ("image", "glance", "http://127.0.0.1:8774/image"),
        ("network", "neutron", "http://127.0.0.1:8774/network"),
        ("fleet", "lamina-fleet", "http://127.0.0.1:8774/fleet/v1"),
    }
    assert {e["interface"] for s in catalog for e in s["endpoints"]} == {"public", "internal", "admin"}


@pytest.mark.parametrize(
    ("user", "scope", "target"),
    [
        ("demo", None, "demo"),
        ("demo", "unscoped", None),
        ("demo", {"project": {"name": "demo", "domain": {"id": "default"}}}, "demo"),
        ("admin", {"system": {"all": True}}, "system"),
    ],
)
def test_scopes(client: TestClient, log_in: Body, user: str, scope: Any, target: str | None) -> None:
    _, token = issued(client, log_in(user, scope))
    assert token.get("project", {}).get("name") == (target if target != "system" else None)
    assert token.get("system") == ({"all": True} if target == "system" else None)
    assert ("roles" in token, "catalog" in token) == (target is not None, target is not None)


@pytest.mark.parametrize(
    "scope",
    [
        {"project": {"name": "admin", "domain": {"id": "default"}}},
        {"project": {"name": "nowhere", "domain": {"id": "default"}}},
        {"project": {"name": "demo", "domain": {"id": "other"}}},
        {"project": {"id": "system"}},
        {"project": {"id": "0" * 32}},
        {"system": {"all": True}},
        {"domain": {"id": "default"}},
    ],
)
def test_no_token_for_a_scope_without_a_role(cloud: ControlPlane, client: TestClient, log_in: Body, scope: dict[str, Any]) -> None:
    answer = client.post(TOKENS, json=log_in("demo", scope))
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The request you have made requires authentication."
    with cloud.db.read() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(tables.tokens)) == 0


@pytest.mark.weakness(204)
def test_wrong_password_unknown_user_and_other_domain_are_told_alike(client: TestClient, log_in: Body) -> None:
    wrong = log_in("demo", password="wrong")
    elsewhere = log_in("demo")
    elsewhere["auth"]["identity"]["password"]["user"]["domain"] = {"id": "other"}
    answers = [client.post(TOKENS, json=body) for body in (wrong, log_in("nobody"), elsewhere)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert answers[0].json()["error"] == {
        "code": 401,
        "title": "Unauthorized",
        "message": "The request you have made requires authentication.",
    }


@pytest.mark.weakness(208)
def test_an_unknown_user_costs_a_verification_too(client: TestClient, log_in: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def counted(kept: str | None, password: str) -> bool:
        asked.append(kept)
        return False

    monkeypatch.setattr(passwords, "matches", counted)
    client.post(TOKENS, json=log_in("demo"))
    client.post(TOKENS, json=log_in("nobody"))
    assert len(asked) == 2
    assert asked[0] is not None
    assert asked[1] is None


def test_verifying_against_nobody_runs_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes: list[str] = []

    class Recording:
        def verify(self, kept: str, password: str) -> bool:
            hashes.append(kept)
            return True

    kept = passwords.hashed("x")
    assert not passwords.matches(None, "x")
    monkeypatch.setattr(passwords, "_HASHER", Recording())
    assert passwords.matches(kept, "x")
    assert not passwords.matches(None, "x")
    assert hashes[0].rsplit("$", 2)[0] == hashes[1].rsplit("$", 2)[0]  # the same algorithm at the same cost


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"auth": {}}, 400),
        ({"auth": {"identity": {"methods": []}}}, 400),
        ({"auth": {"identity": {"methods": ["password"]}}}, 400),
        ({"auth": {"identity": {"methods": ["token"]}}}, 400),
        ({"auth": {"identity": {"methods": ["password", "token"]}}}, 400),
        ({"auth": {"identity": {"methods": ["totp"]}}}, 401),
        ({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "password": "x"}}}}}, 400),
        ({"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": 7}}}}}, 400),
        ({"auth": {"identity": {"methods": ["token"], "token": {"id": "nonsense"}}}}, 401),
        ([], 400),
        ("auth", 400),
    ],
)
def test_bad_bodies(client: TestClient, body: Any, status: int) -> None:
    answer = client.post(TOKENS, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("scope", [{}, {"project": {}}, {"project": {"name": "demo"}}, {"system": {"all": False}}, {"trust": {}}, "all"])
def test_bad_scopes(client: TestClient, log_in: Body, scope: Any) -> None:
    assert client.post(TOKENS, json=log_in("demo", scope)).status_code == 400


def test_a_token_by_a_token_lives_no_longer(cloud: ControlPlane, client: TestClient, log_in: Body) -> None:
    first, old = issued(client, log_in("admin", "unscoped"))
    cloud.clock.sleep(600)
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    _, token = issued(client, {"auth": {"identity": {"methods": ["token"], "token": {"id": first}}, "scope": scope}})
    assert token["expires_at"] == old["expires_at"]
    assert token["methods"] == ["token", "password"]
    assert token["project"]["name"] == "admin"


def test_a_token_runs_out(cloud: ControlPlane, client: TestClient, headers: Headers) -> None:
    mine = headers("demo")
    cloud.clock.sleep(cloud.settings.token_life - 0.001)
    assert client.get("/identity/v3/auth/projects", headers=mine).status_code == 200
    cloud.clock.sleep(0.001)
    assert client.get("/identity/v3/auth/projects", headers=mine).status_code == 401


def test_a_token_that_ran_out_is_thrown_away_with_the_next_login(cloud: ControlPlane, headers: Headers) -> None:
    headers("demo")
    cloud.clock.sleep(cloud.settings.token_life)
    headers("admin")
    with cloud.db.read() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(tables.tokens)) == 1


def test_a_token_is_revoked(client: TestClient, headers: Headers) -> None:
    mine = headers("demo")
    assert client.delete(TOKENS, headers=mine | {"X-Subject-Token": mine["X-Auth-Token"]}).status_code == 204
    assert client.get("/identity/v3/auth/projects", headers=mine).status_code == 401


def test_a_token_is_kept_as_a_hash_only(cloud: ControlPlane, headers: Headers) -> None:
    token = headers("demo")["X-Auth-Token"]
    with cloud.db.read() as tx:
        assert tx.scalars(sa.select(tables.tokens.c.hash)).all() == [hashlib.sha256(token.encode()).hexdigest()]
    kept = b"".join(path.read_bytes() for path in cloud.settings.state.glob("lamina.db*"))
    assert token.encode() not in kept


@pytest.mark.parametrize("what", ["user disabled", "user deleted", "project disabled", "project deleted", "role taken", "password set"])
def test_what_ends_a_token(
    cloud: ControlPlane,
    client: TestClient,
    headers: Headers,
    project_ids: dict[str, str],
    user_ids: dict[str, str],
    role_ids: dict[str, str],
    what: str,
) -> None:
    demo = headers("demo")
    user, project = user_ids["demo"], project_ids["demo"]
    with cloud.db.write() as tx:
        match what:
            case "user disabled":
                store.change_user(tx, user, {"enabled": False})
            case "user deleted":
                store.delete_user(tx, user)
            case "project disabled":
                store.change_project(tx, project, {"enabled": False})
            case "project deleted":
                store.delete_project(tx, project)
            case "role taken":
                role_assignments.unassign(tx, user, role_ids["member"], project)
            case "password set":
                store.change_user(tx, user, {"password_hash": None})
    assert client.get("/identity/v3/auth/projects", headers=demo).status_code == 401


def test_a_disabled_users_token_is_no_good_however_it_was_disabled(cloud: ControlPlane, client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    with cloud.db.write() as tx:
        tx.execute(sa.update(tables.users).values(enabled=False))
    assert client.get("/identity/v3/auth/projects", headers=demo).status_code == 401


def test_no_token_for_a_password_changed_while_it_was_verified(
    cloud: ControlPlane, client: TestClient, log_in: Body, user_ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    matches = passwords.matches

    def overtaken(kept: str | None, password: str) -> bool:
        with cloud.db.write() as tx:
            store.change_user(tx, user_ids["demo"], {"password_hash": passwords.hashed("new")})
        return matches(kept, password)

    monkeypatch.setattr(passwords, "matches", overtaken)
    assert client.post(TOKENS, json=log_in("demo")).status_code == 401


def test_the_word_for_the_system_is_no_project_to_scope_to(client: TestClient, log_in: Body) -> None:
    assert client.post(TOKENS, json=log_in("admin", {"project": {"id": "system"}})).status_code == 401


def test_others_tokens_are_for_admins_only(client: TestClient, headers: Headers) -> None:
    admin, demo = headers("admin"), headers("demo")
    looked = client.get(TOKENS, headers=admin | {"X-Subject-Token": demo["X-Auth-Token"]})
    assert looked.status_code == 200
    assert looked.json()["token"]["user"]["name"] == "demo"
    assert looked.headers["X-Subject-Token"] == demo["X-Auth-Token"]
    assert client.head(TOKENS, headers=admin | {"X-Subject-Token": demo["X-Auth-Token"]}).status_code == 200
    assert client.get(TOKENS, headers=admin | {"X-Subject-Token": "nonsense"}).status_code == 404
    assert client.get(TOKENS, headers=admin).status_code == 400
    for subject in (admin["X-Auth-Token"], "nonsense"):
        for call in (client.get, client.delete):
            assert call(TOKENS, headers=demo | {"X-Subject-Token": subject}).status_code == 403
    assert client.get(TOKENS, headers=demo | {"X-Subject-Token": demo["X-Auth-Token"]}).status_code == 200


_SPOOFED = st.dictionaries(
    st.sampled_from(
        [
            "X-Roles",
            "X-User-Id",
            "X-User-Name",
            "X-Project-Id",
            "X-Tenant-Id",
            "X-Is-Admin-Project",
            "X-Identity-Status",
            "X-System-Scope",
            "OpenStack-System-Scope",
            "X-Domain-Id",
            "X-Service-Roles",
            "X-Service-Token",
            "X-Forwarded-User",
            "Authorization",
        ]
    ),
    st.sampled_from(["admin", "admin,member", "all", "True", "Confirmed", "default", ""]),
    min_size=1,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoofed=_SPOOFED)
@pytest.mark.weakness(807)
def test_identity_headers_change_no_decision(client: TestClient, headers: Headers, spoofed: dict[str, str]) -> None:
    demo = headers("demo")
    for path, token, status in (
        ("/identity/v3/users", demo, 403),
        ("/identity/v3/users", {}, 401),
        ("/identity/v3/users", {"X-Auth-Token": "admin"}, 401),
        ("/identity/v3/auth/projects", demo, 200),
        ("/image/v2/images", {}, 401),
    ):
        assert client.get(path, headers=spoofed | token).status_code == status


def test_first_start_happens_once(cloud: ControlPlane) -> None:
    def everything() -> list[list[Any]]:
        with cloud.db.read() as tx:
            return [
                [tuple(row) for row in tx.execute(sa.select(table))]
                for table in (tables.users, tables.projects, tables.roles, tables.role_assignments)
            ]

    before = everything()
    with cloud.db.write() as tx:
        bootstrap(tx, "another", "another", cloud.clock.now())
    assert everything() == before


@pytest.mark.weakness(307)
def test_guessing_is_stopped_and_the_user_is_let_in_again_later(
    cloud: ControlPlane, client: TestClient, log_in: Body, headers: Headers, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is always the same, so nobody learns that the password was right at last."""
    right, wrong = log_in("demo"), log_in("demo", password="wrong")
    good = headers("demo")
    for _ in range(cloud.settings.login_failures - 1):
        assert client.post(TOKENS, json=wrong).status_code == 401
    assert client.post(TOKENS, json=right).status_code == 201, "failures count in a row"
    told = [client.post(TOKENS, json=wrong) for _ in range(cloud.settings.login_failures)]
    assert "locked out" in capsys.readouterr().out
    told.append(client.post(TOKENS, json=right))
    assert {(answer.status_code, answer.json()["error"]["message"]) for answer in told} == {(401, told[0].json()["error"]["message"])}
    assert client.post(TOKENS, json=log_in("admin")).status_code == 201, "others are not concerned"
    assert client.get(TOKENS, headers=good | {"X-Subject-Token": good["X-Auth-Token"]}).status_code == 200, "nor are tokens that there are"
    cloud.clock.sleep(cloud.settings.lockout + 1)
    assert client.post(TOKENS, json=right).status_code == 201
    assert client.post(TOKENS, json=wrong).status_code == 401
    assert client.post(TOKENS, json=right).status_code == 201, "what was before the lock counts no more"


def test_guessing_the_original_password_is_stopped_too(
    cloud: ControlPlane, client: TestClient, headers: Headers, user_ids: dict[str, str]
) -> None:
    path, demo = f"/identity/v3/users/{user_ids['demo']}/password", headers("demo")
    for _ in range(cloud.settings.login_failures):
        assert client.post(path, headers=demo, json={"user": {"original_password": "wrong", "password": "new"}}).status_code == 401
    assert client.post(path, headers=demo, json={"user": {"original_password": "demo's secret", "password": "new"}}).status_code == 401


@pytest.mark.weakness(613)
def test_a_project_that_is_enabled_again_wants_new_tokens(client: TestClient, headers: Headers, project_ids: dict[str, str]) -> None:
    demo, admin, path = headers("demo"), headers("admin"), f"/identity/v3/projects/{project_ids['demo']}"
    for enabled in (False, True):
        assert client.patch(path, headers=admin, json={"project": {"enabled": enabled}}).status_code == 200
        assert client.get("/identity/v3/auth/projects", headers=demo).status_code == 401
    assert client.get("/identity/v3/auth/projects", headers=headers("demo")).status_code == 200
