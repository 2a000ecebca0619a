"""Networks of hosts, ports of servers: asked for in the Compute API, shown there and in the Network API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.faults.world import ONE, World
from tests.unit.api.compute.conftest import MISSING, ROOMS, Call, wanted, why

from lamina.api import network
from lamina.api.application import application
from lamina.model import ids
from lamina.operations import reconcile
from lamina.operations.control_plane import ControlPlane
from lamina.store import hosts

Boot = Callable[..., str]
Look = Callable[..., Any]
PUBLIC, LAB = ids.network_id("public"), ids.network_id("lab")


@pytest.fixture
def client(cloud: ControlPlane) -> Iterator[TestClient]:
    with TestClient(application(cloud, (*ROOMS, network.ROOM))) as client:
        yield client


@pytest.fixture
def look(client: TestClient, headers: Callable[..., dict[str, str]]) -> Look:
    """``look("/ports", user="admin")``: the body of an answer of the Network API."""

    def asked(path: str, user: str = "demo") -> Any:
        answer = client.get(f"/network/v2.0{path}", headers=headers(user))
        assert answer.status_code == 200, answer.text
        return answer.json()

    return asked


@pytest.fixture
def lab(world: World) -> None:
    """A second network, on host2 only."""
    with world.plane.db.write() as tx:
        hosts.update_host(tx, "host2", networks=["lab", "public"])


# ---------------------------------------------------------------------------------------------------- networks


def test_the_networks_are_those_of_all_hosts(lab: None, look: Look) -> None:
    listed = look("/networks")["networks"]
    assert [(n["name"], n["id"], n["status"], n["shared"], n["subnets"]) for n in listed] == [
        ("lab", LAB, "ACTIVE", True, []),
        ("public", PUBLIC, "ACTIVE", True, []),
    ]
    assert not [key for key in listed[0] if key.startswith("provider:")]
    assert look(f"/networks/{LAB}") == {"network": listed[0]}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name=lab", ["lab"]),
        (f"id={PUBLIC}", ["public"]),
        (f"id={PUBLIC}&id={LAB}", ["lab", "public"]),
        ("name=lab&name=nothing", ["lab"]),
        (f"id={PUBLIC}&name=lab", []),
        ("shared=True", ["lab", "public"]),
        ("router:external=true", []),
        ("colour=red", ["lab", "public"]),
        ("status=DOWN", []),
        (f"marker={LAB}", ["public"]),
        ("limit=0", ["lab", "public"]),
    ],
)
def test_networks_are_filtered(lab: None, look: Look, query: str, names: list[str]) -> None:
    assert [n["name"] for n in look(f"/networks?{query}")["networks"]] == names


def test_pages_lead_to_each_other_and_have_the_fields_asked_for(lab: None, look: Look) -> None:
    first = look("/networks?limit=1&fields=name&fields=id")
    assert first["networks"] == [{"name": "lab", "id": LAB}]
    (more,) = first["networks_links"]
    path = more["href"].partition("/network/v2.0")[2]
    assert look(path) == {"networks": [{"name": "public", "id": PUBLIC}]}


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", f"marker={MISSING}"])
def test_a_page_that_is_none_is_refused(client: TestClient, headers: Callable[..., dict[str, str]], query: str) -> None:
    answer = client.get(f"/network/v2.0/networks?{query}", headers=headers("demo"))
    assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (400, "BadRequest")


def test_a_network_of_hosts_that_are_down_is_down(world: World, look: Look) -> None:
    with world.plane.db.write() as tx:
        for name in ("host1", "host2"):
            hosts.update_host(tx, name, forced_down=True)
    assert [n["status"] for n in look("/networks")["networks"]] == ["DOWN"]


def test_a_host_that_loses_a_network_no_longer_has_it(world: World, lab: None, look: Look) -> None:
    reconcile.host(world.plane, "host2")
    assert [n["name"] for n in look("/networks")["networks"]] == ["public"]


def test_nothing_is_changed_by_hand(
    client: TestClient, headers: Callable[..., dict[str, str]], look: Look, boot: Boot
) -> None:
    boot(networks="auto")
    (port,) = look("/ports")["ports"]
    for path in (f"/networks/{PUBLIC}", f"/ports/{port['id']}"):
        for method, status in (("PUT", 501), ("DELETE", 501), ("GET", 200)):
            assert client.request(method, f"/network/v2.0{path}", headers=headers("demo"), content=b"{}").status_code == status
    assert client.post("/network/v2.0/ports", headers=headers("demo"), json={"port": {"network_id": PUBLIC}}).status_code == 501


# ---------------------------------------------------------------------------------------------------- servers


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("none", []),
        ("auto", ["public"]),
        ([], ["public"]),
        ([{"uuid": LAB}], ["lab"]),
        ([{"uuid": PUBLIC.upper()}, {"uuid": LAB}], ["public", "lab"]),
        ([{"uuid": LAB}, {"uuid": LAB}], ["lab", "lab"]),
        ([{"uuid": PUBLIC, "fixed_ip": None, "port": None}], ["public"]),
    ],
    ids=str,
)
def test_a_server_gets_the_networks_it_asks_for(
    lab: None, call: Call, boot: Boot, look: Look, asked: Any, names: list[str]
) -> None:
    server_id = boot(networks=asked, settled=False)
    shown = call("GET", f"/servers/{server_id}").json()["server"]
    assert shown["addresses"] == {name: [] for name in names}
    assert call("GET", "/servers/detail").json()["servers"][0]["addresses"] == shown["addresses"]
    assert call("GET", f"/servers/{server_id}/ips").json() == {"addresses": shown["addresses"]}
    attached = call("GET", f"/servers/{server_id}/os-interface").json()["interfaceAttachments"]
    assert [a["net_id"] for a in attached] == [ids.network_id(name) for name in names]
    assert len({a["mac_addr"] for a in attached}) == len(names)
    assert all(a["mac_addr"].startswith("fa:16:3e:") for a in attached)
    ports = look("/ports")["ports"]
    assert [(p["id"], p["mac_address"], p["network_id"]) for p in ports] == [(a["port_id"], a["mac_addr"], a["net_id"]) for a in attached]


def test_nothing_said_before_it_had_to_be_is_auto(call: Call, look: Look) -> None:
    body = wanted()
    del body["server"]["networks"]
    assert call("POST", "/servers", body, version="2.36").status_code == 202
    assert [p["network_id"] for p in look("/ports")["ports"]] == [PUBLIC]


def test_auto_is_none_where_there_is_no_network(world: World, call: Call, boot: Boot) -> None:
    with world.plane.db.write() as tx:
        for name in ("host1", "host2"):
            hosts.update_host(tx, name, networks=[])
    assert call("GET", f"/servers/{boot(networks='auto')}").json()["server"]["addresses"] == {}


def test_every_one_of_several_servers_has_its_own_ports(call: Call, boot: Boot, look: Look) -> None:
    boot(networks="auto", min_count=3, max_count=3)
    ports = look("/ports")["ports"]
    assert len({p["device_id"] for p in ports}) == len({p["mac_address"] for p in ports}) == len(ports) == 3


def test_a_host_without_the_network_is_passed_over_with_its_reason(world: World, call: Call, boot: Boot) -> None:
    with world.plane.db.write() as tx:
        hosts.update_host(tx, "host1", networks=["lab"])
    server_id = boot(networks=[{"uuid": PUBLIC}, {"uuid": LAB}])
    fault = call("GET", f"/servers/{server_id}").json()["server"]["fault"]["message"]
    assert "host1: has no network public" in fault
    assert "host2: has no network lab" in fault


def test_a_resize_keeps_the_ports_and_stays_where_the_network_is(world: World, call: Call, boot: Boot, look: Look) -> None:
    server_id = boot(networks="auto")
    before, host = look("/ports")["ports"], world.server(server_id).host
    other = "host2" if host == "host1" else "host1"
    with world.plane.db.write() as tx:
        hosts.update_host(tx, other, networks=[])
    assert call("POST", f"/servers/{server_id}/action", {"resize": {"flavorRef": "vgpu"}}).status_code == 202
    world.settle()
    assert (world.server(server_id).host, world.server(server_id).vm_state) == (host, "resized")
    assert look("/ports")["ports"] == before
    call("POST", f"/servers/{server_id}/action", {"confirmResize": None})
    world.settle()
    assert call("POST", f"/servers/{server_id}/action", {"migrate": None}, user="admin").status_code == 202
    world.settle()
    fault = world.server(server_id).fault
    assert fault is not None
    assert f"{other}: has no network public" in fault.message
    world.check()


def test_ports_go_with_their_server(world: World, call: Call, boot: Boot, look: Look) -> None:
    for flavor in ("small", "huge"):
        server_id = boot(networks="auto", flavorRef=flavor)
        assert len(look("/ports")["ports"]) == 1
        assert call("DELETE", f"/servers/{server_id}").status_code == 204
        world.settle()
        assert look("/ports")["ports"] == []
    world.check()


def test_a_port_tells_whose_it_is(world: World, call: Call, boot: Boot, look: Look, project_ids: dict[str, str]) -> None:
    server_id = boot(networks="auto")
    (port,) = look(f"/ports?device_id={server_id}")["ports"]
    assert (port["device_owner"], port["status"], port["fixed_ips"]) == ("compute:nova", "ACTIVE", [])
    assert port["project_id"] == project_ids["demo"]
    assert "binding:host_id" not in port
    assert look(f"/ports/{port['id']}", "admin")["port"]["binding:host_id"] == world.server(server_id).host
    assert look(f"/ports?device_id={MISSING}")["ports"] == []
    for query in (f"network_id={PUBLIC}", f"mac_address={port['mac_address']}", f"id={port['id']}", "name="):
        assert look(f"/ports?{query}")["ports"] == [port]
    for query in (f"network_id={LAB}", "mac_address=fa:16:3e:00:00:0x", "name=x"):
        assert look(f"/ports?{query}")["ports"] == []
    details = look(f"/quotas/{project_ids['demo']}/details.json")["quota"]
    assert details["port"] == {"limit": -1, "used": 1, "reserved": 0}
    call("POST", f"/servers/{server_id}/action", {"os-stop": None})
    world.settle()
    assert [p["status"] for p in look("/ports")["ports"]] == ["DOWN"]


def test_anothers_ports_are_not_shown(
    client: TestClient, headers: Callable[..., dict[str, str]], boot: Boot, look: Look, stranger: Callable[..., str]
) -> None:
    stranger("eve")
    boot(networks="auto")
    (port,) = look("/ports")["ports"]
    assert look("/ports", "eve")["ports"] == []
    assert client.get(f"/network/v2.0/ports/{port['id']}", headers=headers("eve")).status_code == 404
    assert look("/ports", "admin")["ports"][0]["id"] == port["id"]


def test_one_interface_and_one_network_are_shown_by_themselves(call: Call, boot: Boot) -> None:
    server_id = boot(networks="auto")
    (listed,) = call("GET", f"/servers/{server_id}/os-interface", version="2.69").json()["interfaceAttachments"]
    assert listed.keys() == {"port_id", "net_id", "mac_addr", "fixed_ips", "port_state"}
    shown = call("GET", f"/servers/{server_id}/os-interface/{listed['port_id']}").json()
    assert shown == {"interfaceAttachment": listed | {"tag": None}}
    assert call("GET", f"/servers/{server_id}/ips/public").json() == {"public": []}
    assert why(call("GET", f"/servers/{server_id}/ips/lab"))[0] == 404
    assert why(call("GET", f"/servers/{server_id}/os-interface/{MISSING}"))[0] == 404


def test_the_domain_has_the_ports_as_its_interfaces(world: World) -> None:
    server = world.created(ONE, networks=("public", "public"))
    assert server.host is not None
    domain = world.hosts[server.host].machine.state.domains[server.id]
    assert [nic.network for nic in domain.nics] == ["public", "public"]
    world.check()
