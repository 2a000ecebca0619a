"""Headers of every answer: of each room, of a refusal, of what is not there, over TLS and without it."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from starlette.testclient import TestClient

from lamina.api.application import application
from lamina.api.rooms import ROOMS
from lamina.operations.control_plane import ControlPlane

EXPECTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


def answers(client: TestClient, token: dict[str, str]) -> list[httpx.Response]:
    """Of every route, of every way in which there is none, and of one that cannot be read."""
    asked = [(route.method, room.prefix + route.path, token) for room in ROOMS for route in room.routes if room.name != "identity"]
    asked += [("GET", "/nowhere", token), ("GET", "/compute/v2.1/nowhere", {}), ("TRACE", "/", {}), ("OPTIONS", "/healthz", {})]
    return [client.request(method, path, headers=headers, content=b"{") for method, path, headers in asked]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.weakness(693)
@pytest.mark.weakness(525)
def test_every_answer_has_them(cloud: ControlPlane, headers: Callable[..., dict[str, str]], scheme: str) -> None:
    with TestClient(application(cloud, ROOMS), base_url=f"{scheme}://lamina") as client:
        seen = answers(client, headers("demo"))
    assert len({answer.status_code for answer in seen}) >= 6, "several kinds of answers are wanted"
    for answer in seen:
        assert {name: answer.headers.get(name) for name in EXPECTED} == EXPECTED, answer.request
        assert answer.headers.get_list("cache-control") in (["no-store"], ["no-cache"]), answer.url
        assert ("strict-transport-security" in answer.headers) == (scheme == "https")
        assert "server" not in answer.headers


@pytest.mark.weakness(525)
def test_a_token_is_never_kept(client: TestClient, log_in: Callable[..., object]) -> None:
    answer = client.post("/identity/v3/auth/tokens", json=log_in("demo"))
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
