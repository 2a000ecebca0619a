"""What holds for every route of the identity, image and network rooms; the routes are read from the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from lamina.api import identity, image, network
from lamina.api.application import application
from lamina.api.routing import Route
from lamina.operations.control_plane import ControlPlane

ROOMS = (identity.ROOM, identity.VERSIONS, image.ROOM, image.VERSIONS, network.ROOM, network.VERSIONS)
ROUTES = [(room, route) for room in ROOMS for route in room.routes]

#: open to all, and nothing else is
PUBLIC = {
    ("GET", "/identity"),
    ("GET", "/identity/"),
    ("GET", "/identity/v3"),
    ("GET", "/identity/v3/"),
    ("POST", "/identity/v3/auth/tokens"),
    ("GET", "/image"),
    ("GET", "/image/"),
    ("GET", "/image/v2"),
    ("GET", "/image/v2/"),
    ("GET", "/network"),
    ("GET", "/network/"),
}

Headers = Callable[..., dict[str, str]]


@pytest.mark.weakness(306)
def test_the_public_routes_are_the_listed_ones() -> None:
    assert {(route.method, room.prefix + route.path) for room, route in ROUTES if route.public} == PUBLIC


@pytest.mark.parametrize("token", [None, "", "nonsense", "ä" * 300])
@pytest.mark.weakness(306)
def test_nothing_is_answered_without_a_token(client: TestClient, token: str | None) -> None:
    sent = {} if token is None else {"X-Auth-Token": token.encode("latin-1")}
    for room, route in ROUTES:
        answer = client.request(route.method, room.prefix + route.path, headers=sent, content=b"{}")
        assert (answer.status_code == 401) == (not route.public), f"{route.method} {room.prefix}{route.path}"


@pytest.mark.parametrize("prefix", sorted({room.prefix for room in ROOMS}))
def test_an_unknown_path_is_told_to_holders_of_a_token_only(client: TestClient, headers: Headers, prefix: str) -> None:
    assert client.get(f"{prefix}/no/such/path").status_code == 401
    assert client.get(f"{prefix}/no/such/path", headers=headers("demo")).status_code == 404


def test_every_refusal_has_the_shape_of_its_api(client: TestClient) -> None:
    for room, route in ROUTES:
        answer = client.request("OPTIONS", room.prefix + route.path)
        assert answer.status_code == 405
        body = answer.json()
        shapes: dict[str, Any] = {"identity": body.get("error"), "image": body, "network": body.get("NeutronError")}
        assert shapes[room.name.split("-")[0]]["message"] == "The method OPTIONS is not allowed for this resource."
        assert answer.headers["X-Openstack-Request-Id"].startswith("req-")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"7", b'"x"', b'{"a":' * 5000, b"\xff\xfe", b'{"user": null}'])
def test_a_nonsense_body_is_the_callers_fault(
    client: TestClient, headers: Headers, user_ids: dict[str, str], content: bytes
) -> None:
    sent = headers("admin")
    for room, route in ROUTES:
        if route.method not in {"POST", "PATCH"} or room is network.ROOM or "member" in route.path:
            continue
        kind = {"Content-Type": "application/openstack-images-v2.1-json-patch"} if route.method == "PATCH" else {}
        path = room.prefix + route.path.replace("{user_id}", user_ids["admin"])
        answer = client.request(route.method, path, headers=sent | kind, content=content)
        # an empty patch is a patch; what it is about is not there
        empty_patch = room is image.ROOM and route.method == "PATCH" and content == b"[]"
        assert answer.status_code == (404 if empty_patch else 400), f"{route.method} {path}: {answer.text}"


@pytest.mark.parametrize("address", ["/identity/v3/users/%00", "/identity/v3/users?name=x%00", "/image/v2/images?%00=x"])
@pytest.mark.weakness(158)
def test_an_address_with_nul_is_the_callers_fault(client: TestClient, headers: Headers, address: str) -> None:
    """PostgreSQL has no place for that character, and would say so with an error of its own."""
    assert client.get(address).status_code == 401
    assert client.get(address, headers=headers("admin")).status_code == 400


@pytest.mark.weakness(862)
def test_a_route_without_a_rule_is_not_served(cloud: ControlPlane) -> None:
    bare = dataclasses.replace(network.VERSIONS, routes=(Route("GET", "/bare", network.versions, ""),))
    with pytest.raises(ValueError, match="no policy rule"):
        application(cloud, [bare])


@pytest.mark.weakness(674)
def test_a_body_that_is_nested_too_deep_is_told_so(client: TestClient, headers: Headers) -> None:
    for depth, told in ((32, False), (33, True), (5000, True)):
        body = b'{"auth":' * depth + b"1" + b"}" * depth
        answer = client.post("/identity/v3/auth/tokens", content=body)
        assert answer.status_code == 400
        assert ("within each other more than 32 deep" in answer.json()["error"]["message"]) == told
