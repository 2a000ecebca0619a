"""What is done to hosts is seen at servers: where new ones go, and how the hosts of old ones are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import Call

Boot = Callable[..., str]


def change(call: Call, host: str, **said: Any) -> None:
    """Update a host's service."""
    (service,) = call("GET", f"/os-services?host={host}", user="admin").json()["services"]
    assert call("PUT", f"/os-services/{service['id']}", said, user="admin").status_code == 200


def shown(call: Call, server_id: str) -> dict[str, Any]:
    found: dict[str, Any] = call("GET", f"/servers/{server_id}", user="admin").json()["server"]
    return found


@pytest.mark.parametrize(
    ("said", "back"), [({"status": "disabled"}, {"status": "enabled"}), ({"forced_down": True}, {"forced_down": False})]
)
def test_a_host_out_of_service_is_given_no_server(call: Call, boot: Boot, said: dict[str, Any], back: dict[str, Any]) -> None:
    change(call, "host1", **said)
    assert {shown(call, boot())["OS-EXT-SRV-ATTR:host"] for _ in range(4)} == {"host2"}
    refused = shown(call, boot("admin", host="host1"))
    assert refused["status"] == "ERROR"
    assert "host1" in refused["fault"]["message"]
    change(call, "host1", **back)
    assert shown(call, boot("admin", host="host1"))["OS-EXT-SRV-ATTR:host"] == "host1"


def test_a_silent_host_is_given_no_server(call: Call, boot: Boot, world: World) -> None:
    world.clock.sleep(world.plane.settings.service_down + 1)
    failed = shown(call, boot())
    assert failed["status"] == "ERROR"
    assert "No valid host was found." in failed["fault"]["message"]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, "UP"),
        ({"status": "disabled"}, "MAINTENANCE"),
        ({"forced_down": True}, "DOWN"),
        ({"status": "disabled", "forced_down": True}, "DOWN"),
    ],
)
def test_a_server_shows_how_its_host_is(call: Call, boot: Boot, said: dict[str, Any], status: str) -> None:
    server_id = boot("admin", host="host1")
    if said:
        change(call, "host1", **said)
    assert shown(call, server_id)["host_status"] == status
    (listed,) = call("GET", "/servers/detail?all_tenants=1", user="admin").json()["servers"]
    assert listed["host_status"] == status


def test_nobody_knows_how_a_silent_host_is(call: Call, boot: Boot, world: World) -> None:
    placed, lost = boot(), boot(flavorRef="huge")
    world.clock.sleep(world.plane.settings.service_down + 1)
    assert shown(call, placed)["host_status"] == "UNKNOWN"
    assert shown(call, lost)["host_status"] == ""


def test_servers_count_against_what_is_shown_of_a_project(call: Call, boot: Boot, world: World) -> None:
    before = call("GET", "/limits").json()["limits"]["absolute"]
    server_id = boot()
    absolute = call("GET", "/limits").json()["limits"]["absolute"]
    changed = {name: absolute[name] - before[name] for name in before if absolute[name] != before[name]}
    assert changed == {"totalInstancesUsed": 1, "totalCoresUsed": 1, "totalRAMUsed": 64}
    quota = call("GET", "/os-quota-sets/demo/detail", user="admin").json()["quota_set"]
    assert quota["instances"] == {"limit": -1, "in_use": 0, "reserved": 0}  # a project's id is asked for, not its name
    project_id = shown(call, server_id)["tenant_id"]
    quota = call("GET", f"/os-quota-sets/{project_id}/detail").json()["quota_set"]
    assert (quota["id"], quota["instances"]["in_use"], quota["ram"]["in_use"]) == (project_id, 1, 64)
    assert call("GET", f"/os-quota-sets/{project_id}").json()["quota_set"]["cores"] == -1
    call("DELETE", f"/servers/{server_id}")
    world.settle()
    assert call("GET", "/limits").json()["limits"]["absolute"] == before


@pytest.mark.parametrize(("version", "name", "there"), [("2.35", "maxTotalFloatingIps", True), ("2.36", "maxTotalFloatingIps", False)])
def test_limits_of_networks_went_with_a_version(call: Call, version: str, name: str, there: bool) -> None:
    assert (name in call("GET", "/limits", version=version).json()["limits"]["absolute"]) == there
