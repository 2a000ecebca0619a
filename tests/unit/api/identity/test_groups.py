"""Groups: their users have their roles for as long as they are in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.unit.api.identity.calls import V3, Caller

from lamina.operations.control_plane import ControlPlane
from lamina.store import groups

Headers = Callable[..., dict[str, str]]
Ids = dict[str, str]


@pytest.fixture
def admin(client: TestClient, headers: Headers) -> Caller:
    return Caller(client, headers("admin"))


@pytest.fixture
def group(admin: Caller, user_ids: Ids) -> str:
    """The id of one with the user demo in it."""
    made = admin.make("group", name="blue")
    admin.call("PUT", f"/groups/{made['id']}/users/{user_ids['demo']}", 204)
    return str(made["id"])


def test_a_group_is_made_changed_and_deleted(admin: Caller) -> None:
    made = admin.make("group", name="blue", description="d", domain_id="default")
    assert made == {
        "id": made["id"],
        "name": "blue",
        "description": "d",
        "domain_id": "default",
        "links": {"self": f"http://127.0.0.1:8774{V3}/groups/{made['id']}"},
    }
    assert admin.call("GET", f"/groups/{made['id']}", 200) == {"group": made}
    assert admin.change("group", made["id"], name="red", description=None) == made | {"name": "red", "description": ""}
    assert admin.names("/groups?name=red") == ["red"]
    assert admin.names("/groups?name=blue") == []
    admin.call("DELETE", f"/groups/{made['id']}", 204)
    for method in ("GET", "DELETE"):
        admin.call(method, f"/groups/{made['id']}", 404)


@pytest.mark.parametrize("facts", [{}, {"name": ""}, {"name": "x" * 65}, {"name": "x\n"}, {"name": 7}, {"name": "x", "surprise": 1}])
def test_bad_groups(admin: Caller, facts: Any) -> None:
    admin.make("group", 400, **facts)
    assert admin.names("/groups") == []


def test_a_name_is_given_once_in_a_domain(admin: Caller) -> None:
    admin.make("group", name="blue")
    assert "named blue already" in admin.make("group", 409, name="blue")["error"]["message"]
    red = admin.make("group", name="red")
    admin.change("group", red["id"], 409, name="blue")
    elsewhere = admin.make("domain", name="other")["id"]
    admin.make("group", name="blue", domain_id=elsewhere)
    assert admin.names(f"/groups?domain_id={elsewhere}") == ["blue"]
    admin.change("group", red["id"], 400, domain_id=elsewhere)
    admin.make("group", 404, name="blue", domain_id="nowhere")


@pytest.mark.databases
def test_users_are_put_in_and_taken_out(admin: Caller, user_ids: Ids, group: str) -> None:
    here = f"/groups/{group}/users/{user_ids['demo']}"
    admin.call("PUT", here, 204)
    for method in ("GET", "HEAD"):
        admin.call(method, here, 204)
    assert admin.names(f"/groups/{group}/users") == ["demo"]
    assert admin.names(f"/users/{user_ids['demo']}/groups") == ["blue"]
    assert admin.names(f"/users/{user_ids['admin']}/groups") == []
    admin.call("DELETE", here, 204)
    for method in ("GET", "DELETE"):
        admin.call(method, here, 404)
    assert admin.names(f"/groups/{group}/users") == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("missing", ["group", "user"])
def test_both_must_be_there(admin: Caller, user_ids: Ids, group: str, method: str, missing: str) -> None:
    at = {"group": group, "user": user_ids["demo"]} | {missing: "nothing"}
    told = admin.call(method, f"/groups/{at['group']}/users/{at['user']}", 404)
    assert missing in told["error"]["message"]


def test_a_member_sees_his_own_groups_only(client: TestClient, headers: Headers, group: str, user_ids: Ids) -> None:
    demo = Caller(client, headers("demo"))
    assert demo.names(f"/users/{user_ids['demo']}/groups") == ["blue"]
    demo.call("GET", f"/users/{user_ids['admin']}/groups", 403)
    demo.call("GET", f"/groups/{group}", 403)
    demo.call("PUT", f"/groups/{group}/users/{user_ids['demo']}", 403)


def test_roles_of_groups_are_given_checked_and_taken(admin: Caller, group: str, project_ids: Ids, role_ids: Ids) -> None:
    for where in (f"/projects/{project_ids['admin']}", "/system", "/domains/default"):
        path = f"{where}/groups/{group}/roles/{role_ids['reader']}"
        admin.call("GET", path, 404)
        admin.call("DELETE", path, 404)
        admin.call("PUT", path, 204)
        admin.call("PUT", path, 204)
        admin.call("HEAD", path, 204)
        assert admin.names(f"{where}/groups/{group}/roles") == ["reader"]
        admin.call("DELETE", path, 204)
        admin.call("GET", path, 404)


@pytest.mark.parametrize("missing", ["project", "group", "role"])
def test_a_role_needs_all_three(admin: Caller, group: str, project_ids: Ids, role_ids: Ids, missing: str) -> None:
    at = {"project": project_ids["demo"], "group": group, "role": role_ids["reader"]} | {missing: "nothing"}
    told = admin.call("PUT", f"/projects/{at['project']}/groups/{at['group']}/roles/{at['role']}", 404)
    assert missing in told["error"]["message"]


#: what ends what a user has by a group
ENDS: dict[str, tuple[str, str]] = {
    "taken out of the group": ("DELETE", "/groups/{group}/users/{user}"),
    "the group is deleted": ("DELETE", "/groups/{group}"),
    "the group's role is taken": ("DELETE", "/projects/{project}/groups/{group}/roles/{role}"),
    "the role is deleted": ("DELETE", "/roles/{role}"),
}


@pytest.mark.databases
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.weakness(613)
def test_a_token_is_worth_what_the_group_has_while_it_has_it(
    admin: Caller, client: TestClient, headers: Headers, user_ids: Ids, group: str, end: tuple[str, str]
) -> None:
    project, role = admin.make("project", name="lab")["id"], admin.make("role", name="operator")["id"]
    at = {"group": group, "user": user_ids["demo"], "project": project, "role": role}
    demo = Caller(client, headers("demo"))
    scope = {
        "auth": {"identity": {"methods": ["token"], "token": {"id": demo.headers["X-Auth-Token"]}}, "scope": {"project": {"id": project}}}
    }
    assert client.post(f"{V3}/auth/tokens", json=scope).status_code == 401
    admin.call("PUT", "/projects/{project}/groups/{group}/roles/{role}".format(**at), 204)
    assert demo.names("/auth/projects") == ["demo", "lab"]
    assert demo.names(f"/users/{at['user']}/projects") == ["demo", "lab"]
    answer = client.post(f"{V3}/auth/tokens", json=scope)
    assert answer.status_code == 201
    assert answer.json()["token"]["roles"] == [{"id": role, "name": "operator"}]
    by_group = Caller(client, {"X-Auth-Token": answer.headers["X-Subject-Token"]})
    by_group.call("GET", "/auth/projects", 200)
    admin.call(end[0], end[1].format(**at), 204)
    by_group.call("GET", "/auth/projects", 401)
    assert demo.names("/auth/projects") == ["demo"]
    assert client.post(f"{V3}/auth/tokens", json=scope).status_code == 401


@pytest.mark.weakness(269)
def test_the_systems_role_by_a_group_goes_with_it(
    admin: Caller, client: TestClient, headers: Headers, group: str, user_ids: Ids, role_ids: Ids
) -> None:
    admin.call("PUT", f"/system/groups/{group}/roles/{role_ids['admin']}", 204)
    demo = Caller(client, headers("demo", "system"))
    assert demo.call("GET", "/auth/system", 200)["system"] == [{"all": True}]
    assert "admin" in demo.names("/users")
    admin.call("DELETE", f"/groups/{group}/users/{user_ids['demo']}", 204)
    demo.call("GET", "/users", 401)


@pytest.mark.databases
def test_assignments_tell_what_comes_by_groups(admin: Caller, group: str, user_ids: Ids, role_ids: Ids, project_ids: Ids) -> None:
    path = f"/projects/{project_ids['admin']}/groups/{group}/roles/{role_ids['member']}"
    admin.call("PUT", path, 204)
    base = f"http://127.0.0.1:8774{V3}"
    (plain,) = admin.call("GET", f"/role_assignments?group.id={group}&include_names", 200)["role_assignments"]
    default = {"id": "default", "name": "Default"}
    assert plain == {
        "group": {"id": group, "name": "blue", "domain": default},
        "role": {"id": role_ids["member"], "name": "member"},
        "scope": {"project": {"id": project_ids["admin"], "name": "admin", "domain": default}},
        "links": {"assignment": base + path},
    }
    query = f"/role_assignments?effective&user.id={user_ids['demo']}&scope.project.id={project_ids['admin']}"
    effective = admin.call("GET", query, 200)["role_assignments"]
    assert {one["role"]["id"] for one in effective} == {role_ids["member"], role_ids["reader"]}
    assert {one["links"]["membership"] for one in effective} == {f"{base}/groups/{group}/users/{user_ids['demo']}"}
    assert all(one["user"] == {"id": user_ids["demo"]} and "group" not in one for one in effective)
    assert admin.call("GET", f"/role_assignments?user.id={user_ids['demo']}&role.id={role_ids['reader']}", 200)["role_assignments"] == []


@pytest.mark.parametrize(
    "query", ["group.id=g&user.id=u", "group.id=g&effective", "scope.project.id=p&scope.system=all", "scope.project.id=p&scope.domain.id=d"]
)
def test_questions_about_assignments_that_make_no_sense(admin: Caller, query: str) -> None:
    admin.call("GET", f"/role_assignments?{query}", 400)


def test_a_deleted_user_is_in_no_group(admin: Caller, cloud: ControlPlane, group: str, user_ids: Ids) -> None:
    admin.call("DELETE", f"/users/{user_ids['demo']}", 204)
    with cloud.db.read() as tx:
        assert groups.members(tx, group) == []
        assert not groups.is_member(tx, group, user_ids["demo"])


@pytest.mark.weakness(613)
def test_a_credential_is_worth_what_the_group_gives(
    admin: Caller, client: TestClient, headers: Headers, user_ids: Ids, group: str, project_ids: Ids, role_ids: Ids
) -> None:
    admin.call("PUT", f"/projects/{project_ids['admin']}/groups/{group}/roles/{role_ids['member']}", 204)
    demo = Caller(client, headers("demo", project_ids["admin"]))
    wanted = {"application_credential": {"name": "robot", "secret": "s"}}
    made = demo.call("POST", f"/users/{user_ids['demo']}/application_credentials", 201, wanted)["application_credential"]
    assert {role["name"] for role in made["roles"]} == {"member", "reader"}
    proof = {"methods": ["application_credential"], "application_credential": {"id": made["id"], "secret": "s"}}
    answer = client.post(f"{V3}/auth/tokens", json={"auth": {"identity": proof}})
    assert answer.status_code == 201
    robot = Caller(client, {"X-Auth-Token": answer.headers["X-Subject-Token"]})
    robot.call("GET", "/auth/projects", 200)
    admin.call("DELETE", f"/groups/{group}/users/{user_ids['demo']}", 204)
    robot.call("GET", "/auth/projects", 401)
    assert client.post(f"{V3}/auth/tokens", json={"auth": {"identity": proof}}).status_code == 401
