"""429 in the shape of every API, with the time after which to ask again."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from lamina.api import agents
from lamina.api.application import application
from lamina.api.rooms import ROOMS
from lamina.api.routing import Reply, Request, Room, Route
from lamina.model.errors import TooManyRequests
from lamina.operations.control_plane import ControlPlane

SENTENCE = "Asked too often; ask again in 3 seconds."


def refuse(request: Request) -> Reply:
    raise TooManyRequests(SENTENCE, 2.25, user="not for the caller")


def asked(plane: ControlPlane, room: Room) -> Any:
    one = Room("one", "/one", (Route("GET", "", refuse, "one:refuse", "@", public=True),), room.fault)
    return TestClient(application(plane, (one,))).get("/one")


@pytest.mark.parametrize("room", [*ROOMS, agents.ROOM], ids=lambda room: room.name)
@pytest.mark.weakness(770)
def test_every_api_says_when_to_ask_again(plane: ControlPlane, room: Room) -> None:
    answer = asked(plane, room)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "3"  # whole seconds, never sooner than it is worth it
    assert SENTENCE in answer.text
    assert "not for the caller" not in answer.text


def test_the_shapes_are_those_of_nova_keystone_placement_and_the_others(plane: ControlPlane) -> None:
    shapes = {room.name: asked(plane, room).json() for room in ROOMS}
    assert shapes["compute"] == {"overLimit": {"code": 429, "message": SENTENCE, "retryAfter": "3"}}
    assert shapes["identity"] == {"error": {"code": 429, "message": SENTENCE, "title": "Too Many Requests"}}
    told = shapes["placement"]["errors"][0]
    assert (told["status"], told["title"], told["detail"]) == (429, "Too Many Requests", SENTENCE)
    assert shapes["network"]["NeutronError"]["type"] == "TooManyRequests"
    assert shapes["image"]["code"] == "429 Too Many Requests"
    assert shapes["fleet"]["error"]["code"] == "lamina.too_many_requests"
