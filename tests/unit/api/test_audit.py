"""The audit trail at the door: every changing route of every room leaves one record, and nobody's secret is in any."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.unit.api.conftest import PASSWORDS

from lamina.api import agents
from lamina.api.application import application
from lamina.api.refusals import MOST_OF_ONE, WINDOW
from lamina.api.rooms import ROOMS
from lamina.api.routing import Room, Route
from lamina.model.audit import Event, Outcome
from lamina.model.errors import Unavailable
from lamina.operations.control_plane import ControlPlane
from lamina.store import audit
from lamina.store.audit import Sought

Headers = Callable[..., dict[str, str]]
UNCHANGING = {"GET", "HEAD", "OPTIONS"}
ROUTES = [(room, route) for room in (*ROOMS, agents.ROOM) for route in room.routes]
CHANGING = [(room, route) for room, route in ROUTES if route.method not in UNCHANGING]
AUDITED = [(room, route) for room, route in CHANGING if route.audited]
MISSING = "55555555-5555-4555-8555-555555555551"


@pytest.fixture
def cloud(cloud: ControlPlane) -> ControlPlane:
    """One that hosts may join."""
    return dataclasses.replace(cloud, settings=dataclasses.replace(cloud.settings, agents_url="https://127.0.0.1:1"))


@pytest.fixture
def client(cloud: ControlPlane) -> Iterator[TestClient]:
    with TestClient(application(cloud, (agents.ROOM, *ROOMS)), client=("192.0.2.7", 1)) as client:
        yield client


@pytest.fixture
def trail(cloud: ControlPlane) -> Callable[[], list[Event]]:
    """The events since it was asked the last time."""
    seen = 0

    def new() -> list[Event]:
        nonlocal seen
        with cloud.db.read() as tx:
            found = audit.page(tx, Sought(), limit=10_000, marker=seen, direction="asc")
        seen = max((number for number, _ in found), default=seen)
        return [event for _, event in found]

    return new


def send(client: TestClient, room: Room, route: Route, sent: dict[str, str], body: Any = None) -> Any:
    path = room.prefix + re.sub(r"\{[^}]*\}", MISSING, route.path)
    if room.microversions is not None:
        sent = sent | {"OpenStack-API-Version": f"{room.microversions.service_type} {route.until or room.microversions.most}"}
    return client.request(route.method, path, headers=sent, json={} if body is None else body)


def test_hosts_that_poll_are_the_only_change_that_is_not_recorded() -> None:
    assert [(route.method, route.path) for _, route in CHANGING if not route.audited] == [("POST", "/poll")]


@pytest.mark.weakness(778)
def test_every_change_that_was_asked_for_leaves_one_record(
    client: TestClient, cloud: ControlPlane, headers: Headers, trail: Callable[[], list[Event]]
) -> None:
    for room, route in AUDITED:
        cloud.clock.sleep(WINDOW)
        answer = send(client, room, route, headers("admin") if room is not agents.ROOM else {})
        name = f"{route.method} {room.prefix}{route.path}: {answer.status_code}"
        (event,) = trail()
        assert event.action.partition("/")[2].partition("/")[0] == route.rule, name
        assert event.status == answer.status_code, name
        assert event.outcome is (Outcome.SUCCESS if answer.status_code < 400 else Outcome.FAILURE), name
        assert event.request_id == answer.headers.get("X-Openstack-Request-Id"), name
        assert event.initiator.address == "192.0.2.7", name
        assert (event.initiator.name == "admin") == (not route.public and room is not agents.ROOM), name
        assert event.target.id == MISSING or "{" not in route.path, name


@pytest.mark.weakness(778)
def test_everybody_who_is_not_let_in_is_recorded(
    client: TestClient, cloud: ControlPlane, headers: Headers, stranger: Callable[..., str], trail: Callable[[], list[Event]]
) -> None:
    """Whatever the method."""
    stranger("eve", "reader")
    for room, route in ROUTES:
        if route.public:
            continue
        for sent in ({}, headers("eve")):
            cloud.clock.sleep(WINDOW)
            answer = send(client, room, route, sent)
            refused = answer.status_code in (401, 403)
            assert refused or sent, f"{route.method} {room.prefix}{route.path}"
            found = trail()
            if refused:
                (event,) = found
                assert (event.outcome, event.status) == (Outcome.FAILURE, answer.status_code)
                assert (event.initiator.name == "eve") == (answer.status_code == 403 and bool(sent))


@pytest.mark.weakness(770)
def test_a_flood_of_strangers_does_not_fill_the_trail(
    client: TestClient, cloud: ControlPlane, log_in: Callable[..., dict[str, Any]], trail: Callable[[], list[Event]]
) -> None:
    for n in range(4 * MOST_OF_ONE):
        if n % 2:
            client.post("/identity/v3/auth/tokens", json=log_in("admin", password="wrong"))
        else:
            client.delete("/compute/v2.1/servers/x")
    assert len(trail()) == MOST_OF_ONE
    cloud.clock.sleep(WINDOW)
    client.get("/compute/v2.1/servers")
    (event,) = trail()
    assert event.more == {"left_out": 3 * MOST_OF_ONE}


def test_who_logged_in_is_told(
    client: TestClient, log_in: Callable[..., dict[str, Any]], user_ids: dict[str, str], trail: Callable[[], list[Event]]
) -> None:
    answer = client.post("/identity/v3/auth/tokens", json=log_in("demo"), headers={"User-Agent": "a client"})
    assert answer.status_code == 201
    (event,) = trail()
    assert (event.action, event.outcome, event.status) == ("authenticate/identity:authenticate", Outcome.SUCCESS, 201)
    assert (event.initiator.id, event.initiator.name, event.initiator.agent) == (user_ids["demo"], "demo", "a client")


@pytest.mark.parametrize(
    ("path", "body", "kind", "found"),
    [
        ("/identity/v3/projects", {"project": {"name": "new"}}, "service/identity/projects", lambda b: b["project"]["id"]),
        ("/image/v2/images", {"name": "i"}, "service/image/images", lambda b: b["id"]),
        ("/compute/v2.1/os-aggregates", {"aggregate": {"name": "a"}}, "service/compute/os-aggregates", lambda b: str(b["aggregate"]["id"])),
        ("/fleet/v1/tokens", {}, "service/fleet/tokens", lambda b: b["token"]["id"]),
    ],
)
def test_what_was_made_is_named(
    client: TestClient, headers: Headers, trail: Callable[[], list[Event]], path: str, body: Any, kind: str, found: Callable[[Any], str]
) -> None:
    answer = client.post(path, json=body, headers=headers("admin"))
    assert answer.status_code < 300, answer.text
    (event,) = trail()
    assert (event.target.kind, event.target.id) == (kind, found(answer.json()))
    assert event.target.of is None
    assert event.path == path


def test_an_object_of_an_object_is_found_by_either(client: TestClient, headers: Headers, trail: Callable[[], list[Event]]) -> None:
    sent = headers("demo") | {"OpenStack-API-Version": "compute 2.96"}
    client.delete(f"/compute/v2.1/servers/{MISSING}/tags/t%0Aforged?password=x", headers=sent)
    (event,) = trail()
    assert (event.target.id, event.target.of) == ("t\nforged", MISSING)
    assert event.path == f"/compute/v2.1/servers/{MISSING}/tags/t%0Aforged"


@pytest.mark.parametrize(
    ("said", "action"),
    [
        ({"os-stop": None}, "update/os_compute_api:servers:action/os-stop"),
        ({"changePassword": {"adminPass": "x"}}, "update/os_compute_api:servers:action/changePassword"),
        ({"a secret": None}, "update/os_compute_api:servers:action"),
        ({"os-stop": None, "os-start": None}, "update/os_compute_api:servers:action"),
        ([], "update/os_compute_api:servers:action"),
    ],
)
def test_an_action_is_named_and_nothing_else_of_a_body(
    client: TestClient, headers: Headers, trail: Callable[[], list[Event]], said: Any, action: str
) -> None:
    client.post(f"/compute/v2.1/servers/{MISSING}/action", json=said, headers=headers("demo"))
    (event,) = trail()
    assert (event.action, event.target.id) == (action, MISSING)


def test_where_a_path_leads_nowhere_it_is_not_kept(client: TestClient, headers: Headers, trail: Callable[[], list[Event]]) -> None:
    assert client.post("/compute/v2.1/a-token-by-mistake", headers=headers("demo")).status_code == 404
    (event,) = trail()
    assert (event.action, event.path, event.target.kind) == ("unknown", "/compute/v2.1", "service/compute")


GLOBAL = "req-0f3b1c52-6a3e-4d0e-9e55-1a1c4e9f7a10"


@pytest.mark.parametrize("said", [GLOBAL, GLOBAL.upper(), GLOBAL + " x", f"x{GLOBAL}", "req-1", GLOBAL.removeprefix("req-"), ""])
def test_the_global_request_id_is_recorded_where_it_is_one(
    client: TestClient, headers: Headers, trail: Callable[[], list[Event]], said: str
) -> None:
    answer = client.delete(f"/compute/v2.1/servers/{MISSING}", headers=headers("demo") | {"X-OpenStack-Request-ID": said})
    (event,) = trail()
    assert event.global_request_id == (GLOBAL if said == GLOBAL else None)
    assert event.request_id == answer.headers["X-Openstack-Request-Id"] != said


def test_an_answer_stands_where_its_outcome_cannot_be_recorded(
    client: TestClient,
    headers: Headers,
    trail: Callable[[], list[Event]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The change has its record, pending: they were one commit."""
    record = audit.record

    def refuse(tx: Any, event: Event) -> None:
        if event.outcome is not Outcome.PENDING:
            raise Unavailable("The disk is full.")
        record(tx, event)

    monkeypatch.setattr(audit, "record", refuse)
    sent = headers("admin")
    assert client.post("/image/v2/images", json={"name": "i"}, headers=sent).status_code == 201
    (event,) = trail()
    assert (event.outcome, event.status, event.initiator.name) == (Outcome.PENDING, None, "admin")
    assert "how a request ended is not in the audit trail" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- secrets


@pytest.mark.weakness(532)
def test_no_secret_is_in_the_trail(
    client: TestClient, cloud: ControlPlane, headers: Headers, log_in: Callable[..., dict[str, Any]], user_ids: dict[str, str]
) -> None:
    canary = "c4n4ry-0123456789"
    sent = headers("admin")
    answer = client.post("/identity/v3/auth/tokens", json=log_in("admin"))
    secrets = [*PASSWORDS.values(), canary, sent["X-Auth-Token"], answer.headers["X-Subject-Token"]]
    with_token = sent | {"X-Subject-Token": secrets[-1]}
    client.delete(f"/identity/v3/auth/tokens?token={secrets[-1]}", headers=with_token)
    client.post("/identity/v3/auth/tokens", json=log_in("admin", password=canary))
    client.post("/identity/v3/users", json={"user": {"name": "new", "password": canary}}, headers=sent)
    user = f"/identity/v3/users/{user_ids['admin']}"
    client.post(f"{user}/password", json={"user": {"password": canary, "original_password": canary}}, headers=sent)
    credentials = f"{user}/application_credentials"
    made = client.post(credentials, json={"application_credential": {"name": "a", "secret": canary}}, headers=sent)
    drawn = client.post(credentials, json={"application_credential": {"name": "b"}}, headers=sent)
    assert made.status_code == drawn.status_code == 201, drawn.text
    secrets.append(drawn.json()["application_credential"]["secret"])
    secrets.append(client.post("/fleet/v1/tokens", json={}, headers=sent).json()["token"]["secret"])
    client.post("/agents/v1/enrol", json={"token": secrets[-1], "host": "h", "request": canary})
    client.post("/compute/v2.1/servers", json={"server": {"name": "s", "user_data": canary, "adminPass": canary}}, headers=sent)
    client.post(f"/compute/v2.1/servers/{MISSING}/action", json={"changePassword": {"adminPass": canary}}, headers=sent)
    client.post(f"/compute/v2.1/servers/{MISSING}/action", json={canary: None}, headers=sent)
    client.post(f"/compute/v2.1/{canary}", headers=sent)
    told = client.get("/fleet/v1/audit", headers=sent).text
    with cloud.db.read() as tx:
        rows = json.dumps([list(row) for row in tx.exec_driver_sql("SELECT * FROM audit_events")])
    assert len(json.loads(told)["events"]) >= 12
    for secret in secrets:
        assert secret not in told
        assert secret not in rows


# ---------------------------------------------------------------------------------------------------- the Fleet API


def test_the_trail_is_the_administrators(client: TestClient, headers: Headers) -> None:
    assert client.get("/fleet/v1/audit", headers=headers("demo")).status_code == 403


def test_the_trail_is_asked_for_in_pages(client: TestClient, headers: Headers, cloud: ControlPlane) -> None:
    sent = headers("admin")
    for name in "abc":
        client.post("/image/v2/images", json={"name": name}, headers=sent)
        cloud.clock.sleep(60)
    first = client.get("/fleet/v1/audit?limit=2&user=admin", headers=sent).json()
    rest = client.get(f"/fleet/v1/audit?limit=2&user=admin&marker={first['next']}", headers=sent).json()
    assert (len(first["events"]), len(rest["events"]), rest["next"]) == (2, 1, None)
    oldest = client.get("/fleet/v1/audit?sort_dir=asc&limit=1", headers=sent).json()["events"]
    assert oldest == rest["events"]
    since = client.get("/fleet/v1/audit", params={"since": first["events"][1]["eventTime"]}, headers=sent).json()["events"]
    assert since == first["events"]
    assert client.get("/fleet/v1/audit?limit=0", headers=sent).json() == {"events": [], "next": None}


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "until=x", "outcome=maybe", "limit=-1", "limit=x", "marker=ü", "sort_dir=up", "since=9999999999999", "user=%00"],
)
def test_a_nonsense_question_is_the_callers_fault(client: TestClient, headers: Headers, query: str) -> None:
    answer = client.get(f"/fleet/v1/audit?{query}", headers=headers("admin"))
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]["message"] or "%00" in query
