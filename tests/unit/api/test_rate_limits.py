"""Who is counted with whom, what a request costs, and what the one too many is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from lamina.api import agents, rate_limits
from lamina.api.application import application
from lamina.api.rate_limits import READ, WRITE, RateLimits, network_of
from lamina.api.rooms import ROOMS
from lamina.api.routing import Context
from lamina.model.errors import TooManyRequests
from lamina.model.rates import Rate
from lamina.operations.control_plane import ControlPlane

pytestmark = pytest.mark.weakness(770)

Headers = Callable[..., dict[str, str]]
RATE = Rate(per_second=2, burst=20)
NOW = 1_800_000_000.0


@pytest.fixture
def slow(cloud: ControlPlane) -> ControlPlane:
    return dataclasses.replace(cloud, settings=dataclasses.replace(cloud.settings, rate_limit=RATE))


@pytest.fixture
def client(slow: ControlPlane) -> Iterator[TestClient]:
    with TestClient(application(slow, ROOMS)) as client:
        yield client


def test_of_many_requests_the_burst_passes_and_the_rest_is_429(client: TestClient, slow: ControlPlane, headers: Headers) -> None:
    sent = headers("demo")
    answers = [client.get("/image/v2/images", headers=sent) for _ in range(50)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429] * 30
    assert answers[-1].headers["Retry-After"] == "1"
    assert "This project asks more often than it may" in answers[-1].json()["message"]
    slow.clock.sleep(3)
    assert [client.get("/image/v2/images", headers=sent).status_code for _ in range(8)] == [200] * 6 + [429] * 2


def test_a_change_costs_more_than_a_look_and_one_that_is_refused_too(client: TestClient, headers: Headers) -> None:
    sent = headers("demo")
    codes = [client.post("/image/v2/images", headers=sent, content=b"{").status_code for _ in range(5)]
    assert codes == [400] * (20 // WRITE) + [429]
    assert client.get("/image/v2/images", headers=sent).headers["Retry-After"] == "1"
    assert WRITE > READ


def test_one_project_takes_nothing_from_another_but_its_users_share(
    client: TestClient, headers: Headers, stranger: Callable[..., str]
) -> None:
    stranger("eve")
    stranger("friend", project="demo")
    for _ in range(20):
        assert client.get("/image/v2/images", headers=headers("demo")).status_code == 200
    assert client.get("/image/v2/images", headers=headers("demo")).status_code == 429, "a new token is a way round"
    assert client.get("/image/v2/images", headers=headers("friend", target=project_of(client, headers))).status_code == 429
    assert client.get("/image/v2/images", headers=headers("eve")).status_code == 200
    assert client.get("/healthz").status_code == 200


def project_of(client: TestClient, headers: Headers) -> str:
    (demo,) = client.get("/identity/v3/projects?name=demo", headers=headers("admin")).json()["projects"]
    found: str = demo["id"]
    return found


def test_a_user_without_a_project_is_counted_alone(client: TestClient, headers: Headers) -> None:
    alone = headers("demo", target=None)
    codes = {client.get("/identity/v3/auth/projects", headers=alone).status_code for _ in range(20)}
    assert codes == {200}
    refused = client.get("/identity/v3/auth/projects", headers=alone)
    assert (refused.status_code, refused.json()["error"]["title"]) == (429, "Too Many Requests")
    assert client.get("/image/v2/images", headers=headers("demo")).status_code == 200


def test_who_shows_no_good_token_is_counted_by_address_whatever_headers_say(client: TestClient) -> None:
    seen = []
    for number in range(24):
        spoofed = {"X-Forwarded-For": f"192.0.2.{number}", "Forwarded": f"for=192.0.2.{number}", "X-Project-Id": f"p{number}"}
        token = {"X-Auth-Token": f"guess {number}"} if number % 2 else {}
        seen.append(client.get("/compute/v2.1/servers", headers=spoofed | token).status_code)
    assert seen == [401] * 20 + [429] * 4
    assert client.get("/healthz").status_code == 429
    assert client.post("/identity/v3/auth/tokens", json={}).status_code == 429


def test_a_host_that_dials_in_is_not_counted() -> None:
    limits = RateLimits(Rate(1, 1))
    for _ in range(100):
        limits.count(Context("r", host="one"), "127.0.0.1", "POST", NOW)


def test_the_listener_of_the_hosts_counts_who_has_no_certificate(slow: ControlPlane) -> None:
    with TestClient(application(slow, (agents.ROOM,))) as client:
        codes = [client.post("/agents/v1/poll", content=b"{}").status_code for _ in range(6)]
    assert codes == [401] * 4 + [429] * 2


def test_no_limit_counts_nothing() -> None:
    limits = RateLimits(None)
    for _ in range(1000):
        limits.count(Context("r"), "127.0.0.1", "POST", NOW)


def test_a_flood_of_addresses_is_bounded_and_forgets_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MOST_KEPT", 10)
    limits, project = RateLimits(Rate(1, 1)), Context("r", user_id="u", project_id="p")
    limits.count(project, "127.0.0.1", "GET", NOW)
    for number in range(100):
        limits.count(Context("r"), f"192.0.2.{number}", "GET", NOW)
    assert limits._addresses is not None
    assert len(limits._addresses) == 10
    with pytest.raises(TooManyRequests):
        limits.count(project, "127.0.0.1", "GET", NOW)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_the_network_of_an_address_is_its_owner(address: str, network: str) -> None:
    assert network_of(address) == network
