"""The call that plans defragmentation: who may ask, for what, and what an empty fleet is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from lamina.api import fleet, identity
from lamina.api.application import application
from lamina.model.flavors import Flavor
from lamina.operations.control_plane import ControlPlane
from lamina.store import flavors

URL = "/fleet/v1/defragmentation/plan"
Headers = Callable[..., dict[str, str]]


@pytest.fixture
def client(cloud: ControlPlane) -> Iterator[TestClient]:
    with cloud.db.write() as tx:
        flavors.create(tx, Flavor("an-id", "large", 1, 512, 1, extra_specs={"resources:VGPU": "1"}))
    with TestClient(application(cloud, (identity.ROOM, fleet.ROOM))) as client:
        yield client


@pytest.mark.parametrize("body", [{"flavor": "large", "count": 3}, {"flavor": "an-id", "count": 3, "most_moves": 1}])
def test_a_flavor_is_found_by_name_and_by_id(client: TestClient, headers: Headers, body: dict[str, Any]) -> None:
    answer = client.post(URL, json=body, headers=headers("admin"))
    assert answer.status_code == 200, answer.text
    nothing = {"free_mb": 0, "useless_mb": 0, "fragmentation": 0.0, "fits": 0}
    told = {"flavor": "large", "count": 3, "before": nothing, "after": nothing, "framebuffer_mb": 0, "stun_seconds": 0, "moves": []}
    assert answer.json() == {"plan": told}


def test_lowering_counts_nothing(client: TestClient, headers: Headers) -> None:
    plan = client.post(URL, json={"lower": True, "only_stopped": True}, headers=headers("admin")).json()["plan"]
    assert (plan["flavor"], plan["count"], plan["before"]["fits"]) == (None, None, None)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "either a flavor"),
        ({"flavor": "large", "lower": True}, "either a flavor"),
        ({"lower": True, "count": 1}, "count: it goes with a flavor"),
        ({"flavor": "x"}, "flavor: there is no flavor with the id or the name 'x'"),
        ({"flavor": "large", "count": 0}, "count"),
        ({"lower": True, "most_moves": 1001}, "most_moves"),
        ({"lower": True, "more": 1}, "more"),
    ],
)
def test_what_is_wrong_is_told(client: TestClient, headers: Headers, body: dict[str, Any], why: str) -> None:
    answer = client.post(URL, json=body, headers=headers("admin"))
    assert answer.status_code == 400
    assert why in answer.json()["error"]["message"]


def test_it_is_for_administrators(client: TestClient, headers: Headers) -> None:
    assert client.post(URL, json={"lower": True}, headers=headers("demo")).status_code == 403
    assert client.post(URL, json={"lower": True}).status_code == 401
