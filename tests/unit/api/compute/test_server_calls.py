"""Servers over HTTP where the answer hangs on how the question was put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import Call, wanted, why

from lamina.store import servers

Boot = Callable[..., str]


def test_a_password_that_was_given_comes_back(call: Call) -> None:
    assert call("POST", "/servers", wanted(adminPass="secret")).json()["server"]["adminPass"] == "secret"
    drawn = {call("POST", "/servers", wanted()).json()["server"]["adminPass"] for _ in range(2)}
    assert len(drawn) == 2
    assert all(len(password) >= 12 for password in drawn)


@pytest.mark.parametrize(
    "place",
    [
        {"availability_zone": "nova:host2"},
        {"availability_zone": "nova::host2"},
        {"availability_zone": "nova:host2:host2"},
        {"availability_zone": ":host2"},
        {"availability_zone": "nova", "host": "host2"},
        {"hypervisor_hostname": "host2"},
    ],
    ids=str,
)
def test_an_administrator_names_the_host(call: Call, boot: Boot, place: dict[str, str]) -> None:
    for _ in range(2):
        shown = call("GET", f"/servers/{boot('admin', **place)}", user="admin").json()["server"]
        assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", "host2")


@pytest.mark.parametrize(
    "place",
    [
        {"availability_zone": "nova:host1:host2"},
        {"availability_zone": "nova:host1", "host": "host2"},
        {"availability_zone": "nova:host1:host1:host1"},
        {"host": "host1", "hypervisor_hostname": "host2"},
    ],
    ids=str,
)
def test_two_hosts_are_not_one(call: Call, place: dict[str, str]) -> None:
    status, message = why(call("POST", "/servers", wanted(**place), user="admin"))
    assert status == 400
    assert next(iter(place)) in message


BRIEF = {
    *("id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated", "addresses"),
    *("accessIPv4", "accessIPv6", "links", "progress", "OS-DCF:diskConfig"),
}


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.1", BRIEF),
        ("2.74", BRIEF | {"locked", "locked_reason", "description", "tags", "trusted_image_certificates", "server_groups"}),
        ("2.75", None),
        ("2.96", None),
    ],
)
def test_the_answer_to_a_change_was_brief_once(call: Call, boot: Boot, version: str, keys: set[str] | None) -> None:
    server_id = boot()
    changed = call("PUT", f"/servers/{server_id}", {"server": {"name": "new"}}, version=version, user="admin")
    assert changed.status_code == 200
    shown = call("GET", f"/servers/{server_id}", version=version, user="admin").json()["server"]
    assert changed.json()["server"] == (shown if keys is None else {key: shown[key] for key in keys})
    assert shown["name"] == "new"


def test_groups_are_shown_of_one_server_at_a_time(call: Call, boot: Boot) -> None:
    server_id = boot()
    assert call("GET", f"/servers/{server_id}", version="2.71").json()["server"]["server_groups"] == []
    assert "server_groups" not in call("GET", f"/servers/{server_id}", version="2.70").json()["server"]
    assert "server_groups" not in call("GET", "/servers/detail").json()["servers"][0]


def test_what_changed_before_may_be_gone(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    call("DELETE", f"/servers/{server_id}")
    world.settle()

    def found(query: str, version: str = "2.96") -> list[str]:
        return [s["id"] for s in call("GET", f"/servers?{query}", version=version).json()["servers"]]

    assert found("changes-before=2999-01-01T00:00:00Z") == [server_id]
    assert found("changes-before=2999-01-01T00:00:00Z", "2.65") == []
    assert found("") == []


def test_a_sort_key_said_again_is_said_once(call: Call, boot: Boot) -> None:
    for name in ("b", "a", "c"):
        boot(name=name)
    query = "sort_key=name&sort_dir=asc" + "&sort_key=name" * 2000
    assert [s["name"] for s in call("GET", f"/servers?{query}&limit=2").json()["servers"]] == ["a", "b"]
    (first, *_) = call("GET", f"/servers?{query}").json()["servers"]
    assert [s["name"] for s in call("GET", f"/servers?{query}&marker={first['id']}").json()["servers"]] == ["b", "c"]


def test_a_change_does_not_undo_anothers(call: Call, boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata and tags are changed from what lies there when they are written, not from what was read before."""
    server_id = boot(metadata={"a": "1", "b": "2"}, tags=["a", "b"])
    real = servers.get
    changes: list[tuple[str, str, Any]] = [
        ("DELETE", "/metadata/a", None),
        ("PUT", "/metadata/d", {"meta": {"d": "4"}}),
        ("PUT", "/tags/d", None),
        ("DELETE", "/tags/a", None),
    ]
    for number, (method, path, body) in enumerate(changes):
        reads: list[int] = []

        def counted(*args: Any, reads: list[int] = reads, **named: Any) -> Any:
            reads.append(1)
            return real(*args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(servers, "get", counted)
            assert call(method, f"/servers/{server_id}{path}", body).status_code < 300
        assert len(reads) == 1, changes[number]
    shown = call("GET", f"/servers/{server_id}").json()["server"]
    assert (shown["metadata"], sorted(shown["tags"])) == ({"b": "2", "d": "4"}, ["b", "d"])


def test_events_tell_their_own_host(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    before = call("GET", f"/servers/{server_id}").json()["server"]["hostId"]
    moved = call("POST", f"/servers/{server_id}/action", {"migrate": None}, user="admin")
    world.settle()
    after = call("GET", f"/servers/{server_id}").json()["server"]["hostId"]
    path = f"/servers/{server_id}/os-instance-actions/{moved.headers['X-Compute-Request-Id']}"
    action = call("GET", path).json()["instanceAction"]
    by_step = {e["event"]: e["hostId"] for e in action["events"]}
    assert by_step == {
        "resize: claimed": after,
        "resize: target_vgpus_present": after,
        "resize: source_stopped": before,
        "resize: disk_moved": after,
        "resize: target_running": after,
    }
    assert before != after
    assert "updated_at" in action
    assert "updated_at" not in call("GET", path, version="2.57").json()["instanceAction"]
