"""The published documents against the route tables, the tables against what handlers do, and both against what is checked in.

``python -m tests.unit.test_openapi`` writes ``docs/openapi`` anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lamina.api import agents, openapi
from lamina.api.application import application
from lamina.api.rooms import ROOMS
from lamina.api.routing import Room
from lamina.operations.control_plane import ControlPlane
from tests.unit.api.handlers import facts_of

KEPT = Path(__file__).parents[2] / "docs" / "openapi"
EVERY_ROOM = (*ROOMS, agents.ROOM)
of_every_room = pytest.mark.parametrize("room", EVERY_ROOM, ids=lambda room: room.name)


def written(room: Room) -> str:
    return json.dumps(openapi.document(room), indent=1, sort_keys=True) + "\n"


@of_every_room
@pytest.mark.weakness(1059)
def test_a_change_of_the_surface_shows_in_what_is_kept(room: Room) -> None:
    kept = (KEPT / f"{room.name}.json").read_text()
    assert kept == written(room), "write it anew with: python -m tests.unit.test_openapi"


def test_nothing_is_kept_of_an_api_that_there_is_not() -> None:
    assert {path.stem for path in KEPT.glob("*.json")} == {room.name for room in EVERY_ROOM}


@of_every_room
@pytest.mark.weakness(1059)
def test_the_document_has_the_calls_that_are_served_and_no_others(room: Room) -> None:
    paths = openapi.document(room)["paths"]
    told = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    base, above = openapi.based(room)
    assert told == {(route.method, above + route.path or "/") for route in room.routes}
    assert {base.rstrip("/") + path for _, path in told} <= {room.prefix + route.path for route in room.routes}
    for path, operations in paths.items():
        for operation in operations.values():
            named = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
            assert named == re.findall(r"\{([^}]+)\}", path)


@of_every_room
@pytest.mark.weakness(1059)
def test_the_tables_say_what_handlers_do(room: Room) -> None:
    """Which bodies are decoded, which parameters are looked at, how is answered: read from the handlers' sources."""
    for route in room.routes:
        done = facts_of(route.handler)
        call = f"{room.name} {route.method} {route.path}"
        assert done.bodies - {object} == set(route.takes), f"{call}: takes"
        assert {status for status in done.statuses if status < 400} == set(route.gives), f"{call}: gives"
        assert not done.refuses or 501 in route.refuses, f"{call}: refuses"
        if route.method == "GET":
            assert done.query <= set(route.query), f"{call}: query"


def test_it_is_served_to_everybody(plane: ControlPlane) -> None:
    with TestClient(application(plane, ROOMS)) as client:
        for room in EVERY_ROOM:
            assert client.get(f"/openapi/{room.name}").json() == openapi.document(room)
        assert client.get("/openapi/nothing").status_code == 404


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for room in EVERY_ROOM:
        (KEPT / f"{room.name}.json").write_text(written(room))
