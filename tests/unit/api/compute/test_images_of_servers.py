"""Images of servers' disks and shelving, at each microversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import Call, why

from lamina.store import images

Boot = Callable[..., str]


def act(call: Call, server_id: str, body: Any, **more: Any) -> Any:
    return call("POST", f"/servers/{server_id}/action", body, **more)


def test_where_the_image_is_told(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    old = act(call, server_id, {"createImage": {"name": "one"}}, version="2.44")
    assert (old.status_code, old.content) == (202, b"")
    assert old.headers["location"].rpartition("/")[0].endswith("/image/v2/images")
    world.settle()
    new = act(call, server_id, {"createBackup": {"name": "two", "backup_type": "daily", "rotation": "1"}}, version="2.45")
    assert (new.status_code, len(new.json()["image_id"])) == (202, 36)
    world.settle()
    world.check()


@pytest.mark.parametrize(
    "body",
    [
        {"createImage": None},
        {"createImage": {}},
        {"createImage": {"name": ""}},
        {"createImage": {"name": "x" * 256}},
        {"createImage": {"name": "x", "metadata": {"a": 1}}},
        {"createImage": {"name": "x", "more": 1}},
        {"createBackup": {"name": "x", "backup_type": "daily"}},
        {"createBackup": {"name": "x", "backup_type": "", "rotation": 1}},
        {"createBackup": {"name": "x", "backup_type": "daily", "rotation": -1}},
        {"createBackup": {"name": "x", "backup_type": "daily", "rotation": "many"}},
        {"unshelve": {"availability_zone": "nowhere"}},
        {"unshelve": {"host": 1}},
        {"shelve": {"now": True}},
    ],
    ids=str,
)
def test_what_is_said_wrongly_is_refused_and_changes_nothing(call: Call, boot: Boot, world: World, body: Any) -> None:
    server_id = boot()
    assert why(act(call, server_id, body))[0] == 400
    assert world.server(server_id).task_state is None
    world.check()


@pytest.mark.parametrize(
    ("version", "body", "user", "status"),
    [
        ("2.76", None, "demo", 202),
        ("2.76", {"availability_zone": "nova"}, "demo", 400),
        ("2.77", {"availability_zone": "nova"}, "demo", 202),
        ("2.77", {"availability_zone": None}, "demo", 400),
        ("2.90", {"host": "host1"}, "admin", 400),
        ("2.91", {"availability_zone": None}, "demo", 202),
        ("2.91", {"host": "host1"}, "demo", 403),
        ("2.91", {"host": "host1"}, "admin", 202),
        ("2.91", {"host": "nowhere"}, "admin", 400),
    ],
)
def test_each_version_unshelves_its_own_way(
    call: Call, boot: Boot, world: World, version: str, body: Any, user: str, status: int
) -> None:
    server_id = boot()
    assert act(call, server_id, {"shelve": None}).status_code == 202
    world.settle()
    assert act(call, server_id, {"unshelve": body}, user=user, version=version).status_code == status
    world.settle()
    assert (world.server(server_id).host is not None) == (status == 202)
    world.check()


def test_what_is_shelved_is_offloaded_already(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    assert why(act(call, server_id, {"shelveOffload": None}))[0] == 403
    act(call, server_id, {"shelve": None})
    world.settle()
    for action in ("shelve", "shelveOffload", "createImage", "os-start", "reboot", "pause", "resize"):
        values = {"createImage": {"name": "x"}, "reboot": {"type": "HARD"}, "resize": {"flavorRef": "small"}}
        code, told = why(act(call, server_id, {action: values.get(action)}, user="admin"))
        assert (code, "shelved_offloaded" in told) == (409, True), action


def test_an_image_that_was_deleted_keeps_its_server_shelved(call: Call, boot: Boot, world: World) -> None:
    """It would come back with another disk."""
    server_id = boot()
    act(call, server_id, {"shelve": None})
    world.settle()
    kept = world.server(server_id).shelved_image_id
    assert kept is not None
    with world.plane.db.write() as tx:
        images.delete(tx, kept)
    act(call, server_id, {"unshelve": None})
    world.settle()
    server = world.server(server_id)
    assert (server.status, server.host, server.task_state) == ("SHELVED_OFFLOADED", None, None)
    assert server.fault is not None
    assert kept in server.fault.message
