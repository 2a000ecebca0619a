"""Networks, ports, consoles and config drives, as users of openstacksdk and of the ``openstack`` command have them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import Cloud, gpu, host
from tests.scenario.conftest import Launch
from tests.scenario.openstack_command import openstack

A = "0000:81:00.0"


@pytest.fixture
def cloud(launch: Launch, framework: str) -> Cloud:
    return launch(
        host("one", gpu(A, framework), networks=("public",)),
        host("two", gpu(A, framework), networks=("lab", "public")),
        host("bare", gpu(A, framework)),
    )


def domain(cloud: Cloud, server: Any) -> Any:
    """The domain as the simulated machine keeps it."""
    machine = json.loads((cloud.state / "machines" / f"{server.compute_host}.json").read_text())
    return machine["domains"][server.id]


def test_a_server_on_networks_from_its_birth_to_its_end(cloud: Cloud) -> None:
    conn = cloud.connect()
    assert sorted(n.name for n in conn.network.networks()) == ["lab", "public"]
    lab, public = (conn.network.find_network(name, ignore_missing=False) for name in ("lab", "public"))
    assert (lab.status, lab.is_shared, lab.subnet_ids) == ("ACTIVE", True, [])
    assert [n.id for n in conn.network.networks(name="lab")] == [lab.id]

    flavor, larger = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.flavor(conn, "v2", resources__VGPU="2")
    server = cloud.server(conn, "s", flavor, networks=[{"uuid": public.id}, {"uuid": lab.id}])
    assert (server.status, server.compute_host, server.addresses) == ("ACTIVE", "two", {"public": [], "lab": []})
    interfaces = list(conn.compute.server_interfaces(server.id))
    assert [i.net_id for i in interfaces] == [public.id, lab.id]
    ports = list(conn.network.ports(device_id=server.id))
    assert [(p.id, p.mac_address, p.network_id) for p in ports] == [(i.port_id, i.mac_addr, i.net_id) for i in interfaces]
    assert [(p.status, p.binding_host_id, p.device_owner) for p in ports] == [("ACTIVE", "two", "compute:nova")] * 2
    assert [nic["mac"] for nic in domain(cloud, server)["nics"]] == [p.mac_address for p in ports]

    server = cloud.resize(conn, server.id, larger)
    assert (server.status, server.compute_host) == ("VERIFY_RESIZE", "two"), "no other host has both networks"
    conn.compute.confirm_server_resize(server.id)
    server = cloud.settled(conn, server.id, "ACTIVE")
    assert [nic["mac"] for nic in domain(cloud, server)["nics"]] == [p.mac_address for p in ports]

    cloud.delete(conn, server.id)
    assert list(conn.network.ports()) == []


def test_a_network_that_no_host_with_room_has(cloud: Cloud) -> None:
    conn = cloud.connect()
    flavor = cloud.flavor(conn, "v1", resources__VGPU="1")
    lab = conn.network.find_network("lab", ignore_missing=False).id
    server = cloud.server(conn, "s", flavor, networks=[{"uuid": lab}], availability_zone="nova:one")
    assert server.status == "ERROR"
    assert "one: has no network lab" in server.fault["message"]
    cloud.delete(conn, server.id)
    assert list(conn.network.ports()) == []
    with pytest.raises(exceptions.BadRequestException, match="could not be found"):
        cloud.server(conn, "s", flavor, networks=[{"uuid": "55555555-5555-4555-8555-555555555551"}])


def test_what_a_server_is_told_is_on_its_config_drive(cloud: Cloud) -> None:
    conn = cloud.connect()
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ5ZSBieWUgYnllIGJ5ZSBieWUgYnllIGJ5ZSBieWUh me"
    conn.compute.create_keypair(name="mine", public_key=key)
    script = b"#!/bin/sh\necho \xff\n"
    server = cloud.server(
        conn,
        "s",
        cloud.flavor(conn, "v1", resources__VGPU="1"),
        networks="auto",
        key_name="mine",
        user_data=base64.b64encode(script).decode(),
        metadata={"role": "web"},
    )
    files = {path: base64.b64decode(content) for path, content in domain(cloud, server)["config_drive"].items()}
    assert files["openstack/latest/user_data"] == script
    told = json.loads(files["openstack/2018-08-27/meta_data.json"])
    assert (told["uuid"], told["public_keys"], told["meta"]) == (server.id, {"mine": key}, {"role": "web"})
    (link,) = json.loads(files["openstack/latest/network_data.json"])["links"]
    assert [link["ethernet_mac_address"]] == [p.mac_address for p in conn.network.ports(device_id=server.id)]

    conn.compute.delete_keypair("mine")
    conn.compute.stop_server(server.id)
    cloud.settled(conn, server.id, "SHUTOFF")
    conn.compute.start_server(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    again = domain(cloud, server)["config_drive"]["openstack/latest/meta_data.json"]
    assert json.loads(base64.b64decode(again))["public_keys"] == {"mine": key}, "the key outlives its keypair"


def test_the_openstack_command_knows_networks_and_consoles(cloud: Cloud) -> None:
    conn = cloud.connect()
    flavor, image = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.image(conn)
    listed = openstack(cloud, "network", "list", "-f", "json")
    assert [(n["Name"], n["Subnets"]) for n in listed] == [("lab", []), ("public", [])]
    words = ("--flavor", flavor.id, "--image", image.id, "--network", "public", "--network", "lab", "--wait", "-f", "json")
    made = openstack(cloud, "server", "create", "s", *words)
    assert (made["status"], made["addresses"]) == ("ACTIVE", {"public": [], "lab": []})
    ports = openstack(cloud, "port", "list", "--server", "s", "-f", "json")
    macs = [port["MAC Address"] for port in ports]
    assert len(macs) == 2
    written = openstack(cloud, "console", "log", "show", "s")
    assert all(mac in written for mac in macs)
    assert len(openstack(cloud, "console", "log", "show", "--lines", "1", "s").split("\n")) <= 3
    openstack(cloud, "console", "url", "show", "--novnc", "s", refused="Unavailable console type novnc.")
    shown = openstack(cloud, "network", "show", "public", "-f", "json")
    assert (shown["status"], shown["shared"]) == ("ACTIVE", True)
    assert openstack(cloud, "server", "list", "-f", "json")[0]["Networks"] == {"public": [], "lab": []}
