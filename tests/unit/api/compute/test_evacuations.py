"""Evacuations as each version of the Compute API asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import MISSING, Call, why

Boot = Callable[..., str]


def hosts_of(call: Call, server_id: str) -> tuple[str, str]:
    """The server's host, and the other one."""
    here = call("GET", f"/servers/{server_id}", user="admin").json()["server"]["OS-EXT-SRV-ATTR:host"]
    return here, {"host1": "host2", "host2": "host1"}[here]


def call_down(call: Call, host: str) -> None:
    (service,) = call("GET", f"/os-services?host={host}", user="admin").json()["services"]
    assert call("PUT", f"/os-services/{service['id']}", {"forced_down": True}, user="admin").status_code == 200


def evacuate(call: Call, server_id: str, version: str = "2.96", user: str = "admin", **said: Any) -> httpx.Response:
    return call("POST", f"/servers/{server_id}/action", {"evacuate": said}, user=user, version=version)


@pytest.fixture
def server_id(call: Call, boot: Boot) -> str:
    """Of a server whose host has been called down."""
    made = boot(flavorRef="vgpu")
    call_down(call, hosts_of(call, made)[0])
    return made


@pytest.mark.parametrize(
    ("version", "said", "answered", "status"),
    [
        ("2.1", {"onSharedStorage": "False"}, {}, "ACTIVE"),
        ("2.13", {"onSharedStorage": False, "adminPass": "secret"}, {}, "ACTIVE"),
        ("2.14", {"adminPass": "secret"}, None, "ACTIVE"),
        ("2.29", {"force": False}, None, "ACTIVE"),
        ("2.68", {}, None, "ACTIVE"),
        ("2.94", {"host": None}, None, "ACTIVE"),
        ("2.95", {}, None, "SHUTOFF"),
    ],
)
def test_each_version_has_its_words(
    call: Call, world: World, server_id: str, version: str, said: dict[str, Any], answered: Any, status: str
) -> None:
    source, target = hosts_of(call, server_id)
    answer = evacuate(call, server_id, version, **said)
    assert answer.status_code == 200, answer.text
    assert (answer.json() if answer.content else None) == answered
    busy = call("GET", f"/servers/{server_id}").json()["server"]
    assert (busy["status"], busy["OS-EXT-STS:task_state"]) == ("REBUILD", "rebuilding")
    world.settle()
    assert hosts_of(call, server_id) == (target, source)
    assert call("GET", f"/servers/{server_id}").json()["server"]["status"] == status


@pytest.mark.parametrize(("version", "force"), [("2.1", None), ("2.14", None), ("2.29", True), ("2.67", "false"), ("2.96", None)])
def test_a_host_may_be_named(call: Call, world: World, server_id: str, version: str, force: Any) -> None:
    source, target = hosts_of(call, server_id)
    said = {"host": target} | ({"onSharedStorage": False} if version == "2.1" else {}) | ({"force": force} if force is not None else {})
    assert evacuate(call, server_id, version, **said).status_code == 200
    world.settle()
    assert hosts_of(call, server_id) == (target, source)


@pytest.mark.parametrize(
    ("version", "said", "sentence"),
    [
        ("2.13", {}, "onSharedStorage"),
        ("2.13", {"onSharedStorage": "maybe"}, "onSharedStorage"),
        ("2.13", {"onSharedStorage": True}, "none is shared"),
        ("2.14", {"onSharedStorage": False}, "onSharedStorage"),
        ("2.28", {"force": True}, "force"),
        ("2.29", {"force": True}, "Can't force to a non-provided destination"),
        ("2.29", {"force": "perhaps", "host": "host1"}, "force"),
        ("2.68", {"force": False}, "force"),
        ("2.96", {"host": 7}, "host"),
        ("2.96", {"adminPass": None}, "adminPass"),
        ("2.96", {"colour": "red"}, "colour"),
    ],
)
def test_what_a_version_does_not_have_is_refused(
    call: Call, server_id: str, version: str, said: dict[str, Any], sentence: str
) -> None:
    code, message = why(evacuate(call, server_id, version, **said))
    assert code == 400
    assert sentence in message
    assert call("GET", f"/servers/{server_id}").json()["server"]["OS-EXT-STS:task_state"] is None


def test_only_what_is_on_a_host_that_is_down_can_be_evacuated(call: Call, boot: Boot) -> None:
    server_id = boot(flavorRef="vgpu")
    source, target = hosts_of(call, server_id)
    assert why(evacuate(call, server_id)) == (400, f"Compute service of {source} is still in use.")
    call_down(call, source)
    assert why(evacuate(call, server_id, host=source)) == (400, "The target host can't be the same one.")
    assert why(evacuate(call, server_id, host="nowhere")) == (404, "Compute host nowhere not found.")
    assert why(evacuate(call, MISSING))[0] == 404
    assert why(evacuate(call, server_id, user="demo"))[0] == 403
    assert evacuate(call, server_id, host=target).status_code == 200
    code, message = why(evacuate(call, server_id))
    assert code == 409
    assert "rebuilding" in message


def test_a_server_in_the_middle_of_what_it_did_is_not_evacuated(call: Call, boot: Boot, world: World) -> None:
    server_id = boot(flavorRef="vgpu")
    assert call("POST", f"/servers/{server_id}/action", {"pause": None}).status_code == 202
    world.settle()
    call_down(call, hosts_of(call, server_id)[0])
    code, message = why(evacuate(call, server_id))
    assert code == 409
    assert "paused" in message


def test_the_move_is_told_as_an_evacuation(call: Call, world: World, server_id: str) -> None:
    source, target = hosts_of(call, server_id)

    def told(path: str = "/os-migrations?migration_type=evacuation") -> list[Any]:
        found: list[Any] = call("GET", path, user="admin").json()["migrations"]
        return found

    assert evacuate(call, server_id).status_code == 200
    (asked,) = told()
    assert (asked["status"], asked["source_compute"], asked["dest_compute"]) == ("accepted", source, None)
    assert told(f"/servers/{server_id}/migrations") == [], "live migrations alone are told there"
    world.settle()
    (done,) = told()
    assert (done["status"], done["source_compute"], done["dest_compute"]) == ("done", source, target)
    world.begin()
    world.settle()
    (cleared,) = told()
    assert cleared["status"] == "completed"
    actions = call("GET", f"/servers/{server_id}/os-instance-actions").json()["instanceActions"]
    assert [action["action"] for action in actions] == ["clear_evacuated", "evacuate", "create"]
