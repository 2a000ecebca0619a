"""Application credentials: a program's own proof, never worth more than its user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from lamina.model.errors import ConcurrentUpdate
from lamina.operations.control_plane import ControlPlane
from lamina.store import application_credentials, role_assignments, roles, tokens
from lamina.store.application_credentials import Credential
from lamina.store.tables import identity as tables

TOKENS = "/identity/v3/auth/tokens"
Headers = Callable[..., dict[str, str]]


@pytest.fixture
def path(user_ids: dict[str, str]) -> str:
    return f"/identity/v3/users/{user_ids['demo']}/application_credentials"


def make(client: TestClient, path: str, headers: dict[str, str], **more: Any) -> dict[str, Any]:
    answer = client.post(path, headers=headers, json={"application_credential": {"name": "robot"} | more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["application_credential"]
    return made


def prove(client: TestClient, proof: dict[str, Any], **scope: Any) -> Any:
    auth = {"identity": {"methods": ["application_credential"], "application_credential": proof}}
    return client.post(TOKENS, json={"auth": auth | scope})


def by_id(made: dict[str, Any]) -> dict[str, Any]:
    return {"id": made["id"], "secret": made["secret"]}


def test_a_program_proves_itself_by_it(
    client: TestClient, headers: Headers, path: str, project_ids: dict[str, str], user_ids: dict[str, str]
) -> None:
    made = make(client, path, headers("demo"), description="for the night")
    assert (made["project_id"], [role["name"] for role in made["roles"]], made["unrestricted"]) == (
        project_ids["demo"],
        ["member", "reader"],
        False,
    )
    for proof in (
        by_id(made),
        {"name": "robot", "user": {"id": user_ids["demo"]}, "secret": made["secret"]},
        {"name": "robot", "user": {"name": "demo", "domain": {"id": "default"}}, "secret": made["secret"]},
    ):
        answer = prove(client, proof)
        assert answer.status_code == 201, answer.text
        token = answer.json()["token"]
        assert (token["methods"], token["project"]["id"]) == (["application_credential"], project_ids["demo"])
        assert token["application_credential"] == {"id": made["id"], "name": "robot", "restricted": True}
        assert token["catalog"]
        seen = client.get("/identity/v3/auth/projects", headers={"X-Auth-Token": answer.headers["X-Subject-Token"]})
        assert seen.status_code == 200
    listed = client.get(path, headers=headers("demo")).json()["application_credentials"]
    assert [one["id"] for one in listed] == [made["id"]]
    assert "secret" not in listed[0]
    assert client.get(f"{path}?name=other", headers=headers("demo")).json()["application_credentials"] == []


def test_a_role_that_was_deleted_at_this_moment_is_a_conflict(
    cloud: ControlPlane, user_ids: dict[str, str], project_ids: dict[str, str]
) -> None:
    made = Credential("c", user_ids["demo"], project_ids["demo"], "robot", None, False, None, 0.0, {"a-role-that-went": "gone"})

    def add() -> None:
        with cloud.db.write() as tx:
            application_credentials.add(tx, made, "no hash")

    with pytest.raises(ConcurrentUpdate, match="deleted at this moment"):
        add()
    with cloud.db.read() as tx:
        assert application_credentials.of_user(tx, user_ids["demo"]) == []


@pytest.mark.weakness(256)
def test_the_secret_is_kept_as_a_hash_only(cloud: ControlPlane, client: TestClient, headers: Headers, path: str) -> None:
    made = make(client, path, headers("demo"), secret="my own secret")
    assert made["secret"] == "my own secret"
    with cloud.db.read() as tx:
        (kept,) = tx.execute(sa.select(tables.application_credentials)).all()
    assert kept.secret_hash.startswith("$argon2id$")
    assert "my own secret" not in str(kept)


def test_whatever_is_wrong_the_answer_is_the_same(client: TestClient, headers: Headers, path: str, user_ids: dict[str, str]) -> None:
    made = make(client, path, headers("demo"))
    answers = [
        prove(client, {"id": made["id"], "secret": "wrong"}),
        prove(client, {"id": "unknown", "secret": made["secret"]}),
        prove(client, {"name": "robot", "user": {"id": user_ids["admin"]}, "secret": made["secret"]}),
        prove(client, {"name": "robot", "user": {"name": "demo", "domain": {"id": "other"}}, "secret": made["secret"]}),
        prove(client, by_id(made), scope={"system": {"all": True}}),
    ]
    assert {(a.status_code, a.json()["error"]["message"]) for a in answers} == {(401, answers[0].json()["error"]["message"])}
    assert prove(client, {"name": "robot", "secret": made["secret"]}).status_code == 400


def test_it_is_worth_no_more_than_its_user(
    cloud: ControlPlane, client: TestClient, headers: Headers, path: str, project_ids: dict[str, str], user_ids: dict[str, str]
) -> None:
    made = make(client, path, headers("demo"), roles=[{"name": "reader"}])
    token = prove(client, by_id(made)).headers["X-Subject-Token"]
    with cloud.db.read() as tx:
        found = tokens.find_token(tx, tokens.token_hash(token), cloud.clock.now())
        assert found is not None
        assert found.roles == {"reader"}
        member = next(role.id for role in roles.list_roles(tx) if role.name == "member")
    with cloud.db.write() as tx:
        role_assignments.unassign(tx, user_ids["demo"], member, project_ids["demo"])
    assert client.get("/identity/v3/auth/projects", headers={"X-Auth-Token": token}).status_code == 401
    assert prove(client, by_id(made)).status_code == 401


def test_it_ends_with_its_time_its_user_and_its_deletion(
    cloud: ControlPlane, client: TestClient, headers: Headers, path: str, user_ids: dict[str, str]
) -> None:
    soon = make(client, path, headers("demo"), name="soon", expires_at="2027-01-15T08:05:00.000000Z")  # five minutes from now
    token = prove(client, by_id(soon)).headers["X-Subject-Token"]
    assert client.get("/identity/v3/auth/projects", headers={"X-Auth-Token": token}).status_code == 200
    cloud.clock.sleep(301)
    assert client.get("/identity/v3/auth/projects", headers={"X-Auth-Token": token}).status_code == 401
    assert prove(client, by_id(soon)).status_code == 401
    made = make(client, path, headers("demo"))
    token = prove(client, by_id(made)).headers["X-Subject-Token"]
    assert client.delete(f"{path}/{made['id']}", headers=headers("demo")).status_code == 204
    assert client.get("/identity/v3/auth/projects", headers={"X-Auth-Token": token}).status_code == 401
    assert client.delete(f"{path}/{made['id']}", headers=headers("demo")).status_code == 404
    other = make(client, path, headers("demo"), name="other")
    assert client.delete(f"/identity/v3/users/{user_ids['demo']}", headers=headers("admin")).status_code == 204
    assert prove(client, by_id(other)).status_code == 401


def test_one_that_leaked_makes_no_others(client: TestClient, headers: Headers, path: str) -> None:
    made = make(client, path, headers("demo"))
    robot = {"X-Auth-Token": prove(client, by_id(made)).headers["X-Subject-Token"]}
    assert client.post(path, headers=robot, json={"application_credential": {"name": "more"}}).status_code == 403
    assert client.delete(f"{path}/{made['id']}", headers=robot).status_code == 403
    scoped = {"auth": {"identity": {"methods": ["token"], "token": {"id": robot["X-Auth-Token"]}}}}
    assert client.post(TOKENS, json=scoped).status_code == 403
    free = make(client, path, headers("demo"), name="free", unrestricted=True)
    trusted = {"X-Auth-Token": prove(client, by_id(free)).headers["X-Subject-Token"]}
    assert client.post(path, headers=trusted, json={"application_credential": {"name": "more"}}).status_code == 201


def test_they_are_nobody_elses_affair(client: TestClient, headers: Headers, path: str, user_ids: dict[str, str]) -> None:
    made = make(client, path, headers("demo"))
    nobody = path.replace(user_ids["demo"], "0" * 32)
    for admin in (headers("admin"), headers("admin", "system")):
        told = [client.get(p, headers=admin) for p in (path, f"{path}/{made['id']}", nobody)]
        assert {(a.status_code, a.json()["error"]["message"]) for a in told} == {(403, told[0].json()["error"]["message"])}
    own = path.replace(user_ids["demo"], user_ids["admin"])
    assert client.get(f"{own}/{made['id']}", headers=headers("admin")).status_code == 404
    assert client.delete(f"{own}/{made['id']}", headers=headers("admin")).status_code == 404


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"name": ""}, 400),
        ({"name": "x" * 256}, 400),
        ({"roles": [{"name": "admin"}]}, 400),
        ({"roles": [{"id": "unknown"}]}, 400),
        ({"roles": [{}]}, 400),
        ({"expires_at": "tomorrow"}, 400),
        ({"expires_at": "2000-01-01T00:00:00Z"}, 400),
        ({"project_id": "another"}, 400),
        ({"access_rules": [{"path": "/v2.1/servers", "method": "GET", "service": "compute"}]}, 501),
        ({"more": 1}, 400),
    ],
    ids=str,
)
def test_what_is_asked_for_wrongly(client: TestClient, headers: Headers, path: str, said: dict[str, Any], status: int) -> None:
    answer = client.post(path, headers=headers("demo"), json={"application_credential": {"name": "robot"} | said})
    assert answer.status_code == status, answer.text
    assert client.get(path, headers=headers("demo")).json()["application_credentials"] == []


def test_two_of_one_name(client: TestClient, headers: Headers, path: str) -> None:
    make(client, path, headers("demo"))
    assert client.post(path, headers=headers("demo"), json={"application_credential": {"name": "robot"}}).status_code == 409
    assert client.post(path, headers=headers("demo", None), json={"application_credential": {"name": "other"}}).status_code == 400
