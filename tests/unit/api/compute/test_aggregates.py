"""Host aggregates over the API: zones, Placement's aggregates, and flavors that ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import Call, wanted, why

from lamina.store import providers

Boot = Callable[..., str]
AGGREGATES = "/os-aggregates"


@pytest.fixture
def ask(call: Call) -> Callable[..., Any]:
    """As an administrator; the answer's body, or (status, sentence) of a refusal."""

    def asked(method: str, path: str = "", body: Any = None, **more: Any) -> Any:
        answer = call(method, AGGREGATES + path, body, user="admin", **more)
        return why(answer) if answer.status_code >= 400 else answer.json() if answer.content else None

    return asked


Ask = Callable[..., Any]


def made(ask: Ask, name: str, *hosts: str, zone: str | None = None, **metadata: str) -> Any:
    aggregate = ask("POST", "", {"aggregate": {"name": name} | ({} if zone is None else {"availability_zone": zone})})["aggregate"]
    path = f"/{aggregate['id']}/action"
    for host in hosts:
        assert "aggregate" in ask("POST", path, {"add_host": {"host": host}})
    if metadata:
        assert "aggregate" in ask("POST", path, {"set_metadata": {"metadata": metadata}})
    return aggregate


def zones(call: Call) -> dict[str, list[str]]:
    found = call("GET", "/os-availability-zone/detail", user="admin").json()["availabilityZoneInfo"]
    return {zone["zoneName"]: sorted(zone["hosts"]) for zone in found if zone["zoneName"] != "internal"}


def test_an_aggregate_lives_and_ends(ask: Ask) -> None:
    aggregate = ask("POST", "", {"aggregate": {"name": " fast "}})["aggregate"]
    assert aggregate.keys() == {"id", "uuid", "name", "availability_zone", "created_at", "updated_at", "deleted", "deleted_at"}
    assert (aggregate["name"], aggregate["availability_zone"], aggregate["updated_at"]) == ("fast", None, None)
    path = f"/{aggregate['id']}"
    whole = aggregate | {"hosts": [], "metadata": {}}
    assert ask("GET", path)["aggregate"] == whole
    assert ask("GET") == {"aggregates": [whole]}
    assert "uuid" not in ask("GET", path, version="2.40")["aggregate"]
    renamed = ask("PUT", path, {"aggregate": {"name": "faster"}})["aggregate"]
    assert renamed["updated_at"] is not None
    assert renamed == whole | {"name": "faster", "updated_at": renamed["updated_at"]}
    assert ask("DELETE", path) is None
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"aggregate": {"name": "x"}})):
        assert ask(method, path, body)[0] == 404
    assert ask("POST", f"{path}/action", {"add_host": {"host": "host1"}})[0] == 404


def test_metadata_is_merged_and_taken_out_by_null(ask: Ask) -> None:
    path = f"/{made(ask, 'a', disk='ssd', rack='7')['id']}"
    changed = ask("POST", f"{path}/action", {"set_metadata": {"metadata": {"rack": None, "row": "2"}}})["aggregate"]
    assert changed["metadata"] == {"disk": "ssd", "row": "2"}
    assert ask("GET", path)["aggregate"] == changed


def test_hosts_come_and_go_and_placement_follows(ask: Ask, world: World) -> None:
    def members() -> dict[str, frozenset[str]]:
        with world.plane.db.read() as tx:
            return {tree.root.name: tree.root.aggregates for tree in providers.load_trees(tx)}

    one, two = made(ask, "one", "host1", "host2"), made(ask, "two", "host2")
    both = frozenset({one["uuid"], two["uuid"]})
    assert members() == {"host1": frozenset({one["uuid"]}), "host2": both}
    action = f"/{one['id']}/action"
    assert ask("POST", action, {"remove_host": {"host": "host2"}})["aggregate"]["hosts"] == ["host1"]
    assert members() == {"host1": frozenset({one["uuid"]}), "host2": frozenset({two["uuid"]})}
    assert ask("POST", action, {"add_host": {"host": "host1"}})[0] == 409
    assert ask("POST", action, {"add_host": {"host": "moon"}}) == (404, "Host moon could not be found.")
    assert ask("POST", action, {"remove_host": {"host": "host2"}})[0] == 404
    status, message = ask("DELETE", f"/{one['id']}")
    assert status == 400
    assert "not empty" in message


@pytest.mark.parametrize(
    ("method", "path", "body", "names"),
    [
        ("POST", "", {"aggregate": {}}, "name"),
        ("POST", "", {"aggregate": {"name": ""}}, "name"),
        ("POST", "", {"aggregate": {"name": "x" * 256}}, "name"),
        ("POST", "", {"aggregate": {"name": "x", "availability_zone": ""}}, "availability_zone"),
        ("POST", "", {"aggregate": {"name": "x", "availability_zone": "a:b"}}, "availability_zone"),
        ("POST", "", {"aggregate": {"name": "x", "availability_zone": " a"}}, "availability_zone"),
        ("POST", "", {"aggregate": {"name": "x", "colour": "red"}}, "colour"),
        ("PUT", "/1", {"aggregate": {}}, "name"),
        ("PUT", "/1", {"aggregate": {"availability_zone": None}}, "availability_zone"),
        ("PUT", "/x", {"aggregate": {"name": "x"}}, "id"),
        ("GET", "/x", None, "id"),
        ("POST", "/1/action", {}, "add_host"),
        ("POST", "/1/action", {"add_host": {"host": "host1"}, "remove_host": {"host": "host1"}}, "one of"),
        ("POST", "/1/action", {"add_host": {}}, "host"),
        ("POST", "/1/action", {"rename": {}}, "rename"),
        ("POST", "/1/action", {"set_metadata": {"metadata": {"": "x"}}}, "metadata"),
        ("POST", "/1/action", {"set_metadata": {"metadata": {"a": "x" * 256}}}, "metadata"),
        ("POST", "/1/action", {"set_metadata": {"metadata": {"a": 7}}}, "metadata"),
        ("POST", "/1/action", {"set_metadata": {"metadata": {"availability_zone": None}}}, "availability_zone"),
    ],
)
def test_bad_input_is_refused_by_name(ask: Ask, method: str, path: str, body: Any, names: str) -> None:
    made(ask, "a")
    before = ask("GET")
    status, message = ask(method, path, body)
    assert status == 400
    assert names in message
    assert ask("GET") == before


def test_a_name_is_given_once(ask: Ask) -> None:
    first = made(ask, "a")
    assert ask("POST", "", {"aggregate": {"name": "a"}}) == (409, "Aggregate a already exists.")
    second = made(ask, "b")
    assert ask("PUT", f"/{second['id']}", {"aggregate": {"name": "a"}})[0] == 409
    assert ask("PUT", f"/{first['id']}", {"aggregate": {"name": "a"}})["aggregate"]["name"] == "a"


# ---------------------------------------------------------------------------------------------------- zones


def test_a_zone_is_made_of_hosts(call: Call, ask: Ask) -> None:
    assert zones(call) == {"nova": ["host1", "host2"]}
    east = made(ask, "east", "host1", zone="east")
    assert zones(call) == {"east": ["host1"], "nova": ["host2"]}
    services = call("GET", "/os-services?binary=nova-compute", user="admin").json()["services"]
    assert {s["host"]: s["zone"] for s in services} == {"host1": "east", "host2": "nova"}
    assert ask("GET", f"/{east['id']}")["aggregate"]["metadata"] == {"availability_zone": "east"}
    assert ask("PUT", f"/{east['id']}", {"aggregate": {"availability_zone": "far-east"}})["aggregate"]["availability_zone"] == "far-east"
    assert zones(call) == {"far-east": ["host1"], "nova": ["host2"]}
    ask("POST", f"/{east['id']}/action", {"remove_host": {"host": "host1"}})
    assert zones(call) == {"nova": ["host1", "host2"]}
    made(ask, "west", zone="west")
    assert "west" not in zones(call), "a zone without hosts is none"


def test_a_host_is_in_one_zone_only(call: Call, ask: Ask) -> None:
    made(ask, "east", "host1", zone="east")
    west, plain = made(ask, "west", zone="west"), made(ask, "plain", "host1")
    status, message = ask("POST", f"/{west['id']}/action", {"add_host": {"host": "host1"}})
    assert (status, message) == (409, "Host host1 would be in the availability zones east and west; it can be in one only.")
    for method, path, body in (
        ("PUT", f"/{plain['id']}", {"aggregate": {"availability_zone": "west"}}),
        ("POST", f"/{plain['id']}/action", {"set_metadata": {"metadata": {"availability_zone": "west"}}}),
    ):
        assert ask(method, path, body) == (400, message)
    assert ask("GET", f"/{west['id']}")["aggregate"]["hosts"] == []
    assert zones(call) == {"east": ["host1"], "nova": ["host2"]}


def test_a_host_with_servers_stays_in_its_zone(call: Call, ask: Ask, boot: Boot, world: World) -> None:
    east = made(ask, "east", "host1", zone="east")
    server_id = boot(availability_zone="east")
    shown = call("GET", f"/servers/{server_id}", user="admin").json()["server"]
    assert (shown["OS-EXT-AZ:availability_zone"], shown["OS-EXT-SRV-ATTR:host"]) == ("east", "host1")
    assert shown["pinned_availability_zone"] == "east"
    path = f"/{east['id']}"
    refused = [
        ask("PUT", path, {"aggregate": {"availability_zone": "west"}}),
        ask("POST", f"{path}/action", {"set_metadata": {"metadata": {"availability_zone": "west"}}}),
        ask("POST", f"{path}/action", {"remove_host": {"host": "host1"}}),
    ]
    assert [status for status, _ in refused] == [400, 400, 409]
    assert all("One or more hosts contain instances in this zone: host1." in message for _, message in refused)
    assert ask("PUT", path, {"aggregate": {"availability_zone": "east", "name": "e"}})["aggregate"]["name"] == "e"
    assert ask("POST", f"{path}/action", {"set_metadata": {"metadata": {"a": "b"}}})["aggregate"]["metadata"]["a"] == "b"
    assert made(ask, "plain", "host1")["id"], "an aggregate that makes no zone takes the host all the same"
    other = boot(availability_zone="nova")
    assert call("GET", f"/servers/{other}").json()["server"]["OS-EXT-AZ:availability_zone"] == "nova"
    west = made(ask, "west", zone="west")
    assert ask("POST", f"/{west['id']}/action", {"add_host": {"host": "host2"}})[0] == 409
    call("DELETE", f"/servers/{server_id}")
    world.settle()
    assert ask("PUT", path, {"aggregate": {"availability_zone": "west"}})["aggregate"]["availability_zone"] == "west"


def test_a_server_stays_in_the_zone_it_was_asked_into(call: Call, ask: Ask, boot: Boot, world: World) -> None:
    made(ask, "east", "host1", zone="east")
    pinned = boot(availability_zone="east")
    call("POST", f"/servers/{pinned}/action", {"migrate": None}, user="admin")
    world.settle()
    shown = call("GET", f"/servers/{pinned}", user="admin").json()["server"]
    assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", "host1")
    (migration,) = call("GET", f"/os-migrations?instance_uuid={pinned}", user="admin").json()["migrations"]
    assert migration["status"] == "error"


def test_a_zone_may_name_a_host(call: Call, ask: Ask, boot: Boot) -> None:
    made(ask, "east", "host2", zone="east")
    named = boot(user="admin", availability_zone="east:host2")
    assert call("GET", f"/servers/{named}", user="admin").json()["server"]["OS-EXT-SRV-ATTR:host"] == "host2"
    assert why(call("POST", "/servers", wanted(availability_zone="east:host2")))[0] == 403
    wrong = boot(user="admin", availability_zone="nova:host2")
    assert "not in availability zone nova" in call("GET", f"/servers/{wrong}", user="admin").json()["server"]["fault"]["message"]
    assert why(call("POST", "/servers", wanted(availability_zone="west")))[0] == 400


def test_a_flavor_goes_where_its_aggregate_is(call: Call, ask: Ask, boot: Boot) -> None:
    made(ask, "fast", "host2", disk="ssd, nvme")
    spec = {"extra_specs": {"aggregate_instance_extra_specs:disk": "<or> nvme <or> tape"}}
    assert call("POST", "/flavors/small/os-extra_specs", spec, user="admin").status_code == 200
    for _ in range(3):
        shown = call("GET", f"/servers/{boot()}", user="admin").json()["server"]
        assert shown["OS-EXT-SRV-ATTR:host"] == "host2"
    spec = {"extra_specs": {"aggregate_instance_extra_specs:disk": "tape"}}
    call("POST", "/flavors/small/os-extra_specs", spec, user="admin")
    fault = call("GET", f"/servers/{boot()}").json()["server"]["fault"]["message"]
    assert "host1: in no aggregate whose metadata has disk=tape; host2: in no aggregate" in fault
