"""What a server may be asked in each state, and the account of it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import MISSING, Call, wanted, why

from lamina.api.compute import server_actions

Boot = Callable[..., str]


def status(call: Call, server_id: str) -> tuple[str, str | None]:
    shown = call("GET", f"/servers/{server_id}").json()["server"]
    return shown["status"], shown["OS-EXT-STS:task_state"]


def act(call: Call, server_id: str, action: str, value: Any = None, user: str = "demo") -> Any:
    return call("POST", f"/servers/{server_id}/action", {action: value}, user=user)


def test_a_server_goes_through_its_life(call: Call, boot: Boot, world: World) -> None:
    server_id = boot(flavorRef="small", settled=False)
    assert status(call, server_id) == ("BUILD", "scheduling")
    world.settle()
    for action, value, code, busy, rest in (
        ("os-stop", None, 202, ("ACTIVE", "powering-off"), "SHUTOFF"),
        ("os-start", None, 202, ("SHUTOFF", "powering-on"), "ACTIVE"),
        ("reboot", {"type": "SOFT"}, 202, ("REBOOT", "rebooting"), "ACTIVE"),
        ("reboot", {"type": "hard"}, 202, ("HARD_REBOOT", "rebooting_hard"), "ACTIVE"),
        ("pause", None, 202, ("ACTIVE", "pausing"), "PAUSED"),
        ("unpause", None, 202, ("PAUSED", "unpausing"), "ACTIVE"),
        ("suspend", None, 202, ("ACTIVE", "suspending"), "SUSPENDED"),
        ("resume", None, 202, ("SUSPENDED", "resuming"), "ACTIVE"),
        ("createImage", {"name": "kept"}, 202, ("ACTIVE", "image_snapshot_pending"), "ACTIVE"),
        ("createBackup", {"name": "b", "backup_type": "daily", "rotation": 1}, 202, ("ACTIVE", "image_snapshot_pending"), "ACTIVE"),
        ("rescue", None, 200, ("ACTIVE", "rescuing"), "RESCUE"),
        ("unrescue", None, 202, ("RESCUE", "unrescuing"), "ACTIVE"),
        ("shelve", None, 202, ("ACTIVE", "shelving"), "SHELVED_OFFLOADED"),
        ("unshelve", None, 202, ("SHELVED_OFFLOADED", "unshelving"), "ACTIVE"),
        ("resize", {"flavorRef": "vgpu"}, 202, ("RESIZE", "resize_prep"), "VERIFY_RESIZE"),
        ("revertResize", None, 202, ("REVERT_RESIZE", "resize_reverting"), "ACTIVE"),
        ("resize", {"flavorRef": "vgpu"}, 202, ("RESIZE", "resize_prep"), "VERIFY_RESIZE"),
        ("confirmResize", None, 204, ("VERIFY_RESIZE", None), "ACTIVE"),
    ):
        assert act(call, server_id, action, value).status_code == code
        assert status(call, server_id) == busy, action
        world.settle()
        assert status(call, server_id) == (rest, None)
    assert call("GET", f"/servers/{server_id}").json()["server"]["flavor"]["original_name"] == "vgpu"
    assert act(call, server_id, "forceDelete").status_code == 202
    world.settle()
    assert why(call("GET", f"/servers/{server_id}"))[0] == 404
    world.check()


def test_an_administrator_moves_a_server(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    before = call("GET", f"/servers/{server_id}", user="admin").json()["server"]["OS-EXT-SRV-ATTR:host"]
    other = {"host1": "host2", "host2": "host1"}[before]
    assert why(act(call, server_id, "migrate", {"host": "nowhere"}, "admin"))[0] == 400
    assert act(call, server_id, "migrate", {"host": other}, "admin").status_code == 202
    world.settle()
    shown = call("GET", f"/servers/{server_id}", user="admin").json()["server"]
    assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"]) == ("VERIFY_RESIZE", other)


def test_an_administrator_resets_a_state(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    assert why(act(call, server_id, "os-resetState", {"state": "error"}))[0] == 403
    for body in (None, {}, {"state": "deleted"}, {"state": "active", "more": 1}):
        assert why(act(call, server_id, "os-resetState", body, "admin"))[0] == 400
    assert act(call, server_id, "os-resetState", {"state": "error"}, "admin").status_code == 202
    assert status(call, server_id) == ("ERROR", None)
    assert "set the state" in call("GET", f"/servers/{server_id}").json()["server"]["fault"]["message"]
    assert act(call, server_id, "os-resetState", {"state": "active"}, "admin").status_code == 202
    assert status(call, server_id) == ("ACTIVE", None)
    assert act(call, server_id, "os-stop").status_code == 202
    code, told = why(act(call, server_id, "os-resetState", {"state": "active"}, "admin"))
    assert (code, "powering-off" in told) == (409, True)
    world.settle()
    world.check()
    refused = boot(flavorRef="huge")
    assert why(act(call, refused, "os-resetState", {"state": "active"}, "admin"))[0] == 409


@pytest.mark.parametrize("action", ["os-start", "confirmResize", "revertResize", "resume", "unpause"])
def test_an_action_in_a_wrong_state_names_the_state(call: Call, boot: Boot, action: str) -> None:
    code, message = why(act(call, boot(), action))
    assert code == 409
    assert "active" in message


@pytest.mark.parametrize(
    ("action", "value"), [("os-stop", None), ("reboot", {"type": "SOFT"}), ("resize", {"flavorRef": "vgpu"}), ("os-start", None)]
)
def test_a_server_that_is_being_built_is_left_to_it(call: Call, boot: Boot, action: str, value: Any) -> None:
    code, message = why(act(call, boot(settled=False), action, value))
    assert code == 409
    assert "building" in message


def test_one_thing_at_a_time(call: Call, boot: Boot) -> None:
    server_id = boot()
    assert act(call, server_id, "os-stop").status_code == 202
    code, message = why(act(call, server_id, "reboot", {"type": "HARD"}))
    assert (code, "powering-off" in message) == (409, True)


def test_a_soft_reboot_needs_a_running_guest(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    act(call, server_id, "os-stop")
    world.settle()
    assert why(act(call, server_id, "reboot", {"type": "SOFT"}))[0] == 409


def test_resizing_to_the_same_flavor_is_refused(call: Call, boot: Boot) -> None:
    code, message = why(act(call, boot(), "resize", {"flavorRef": "small"}))
    assert code == 400
    assert "flavor" in message.lower()


@pytest.mark.parametrize("action", sorted(server_actions.NOT_HERE))
def test_what_is_documented_and_not_done_says_so(call: Call, boot: Boot, action: str) -> None:
    code, message = why(act(call, boot(), action, {}))
    assert code == 501
    assert action in message


def test_what_an_administrator_locked_its_owner_cannot_unlock(call: Call, boot: Boot) -> None:
    server_id = boot()
    assert act(call, server_id, "lock", {"locked_reason": "audit"}, user="admin").status_code == 202
    assert act(call, server_id, "lock", {"locked_reason": "mine"}).status_code == 202
    assert call("GET", f"/servers/{server_id}").json()["server"]["locked_reason"] == "audit"
    assert act(call, server_id, "unlock").status_code == 403
    assert act(call, server_id, "unlock", user="admin").status_code == 202
    assert act(call, server_id, "lock").status_code == 202
    assert act(call, server_id, "unlock").status_code == 202


def test_a_locked_server_obeys_administrators_only(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    assert act(call, server_id, "lock", {"locked_reason": "audit"}).status_code == 202
    shown = call("GET", f"/servers/{server_id}").json()["server"]
    assert (shown["locked"], shown["locked_reason"]) == (True, "audit")
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/action", {"os-stop": None}),
        ("POST", "/action", {"resize": {"flavorRef": "vgpu"}}),
        ("PUT", "", {"server": {"name": "new"}}),
        ("PUT", "/metadata", {"metadata": {}}),
        ("PUT", "/tags", {"tags": []}),
        ("PUT", "/tags/new", None),
        ("DELETE", "", None),
    ]
    for method, path, body in requests:
        code, message = why(call(method, f"/servers/{server_id}{path}", body))
        assert (code, "locked" in message) == (409, True), path
    assert act(call, server_id, "os-stop", user="admin").status_code == 202
    world.settle()
    assert act(call, server_id, "unlock").status_code == 202
    assert act(call, server_id, "os-start").status_code == 202


def test_metadata_and_tags_are_kept(call: Call, boot: Boot) -> None:
    at = f"/servers/{boot(metadata={'a': '1'}, tags=['t'])}"
    assert call("POST", f"{at}/metadata", {"metadata": {"b": "2"}}).json() == {"metadata": {"a": "1", "b": "2"}}
    assert call("PUT", f"{at}/metadata/a", {"meta": {"a": "3"}}).json() == {"meta": {"a": "3"}}
    assert call("GET", f"{at}/metadata/a").json() == {"meta": {"a": "3"}}
    assert call("DELETE", f"{at}/metadata/a").status_code == 204
    assert why(call("DELETE", f"{at}/metadata/a"))[0] == why(call("GET", f"{at}/metadata/a"))[0] == 404
    assert call("PUT", f"{at}/metadata", {"metadata": {"c": "4"}}).json() == {"metadata": {"c": "4"}}
    made = call("PUT", f"{at}/tags/u")
    assert (made.status_code, made.headers["Location"].endswith(f"{at}/tags/u")) == (201, True)
    assert call("PUT", f"{at}/tags/u").status_code == call("GET", f"{at}/tags/u").status_code == 204
    assert sorted(call("GET", f"{at}/tags").json()["tags"]) == ["t", "u"]
    assert call("DELETE", f"{at}/tags/u").status_code == 204
    assert why(call("DELETE", f"{at}/tags/u"))[0] == why(call("GET", f"{at}/tags/u"))[0] == 404
    assert call("PUT", f"{at}/tags", {"tags": ["x", "y"]}).json() == {"tags": ["x", "y"]}
    assert call("DELETE", f"{at}/tags").status_code == 204
    assert call("GET", f"{at}/tags").json() == {"tags": []}


def test_several_servers_share_a_reservation(call: Call, world: World) -> None:
    asked = wanted(min_count=2, max_count=3, return_reservation_id=True)
    reservation = call("POST", "/servers", asked).json()
    assert list(reservation) == ["reservation_id"]
    world.settle()
    found = call("GET", f"/servers?reservation_id={reservation['reservation_id']}&sort_key=name&sort_dir=asc").json()["servers"]
    assert [s["name"] for s in found] == ["s-1", "s-2", "s-3"]


def test_the_answer_to_a_creation(call: Call) -> None:
    answer = call("POST", "/servers", wanted())
    body = answer.json()["server"]
    assert set(body) == {"id", "links", "OS-DCF:diskConfig", "security_groups", "adminPass"}
    assert answer.headers["Location"] == body["links"][0]["href"] == f"http://127.0.0.1:8774/compute/v2.1/servers/{body['id']}"
    assert why(call("DELETE", f"/servers/{MISSING}"))[0] == 404


def test_a_rebuild_takes_what_each_version_has(call: Call, boot: Boot, world: World) -> None:
    server_id, image = boot(), wanted()["server"]["imageRef"]

    def rebuild(version: str = "2.96", **more: Any) -> Any:
        return call("POST", f"/servers/{server_id}/action", {"rebuild": {"imageRef": image} | more}, version=version)

    for since, refused in (("2.53", {"key_name": None}), ("2.56", {"user_data": "eA=="}), ("2.18", {"description": "d"})):
        code, message = why(rebuild(since, **refused))
        assert (code, next(iter(refused)) in message) == (400, True)
    for nonsense in ({"reimage_boot_volume": True}, {"trusted_image_certificates": ["x"]}, {"key_name": "nobodys"}, {"nonsense": 1}):
        assert why(rebuild(**nonsense))[0] == 400, nonsense
    answer = rebuild(name="anew", description="d", user_data="eA==", metadata={"a": "b"}, preserve_ephemeral=True)
    assert answer.status_code == 202
    shown = answer.json()["server"]
    assert (shown["status"], shown["name"], shown["description"], shown["user_data"]) == ("REBUILD", "anew", "d", "eA==")
    assert "adminPass" not in shown
    world.settle()
    assert status(call, server_id) == ("ACTIVE", None)
    world.check()
