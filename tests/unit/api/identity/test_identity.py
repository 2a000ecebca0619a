"""Projects, users, roles and the lists around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from lamina.api.identity import ROOM
from lamina.api.routing import ADMIN, DOMAIN_MANAGER, DOMAIN_READER

V3 = "/identity/v3"
Headers = Callable[..., dict[str, str]]
Ids = dict[str, str]


def made(client: TestClient, admin: dict[str, str], noun: str, **facts: Any) -> dict[str, Any]:
    answer = client.post(f"{V3}/{noun}s", headers=admin, json={noun: facts})
    assert answer.status_code == 201, answer.text
    value: dict[str, Any] = answer.json()[noun]
    assert client.get(f"{V3}/{noun}s/{value['id']}", headers=admin).json() == {noun: value}
    return value


def names(client: TestClient, headers: dict[str, str], path: str) -> list[str]:
    answer = client.get(V3 + path, headers=headers)
    assert answer.status_code == 200, answer.text
    collection = path.partition("?")[0].rpartition("/")[2]
    return [value["name"] for value in answer.json()[collection]]


def test_the_version_documents_are_open_to_all(client: TestClient) -> None:
    listed = client.get("/identity")
    assert listed.status_code == 300
    assert client.get("/identity/").json() == listed.json()
    (version,) = listed.json()["versions"]["values"]
    assert client.get("/identity/v3").json() == {"version": version} == client.get("/identity/v3/").json()
    assert version["links"] == [{"rel": "self", "href": "http://127.0.0.1:8774/identity/v3/"}]


def test_a_project_is_made_changed_and_deleted(client: TestClient, headers: Headers) -> None:
    admin = headers("admin")
    project = made(client, admin, "project", name="lab", description="d", domain_id="default", is_domain=False, options={}, tags=[])
    assert (project["description"], project["enabled"], project["domain_id"]) == ("d", True, "default")
    path = f"{V3}/projects/{project['id']}"
    changed = client.patch(path, headers=admin, json={"project": {"description": None, "enabled": False}})
    assert changed.json()["project"] == project | {"description": "", "enabled": False}
    assert names(client, admin, "/projects?enabled=false") == ["lab"]
    assert names(client, admin, "/projects?name=lab&enabled=true") == []
    assert client.delete(path, headers=admin).status_code == 204
    assert client.get(path, headers=admin).status_code == 404
    assert client.delete(path, headers=admin).status_code == 404


def test_a_user_is_made_changed_and_deleted(client: TestClient, headers: Headers, project_ids: Ids, log_in: Callable[..., Any]) -> None:
    admin = headers("admin")
    user = made(client, admin, "user", name="ann", password="first", email="a@b.c", default_project_id=project_ids["demo"])
    assert "password" not in str({k: v for k, v in user.items() if k != "password_expires_at"})
    path = f"{V3}/users/{user['id']}"
    assert client.post(f"{V3}/auth/tokens", json=log_in("ann", password="first")).status_code == 201
    assert client.patch(path, headers=admin, json={"user": {"password": "second", "email": None}}).status_code == 200
    assert client.post(f"{V3}/auth/tokens", json=log_in("ann", password="first")).status_code == 401
    assert client.post(f"{V3}/auth/tokens", json=log_in("ann", password="second")).status_code == 201
    assert client.patch(path, headers=admin, json={"user": {"enabled": False}}).status_code == 200
    assert client.post(f"{V3}/auth/tokens", json=log_in("ann", password="second")).status_code == 401
    assert client.delete(path, headers=admin).status_code == 204
    assert names(client, admin, "/users") == ["admin", "demo"]


@pytest.mark.parametrize("noun", ["project", "user"])
def test_a_name_is_given_once(client: TestClient, headers: Headers, noun: str) -> None:
    admin = headers("admin")
    assert client.post(f"{V3}/{noun}s", headers=admin, json={noun: {"name": "demo"}}).status_code == 409
    other = made(client, admin, noun, name="other")
    answer = client.patch(f"{V3}/{noun}s/{other['id']}", headers=admin, json={noun: {"name": "demo"}})
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == f"There is a {noun} named demo already."
    assert client.patch(f"{V3}/{noun}s/{other['id']}", headers=admin, json={noun: {"name": "other"}}).status_code == 200


@pytest.mark.parametrize("noun", ["project", "user"])
@pytest.mark.parametrize(
    "facts",
    [
        None,
        [],
        {},
        {"name": ""},
        {"name": " "},
        {"name": "x\n"},
        {"name": "x\x00"},
        {"name": "x" * 256},
        {"name": 1},
        {"name": "x", "enabled": "yes"},
        {"name": "x", "domain_id": ""},
        {"name": "x", "domain_id": {}},
        {"name": "x", "options": {"immutable": True}},
        {"name": "x", "surprise": 1},
    ],
)
def test_bad_bodies(client: TestClient, headers: Headers, noun: str, facts: Any) -> None:
    admin = headers("admin")
    answer = client.post(f"{V3}/{noun}s", headers=admin, json={noun: facts})
    assert answer.status_code == 400
    assert answer.json()["error"]["title"] == "Bad Request"
    assert names(client, admin, f"/{noun}s") == ["admin", "demo"]


def test_a_default_project_must_be_there(client: TestClient, headers: Headers, user_ids: Ids) -> None:
    admin = headers("admin")
    assert client.post(f"{V3}/users", headers=admin, json={"user": {"name": "x", "default_project_id": "0"}}).status_code == 404
    changed = client.patch(f"{V3}/users/{user_ids['demo']}", headers=admin, json={"user": {"default_project_id": "0"}})
    assert changed.status_code == 404


def test_a_password_is_changed_with_the_old_one(client: TestClient, headers: Headers, user_ids: Ids, log_in: Callable[..., Any]) -> None:
    demo = headers("demo")
    path = f"{V3}/users/{user_ids['demo']}/password"
    wrong = client.post(path, headers=demo, json={"user": {"original_password": "wrong", "password": "new"}})
    assert wrong.status_code == 401
    for foreign in (user_ids["admin"], "nobody"):
        body = {"user": {"original_password": "admin's secret", "password": "new"}}
        assert client.post(f"{V3}/users/{foreign}/password", headers=demo, json=body).status_code == 403
    right = client.post(path, headers=demo, json={"user": {"original_password": "demo's secret", "password": "new"}})
    assert right.status_code == 204
    assert client.get(f"{V3}/auth/projects", headers=demo).status_code == 401
    assert client.post(f"{V3}/auth/tokens", json=log_in("demo")).status_code == 401
    assert client.post(f"{V3}/auth/tokens", json=log_in("demo", password="new")).status_code == 201


def test_roles_are_given_checked_and_taken(client: TestClient, headers: Headers, project_ids: Ids, user_ids: Ids, role_ids: Ids) -> None:
    admin = headers("admin")
    for where in (f"/projects/{project_ids['admin']}", "/system"):
        path = f"{V3}{where}/users/{user_ids['demo']}/roles/{role_ids['reader']}"
        assert client.get(path, headers=admin).status_code == 404
        assert client.delete(path, headers=admin).status_code == 404
        assert client.put(path, headers=admin).status_code == 204
        assert client.put(path, headers=admin).status_code == 204
        assert client.head(path, headers=admin).status_code == 204
        assert names(client, admin, f"{where}/users/{user_ids['demo']}/roles") == ["reader"]
        assert client.delete(path, headers=admin).status_code == 204
        assert client.get(path, headers=admin).status_code == 404


@pytest.mark.parametrize("missing", ["project", "user", "role"])
def test_a_role_needs_all_three(
    client: TestClient, headers: Headers, project_ids: Ids, user_ids: Ids, role_ids: Ids, missing: str
) -> None:
    at = {"project": project_ids["demo"], "user": user_ids["demo"], "role": role_ids["reader"]} | {missing: "nothing"}
    path = f"{V3}/projects/{at['project']}/users/{at['user']}/roles/{at['role']}"
    answer = client.put(path, headers=headers("admin"))
    assert answer.status_code == 404
    assert missing in answer.json()["error"]["message"]


def test_the_word_for_the_system_is_no_project(client: TestClient, headers: Headers, user_ids: Ids, role_ids: Ids) -> None:
    path = f"{V3}/projects/system/users/{user_ids['demo']}/roles/{role_ids['admin']}"
    assert client.put(path, headers=headers("admin")).status_code == 404
    assert client.get(f"{V3}/projects/system/users/{user_ids['admin']}/roles", headers=headers("admin")).status_code == 404


def test_assignments_with_names(client: TestClient, headers: Headers, user_ids: Ids) -> None:
    admin = headers("admin")

    def shown(query: str) -> set[tuple[str, str, str]]:
        listed = client.get(f"{V3}/role_assignments?include_names=True{query}", headers=admin).json()["role_assignments"]
        return {(a["user"]["name"], a["role"]["name"], a["scope"].get("project", {"name": "system"})["name"]) for a in listed}

    assert shown("") == {("admin", "admin", "admin"), ("admin", "admin", "system"), ("demo", "member", "demo")}
    assert shown("&scope.system=all") == {("admin", "admin", "system")}
    assert shown(f"&user.id={user_ids['demo']}&effective") == {("demo", "member", "demo"), ("demo", "reader", "demo")}
    assert shown("&group.id=g") == set()
    plain = client.get(f"{V3}/role_assignments", headers=admin).json()["role_assignments"]
    assert all("name" not in a["user"] and "name" not in a["role"] for a in plain)


def test_what_a_member_may_ask_about_itself(client: TestClient, headers: Headers, project_ids: Ids, user_ids: Ids) -> None:
    demo, admin = headers("demo"), headers("admin")
    assert names(client, demo, "/auth/projects") == ["demo"]
    assert names(client, demo, f"/users/{user_ids['demo']}/projects") == ["demo"]
    assert client.get(f"{V3}/users/{user_ids['demo']}", headers=demo).json()["user"]["name"] == "demo"
    assert client.get(f"{V3}/projects/{project_ids['demo']}", headers=demo).json()["project"]["name"] == "demo"
    assert client.get(f"{V3}/auth/domains", headers=demo).json()["domains"] == []
    assert client.get(f"{V3}/auth/system", headers=demo).json()["system"] == []
    assert client.get(f"{V3}/auth/system", headers=admin).json()["system"] == [{"all": True}]
    assert client.get(f"{V3}/domains/default", headers=demo).json()["domain"]["name"] == "Default"
    assert client.get(f"{V3}/domains/other", headers=demo).status_code == 404


def test_another_looks_like_nobody(client: TestClient, headers: Headers, project_ids: Ids, user_ids: Ids) -> None:
    demo = headers("demo")
    for path, foreign in (("users/{}", user_ids), ("projects/{}", project_ids), ("users/{}/projects", user_ids)):
        there = client.get(f"{V3}/{path.format(foreign['admin'])}", headers=demo)
        not_there = client.get(f"{V3}/{path.format('0' * 32)}", headers=demo)
        assert (there.status_code, there.text) == (not_there.status_code, not_there.text)
        assert there.status_code == 403


@pytest.mark.parametrize("who", ["demo", "manager", "reader"])
@pytest.mark.weakness(862)
def test_what_is_for_admins_is_for_nobody_else(client: TestClient, headers: Headers, stranger: Callable[..., str], who: str) -> None:
    if who != "demo":
        stranger(who, who)
    sent = headers(who)
    for_admins = [route for route in ROOM.routes if route.check in {ADMIN, DOMAIN_MANAGER, DOMAIN_READER}]
    assert len(for_admins) > 50
    for route in for_admins:
        assert client.request(route.method, V3 + route.path, headers=sent, json={}).status_code == 403, f"{route.method} {route.path}"


def test_a_token_without_scope_has_no_catalog(client: TestClient, headers: Headers) -> None:
    assert client.get(f"{V3}/auth/catalog", headers=headers("admin", None)).status_code == 403
    assert client.get(f"{V3}/users", headers=headers("admin", None)).status_code == 403
    assert client.get(f"{V3}/users", headers=headers("admin", "system")).status_code == 200


def test_the_catalogs_nouns_are_listed_and_shown(client: TestClient, headers: Headers) -> None:
    admin = headers("admin")
    for noun, count in (("service", 6), ("endpoint", 18), ("region", 1)):
        listed = client.get(f"{V3}/{noun}s", headers=admin).json()[f"{noun}s"]
        assert len({value["id"] for value in listed}) == count
        assert client.get(f"{V3}/{noun}s/{listed[0]['id']}", headers=admin).json() == {noun: listed[0]}
        assert client.get(f"{V3}/{noun}s/nothing", headers=admin).status_code == 404
    assert names(client, admin, "/services?type=image") == ["glance"]
    assert len(client.get(f"{V3}/endpoints?interface=public", headers=admin).json()["endpoints"]) == 6


def test_roles_imply_each_other(client: TestClient, headers: Headers) -> None:
    rules = client.get(f"{V3}/role_inferences", headers=headers("admin")).json()["role_inferences"]
    assert [(rule["prior_role"]["name"], [r["name"] for r in rule["implies"]]) for rule in rules] == [
        ("admin", ["manager"]),
        ("manager", ["member"]),
        ("member", ["reader"]),
    ]
    assert names(client, headers("admin"), "/roles") == ["admin", "manager", "member", "reader", "service"]
    assert names(client, headers("admin"), "/roles?name=member") == ["member"]


def test_a_flag_says_yes_or_no(client: TestClient, headers: Headers) -> None:
    answer = client.get(f"{V3}/projects?enabled=perhaps", headers=headers("admin"))
    assert answer.status_code == 400
    assert "enabled" in answer.json()["error"]["message"]


def test_links_lead_to_the_public_address(client: TestClient, headers: Headers) -> None:
    answer = client.get(f"{V3}/users?name=demo", headers=headers("admin") | {"Host": "evil.example"})
    assert answer.json()["links"]["self"] == "http://127.0.0.1:8774/identity/v3/users?name=demo"
    assert "evil.example" not in answer.text
