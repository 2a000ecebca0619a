"""Instance actions: what was asked of a server and what became of it, as the operations' log has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import MISSING, Call, wanted, why

Boot = Callable[..., str]
LISTED = {"action", "instance_uuid", "request_id", "user_id", "project_id", "start_time", "message"}


def actions(call: Call, server_id: str, query: str = "", **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call("GET", f"/servers/{server_id}/os-instance-actions{query}", **more).json()["instanceActions"]
    return found


def shown(call: Call, server_id: str, request_id: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = call("GET", f"/servers/{server_id}/os-instance-actions/{request_id}", **more).json()["instanceAction"]
    return found


def test_a_creation_and_its_steps(call: Call, world: World) -> None:
    answer = call("POST", "/servers", wanted(flavorRef="vgpu"))
    server_id, request_id = answer.json()["server"]["id"], answer.headers["X-Compute-Request-Id"]
    (begun,) = shown(call, server_id, request_id)["events"]
    assert (begun["finish_time"], begun["result"]) == (None, None)
    world.settle()
    (action,) = actions(call, server_id)
    assert set(action) == LISTED | {"updated_at"}
    assert (action["action"], action["request_id"], action["message"]) == ("create", request_id, None)
    events = shown(call, server_id, request_id)["events"]
    assert [e["event"] for e in events] == ["create: domain_running", "create: vgpus_present", "create: claimed"]
    assert {e["result"] for e in events} == {"Success"}
    assert set(events[0]) == {"event", "start_time", "finish_time", "result", "hostId", "details"}
    assert events[0]["hostId"] == call("GET", f"/servers/{server_id}").json()["server"]["hostId"]
    of_admin = shown(call, server_id, request_id, user="admin")["events"][0]
    assert set(of_admin) == set(events[0]) | {"host", "traceback"}
    assert of_admin["host"].startswith("host")


def test_a_failed_creation_tells_why(call: Call, boot: Boot) -> None:
    server_id = boot(flavorRef="huge")
    server = call("GET", f"/servers/{server_id}").json()["server"]
    assert (server["status"], "security_groups" in server, "progress" in server) == ("ERROR", False, False)
    assert "No valid host was found." in server["fault"]["message"]
    (action,) = actions(call, server_id)
    assert action["message"] == "Error"
    undone, event = shown(call, server_id, action["request_id"])["events"]
    assert (undone["event"], undone["result"], undone["details"]) == ("create: claimed (undone)", "Success", None)
    assert (event["event"], event["result"]) == ("create: claimed", "Error")
    assert "No valid host was found." in event["details"]
    assert "details" not in shown(call, server_id, action["request_id"], version="2.83")["events"][0]
    assert "hostId" not in shown(call, server_id, action["request_id"], version="2.61")["events"][0]


def test_members_see_events_from_2_51_on(call: Call, boot: Boot) -> None:
    server_id = boot()
    (action,) = actions(call, server_id, version="2.1")
    assert set(action) == LISTED
    assert "events" not in shown(call, server_id, action["request_id"], version="2.50")
    assert "events" in shown(call, server_id, action["request_id"], version="2.50", user="admin")
    assert "updated_at" in shown(call, server_id, action["request_id"], version="2.58")


def test_they_outlive_the_server_from_2_21_on(call: Call, boot: Boot, world: World, stranger: Callable[..., str]) -> None:
    server_id = boot()
    call("DELETE", f"/servers/{server_id}")
    world.settle()
    assert [a["action"] for a in actions(call, server_id)] == ["delete", "create"]
    assert call("GET", f"/servers/{server_id}/os-instance-actions", version="2.20").status_code == 404
    stranger("eve")
    for there in (server_id, MISSING, "nonsense"):
        code, message = why(call("GET", f"/servers/{there}/os-instance-actions", user="eve"))
        assert (code, message) == (404, f"Instance {there} could not be found.")


def test_an_action_that_is_not_there(call: Call, boot: Boot) -> None:
    code, message = why(call("GET", f"/servers/{boot()}/os-instance-actions/req-none"))
    assert code == 404
    assert "req-none" in message


@pytest.fixture
def busy(call: Call, boot: Boot, world: World) -> str:
    """A server with five actions."""
    server_id = boot()
    for action in ("os-stop", "os-start", "os-stop", "os-start"):
        assert call("POST", f"/servers/{server_id}/action", {action: None}).status_code == 202
        world.settle()
        world.clock.sleep(60)
    return server_id


def test_pages(call: Call, busy: str) -> None:
    whole = actions(call, busy)
    assert [a["action"] for a in whole] == ["start", "stop", "start", "stop", "create"]
    path, found = f"/servers/{busy}/os-instance-actions?limit=2", []
    while True:
        body = call("GET", path).json()
        found += body["instanceActions"]
        if "links" not in body:
            break
        parts = urlsplit(body["links"][0]["href"])
        path = parts.path.removeprefix("/compute/v2.1") + "?" + parts.query
    assert found == whole
    assert len(actions(call, busy, "?limit=2", version="2.57")) == 5
    assert why(call("GET", f"/servers/{busy}/os-instance-actions?marker=req-none"))[0] == 400
    assert why(call("GET", f"/servers/{busy}/os-instance-actions?limit=x"))[0] == 400


def test_only_what_changed(call: Call, busy: str) -> None:
    whole = actions(call, busy)
    middle = whole[2]["updated_at"]
    assert actions(call, busy, f"?changes-since={middle}") == whole[:3]
    assert actions(call, busy, f"?changes-before={middle}") == whole[2:]
    assert actions(call, busy, f"?changes-before={middle}", version="2.65") != []
    assert why(call("GET", f"/servers/{busy}/os-instance-actions?changes-since=never"))[0] == 400
