"""Who manages a domain: everything in it, nothing outside of it, and no way up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.unit.api.identity.calls import V3, Caller, log_in

from lamina.api.identity import ROOM
from lamina.api.identity.reach import GIVEN_IN_DOMAINS
from lamina.api.routing import ADMIN
from lamina.store.roles import BOOTSTRAP_ROLES

Headers = Callable[..., dict[str, str]]
Ids = dict[str, str]
PASSWORD = "a manager's secret"


@pytest.fixture
def admin(client: TestClient, headers: Headers) -> Caller:
    return Caller(client, headers("admin"))


@pytest.fixture
def lab(admin: Caller) -> Ids:
    """Ids: the domain lab with a project, a user and a group."""
    domain = admin.make("domain", name="lab")["id"]
    made = {noun: admin.make(noun, name=f"lab's {noun}", domain_id=domain)["id"] for noun in ("project", "user", "group")}
    return {"domain": domain} | made


@pytest.fixture
def den(admin: Caller) -> Ids:
    """The same of another domain."""
    domain = admin.make("domain", name="den")["id"]
    made = {noun: admin.make(noun, name=f"den's {noun}", domain_id=domain)["id"] for noun in ("project", "user", "group")}
    return {"domain": domain} | made


@pytest.fixture
def scoped(client: TestClient, admin: Caller, role_ids: Ids) -> Callable[[str, str], Caller]:
    """``scoped("lab", "manager")``: a user of that domain with that role on it, and a token for it."""

    def made(domain: str, role: str) -> Caller:
        (found,) = admin.call("GET", f"/domains?name={domain}", 200)["domains"]
        user = admin.make("user", name=f"{role} of {domain}", password=PASSWORD, domain_id=found["id"])
        admin.call("PUT", f"/domains/{found['id']}/users/{user['id']}/roles/{role_ids[role]}", 204)
        return log_in(client, user["name"], PASSWORD, domain, {"domain": {"name": domain}})

    return made


@pytest.mark.parametrize("role", ["manager", "admin"])
def test_a_manager_makes_changes_and_deletes_in_the_domain(
    lab: Ids, den: Ids, scoped: Callable[[str, str], Caller], role: str, role_ids: Ids
) -> None:
    boss = scoped("lab", role)
    for noun in ("project", "user", "group"):
        made = boss.make(noun, name="x")
        assert made["domain_id"] == lab["domain"], "without a word where, in the token's domain"
        boss.make(noun, name="y", domain_id=lab["domain"])
        boss.make(noun, 403, name="z", domain_id=den["domain"])
        assert boss.change(noun, made["id"], description="d")["description"] == "d"
        assert set(boss.names(f"/{noun}s")) >= {"x", "y", f"lab's {noun}"}
        assert f"den's {noun}" not in boss.names(f"/{noun}s")
        assert boss.names(f"/{noun}s?domain_id={den['domain']}") == []
        boss.call("DELETE", f"/{noun}s/{made['id']}", 204)
    boss.call("PUT", f"/groups/{lab['group']}/users/{lab['user']}", 204)
    assert boss.names(f"/groups/{lab['group']}/users") == ["lab's user"]
    assert boss.names(f"/users/{lab['user']}/groups") == ["lab's group"]
    for where in (f"/projects/{lab['project']}", f"/domains/{lab['domain']}"):
        for who in (f"users/{lab['user']}", f"groups/{lab['group']}"):
            boss.call("PUT", f"{where}/{who}/roles/{role_ids['member']}", 204)
            assert boss.names(f"{where}/{who}/roles") == ["member"]
    assert boss.names(f"/users/{lab['user']}/projects") == ["lab's project"]
    boss.call("DELETE", f"/projects/{lab['project']}/users/{lab['user']}/roles/{role_ids['member']}", 204)
    boss.call("DELETE", f"/groups/{lab['group']}/users/{lab['user']}", 204)
    assert boss.names("/domains") == ["lab"]
    assert boss.names("/roles") == sorted(BOOTSTRAP_ROLES)


def paths(at: Ids, role: str) -> list[tuple[str, str, Any]]:
    """Every call about single things of a domain."""
    calls: list[tuple[str, str, Any]] = []
    for noun in ("project", "user", "group"):
        one = f"/{noun}s/{at[noun]}"
        calls += [("GET", one, None), ("PATCH", one, {noun: {"description": "mine"}}), ("DELETE", one, None)]
    calls += [("GET", f"/users/{at['user']}/{of}", None) for of in ("projects", "groups")]
    calls += [("GET", f"/groups/{at['group']}/users", None), ("GET", f"/domains/{at['domain']}", None)]
    calls += [(method, f"/groups/{at['group']}/users/{at['user']}", None) for method in ("GET", "PUT", "DELETE")]
    for where in (f"/projects/{at['project']}", f"/domains/{at['domain']}"):
        for who in (f"users/{at['user']}", f"groups/{at['group']}"):
            calls.append(("GET", f"{where}/{who}/roles", None))
            calls += [(method, f"{where}/{who}/roles/{role}", None) for method in ("GET", "PUT", "DELETE")]
    return calls


@pytest.mark.weakness(639)
def test_what_is_in_another_domain_answers_as_what_does_not_exist(
    client: TestClient, lab: Ids, den: Ids, scoped: Callable[[str, str], Caller], role_ids: Ids
) -> None:
    boss = scoped("lab", "admin")
    nowhere = dict.fromkeys(den, "0" * 32)
    for foreign, missing in zip(paths(den, role_ids["member"]), paths(nowhere, role_ids["member"]), strict=True):
        method, path, body = foreign
        answer = client.request(method, V3 + path, headers=boss.headers, json=body)
        other = client.request(method, V3 + missing[1], headers=boss.headers, json=body)
        told = answer.json()["error"]["message"]
        for noun, id_ in den.items():
            told = told.replace(id_, nowhere[noun])
        assert (answer.status_code, told) == (404, other.json()["error"]["message"]), f"{method} {path}"


@pytest.mark.weakness(639)
def test_halves_of_two_domains_do_not_go_together(lab: Ids, den: Ids, scoped: Callable[[str, str], Caller], role_ids: Ids) -> None:
    boss = scoped("lab", "admin")
    member = role_ids["member"]
    for mine, theirs in ((lab, den), (den, lab)):
        boss.call("PUT", f"/projects/{mine['project']}/users/{theirs['user']}/roles/{member}", 404)
        boss.call("PUT", f"/domains/{mine['domain']}/groups/{theirs['group']}/roles/{member}", 404)
        boss.call("PUT", f"/groups/{mine['group']}/users/{theirs['user']}", 404)
    boss.change("user", lab["user"], 404, default_project_id=den["project"])
    boss.make("user", 404, name="x", default_project_id=den["project"])
    boss.change("user", lab["user"], 400, domain_id=den["domain"])


@pytest.mark.parametrize("role", sorted({*BOOTSTRAP_ROLES, "operator"} - GIVEN_IN_DOMAINS))
@pytest.mark.weakness(269)
def test_a_manager_gives_and_takes_no_more_than_managing(
    admin: Caller, lab: Ids, scoped: Callable[[str, str], Caller], role_ids: Ids, role: str
) -> None:
    boss = scoped("lab", "admin")
    role_id = role_ids.get(role) or admin.make("role", name=role)["id"]
    for where in (f"/projects/{lab['project']}", f"/domains/{lab['domain']}"):
        for who in (f"users/{lab['user']}", f"groups/{lab['group']}"):
            admin.call("PUT", f"{where}/{who}/roles/{role_id}", 204)
            for method in ("PUT", "DELETE"):
                boss.call(method, f"{where}/{who}/roles/{role_id}", 403)
    for who in (f"users/{lab['user']}", f"groups/{lab['group']}"):
        boss.call("PUT", f"/system/{who}/roles/{role_ids['reader']}", 403)


@pytest.mark.parametrize("held", ["on the system", "in another domain", "admin of a project", "by a group"])
@pytest.mark.weakness(269)
def test_a_manager_does_not_take_over_who_has_more(
    admin: Caller, lab: Ids, den: Ids, scoped: Callable[[str, str], Caller], role_ids: Ids, held: str
) -> None:
    """Who sets another's password can be the other."""
    boss = scoped("lab", "admin")
    where, role = {
        "on the system": ("/system", "reader"),
        "in another domain": (f"/projects/{den['project']}", "reader"),
        "admin of a project": (f"/projects/{lab['project']}", "admin"),
        "by a group": ("/system", "admin"),
    }[held]
    who = f"groups/{lab['group']}" if held == "by a group" else f"users/{lab['user']}"
    if held == "by a group":
        admin.call("PUT", f"/groups/{lab['group']}/users/{lab['user']}", 204)
    boss.change("user", lab["user"], password="before")
    admin.call("PUT", f"{where}/{who}/roles/{role_ids[role]}", 204)
    boss.change("user", lab["user"], 403, password="mine now")
    boss.call("DELETE", f"/users/{lab['user']}", 403)
    admin.call("DELETE", f"{where}/{who}/roles/{role_ids[role]}", 204)
    boss.change("user", lab["user"], password="after")


@pytest.mark.weakness(269)
def test_a_manager_puts_nobody_into_a_group_that_has_more(
    admin: Caller, lab: Ids, scoped: Callable[[str, str], Caller], role_ids: Ids
) -> None:
    boss = scoped("lab", "manager")
    admin.call("PUT", f"/system/groups/{lab['group']}/roles/{role_ids['admin']}", 204)
    boss.call("PUT", f"/groups/{lab['group']}/users/{lab['user']}", 403)
    assert admin.names(f"/groups/{lab['group']}/users") == []


@pytest.mark.parametrize("role", ["reader", "member", "manager", "admin"])
@pytest.mark.weakness(862)
def test_what_is_for_admins_of_the_cloud(client: TestClient, lab: Ids, scoped: Callable[[str, str], Caller], role: str) -> None:
    boss = scoped("lab", role)
    for_admins = [route for route in ROOM.routes if route.check == ADMIN]
    assert len(for_admins) > 15
    for route in for_admins:
        answer = client.request(route.method, V3 + route.path.format_map(Everywhere(lab)), headers=boss.headers, json={})
        assert answer.status_code == 403, f"{route.method} {route.path}"


class Everywhere(dict[str, str]):
    """The domain's things in the places of a path."""

    def __init__(self, at: Ids) -> None:
        super().__init__({f"{noun}_id": id_ for noun, id_ in at.items()})

    def __missing__(self, key: str) -> str:
        return "0" * 32


@pytest.mark.parametrize("role", ["reader", "member"])
@pytest.mark.weakness(862)
def test_a_reader_reads_and_changes_nothing(
    client: TestClient, admin: Caller, lab: Ids, scoped: Callable[[str, str], Caller], role_ids: Ids, role: str
) -> None:
    reader = scoped("lab", role)
    admin.call("PUT", f"/groups/{lab['group']}/users/{lab['user']}", 204)
    for method, path, body in paths(lab, role_ids["member"]):
        status = client.request(method, V3 + path, headers=reader.headers, json=body).status_code
        expected = {403} if method != "GET" else {200, 204, 404 if path.endswith(role_ids["member"]) else 200}
        assert status in expected, f"{method} {path}: {status}"
    for noun in ("project", "user", "group"):
        reader.make(noun, 403, name="x")
    reader.call("GET", "/roles", 403)


def test_assignments_are_told_of_the_domain_only(
    admin: Caller, lab: Ids, den: Ids, scoped: Callable[[str, str], Caller], role_ids: Ids
) -> None:
    for at in (lab, den):
        admin.call("PUT", f"/projects/{at['project']}/users/{at['user']}/roles/{role_ids['member']}", 204)
    boss = scoped("lab", "manager")
    scopes = [one["scope"] for one in boss.call("GET", "/role_assignments", 200)["role_assignments"]]
    assert {str(scope) for scope in scopes} == {str({"project": {"id": lab["project"]}}), str({"domain": {"id": lab["domain"]}})}
    assert boss.call("GET", f"/role_assignments?scope.project.id={den['project']}", 200)["role_assignments"] == []
    assert boss.call("GET", "/role_assignments?scope.system=all", 200)["role_assignments"] == []
    assert boss.call("GET", f"/role_assignments?user.id={den['user']}&effective", 200)["role_assignments"] == []
