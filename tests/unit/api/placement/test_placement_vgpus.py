"""Allocations that vGPUs on a host are paid for with."""

from __future__ import annotations

from typing import Any

import pytest
from tests.faults.desk import Desk
from tests.faults.world import ONE, World
from tests.unit.api.placement.conftest import CONSUMER, Call, holding

from lamina.model.servers import Server
from lamina.operations.control_plane import ControlPlane
from lamina.store.bootstrap import bootstrap


@pytest.fixture
def world(desk: Desk) -> World:
    world = World.on(desk, "mdev")
    with world.plane.db.write() as tx:
        bootstrap(tx, "admin's secret", "demo's secret", world.clock.now())
    return world


@pytest.fixture
def cloud(world: World) -> ControlPlane:
    return world.plane


@pytest.fixture
def server(world: World) -> Server:
    """One with a vGPU, at rest."""
    return world.created(ONE)


@pytest.mark.parametrize("way", ["delete", "put nothing", "post nothing", "reshape"])
@pytest.mark.weakness(664)
def test_a_consumer_with_vgpus_does_not_give_up_what_pays_for_them(call: Call, server: Server, world: World, way: str) -> None:
    held = call("GET", f"/allocations/{server.id}").json()
    nothing: dict[str, Any] = {name: held[name] for name in ("project_id", "user_id", "consumer_generation", "consumer_type")}
    nothing["allocations"] = {}
    if way == "delete":
        answer = call("DELETE", f"/allocations/{server.id}")
    elif way == "put nothing":
        answer = call("PUT", f"/allocations/{server.id}", nothing)
    elif way == "post nothing":
        answer = call("POST", "/allocations", {server.id: nothing})
    else:
        answer = call("POST", "/reshaper", {"inventories": {}, "allocations": {server.id: nothing}})
    assert answer.status_code == 409
    assert f"delete server {server.id}" in answer.json()["errors"][0]["detail"]
    assert call("GET", f"/allocations/{server.id}").json() == held
    world.check()


def test_one_without_vgpus_does(call: Call, world: World) -> None:
    consumer, provider = CONSUMER, call("GET", "/resource_providers").json()["resource_providers"][0]["uuid"]
    assert call("PUT", f"/allocations/{consumer}", holding({provider: {"VCPU": 1}})).status_code == 204
    assert call("DELETE", f"/allocations/{consumer}").status_code == 204
