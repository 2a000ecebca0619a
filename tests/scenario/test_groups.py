"""Server groups, aggregates and availability zones, by openstacksdk and by the `openstack` command."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from tests.scenario.cloud import Cloud, eventually, gpu, host
from tests.scenario.conftest import Launch
from tests.scenario.openstack_command import openstack

HOSTS = ("one", "two", "three")


@pytest.fixture
def cloud(launch: Launch) -> Cloud:
    return launch(*(host(name, gpu("0000:81:00.0", "vfio")) for name in HOSTS))


def settled(cloud: Cloud, conn: Connection, servers: list[Any]) -> list[Any]:
    return [cloud.settled(conn, server.id) for server in servers]


def test_one_server_more_than_there_are_hosts(cloud: Cloud) -> None:
    """All asked for at once by a member of a project; exactly one is refused, and its fault says why."""
    admin, conn = cloud.connect(), cloud.connect("lamina-demo")
    flavor, image = cloud.flavor(admin, "f", resources__VGPU="1"), cloud.image(conn)
    group = conn.compute.create_server_group(name="apart", policy="anti-affinity")
    assert (group.policy, group.rules, group.member_ids) == ("anti-affinity", {}, [])
    wanted = {"flavor_id": flavor.id, "image_id": image.id, "networks": "none", "scheduler_hints": {"group": group.id}}
    conn.compute.create_server(name="s", min_count=len(HOSTS) + 1, max_count=len(HOSTS) + 1, **wanted)
    servers = settled(cloud, conn, list(conn.compute.servers()))
    assert Counter(s.status for s in servers) == {"ACTIVE": len(HOSTS), "ERROR": 1}
    placed = [s.compute_host for s in admin.compute.servers(all_projects=True) if s.status == "ACTIVE"]
    assert sorted(placed) == sorted(HOSTS)
    (refused,) = [s for s in servers if s.status == "ERROR"]
    for name in HOSTS:
        assert f"{name}: has 1 of at most 1 servers of anti-affinity group {group.id}" in refused.fault["message"]
    assert refused.server_groups == [group.id]
    assert sorted(conn.compute.get_server_group(group.id).member_ids) == sorted(s.id for s in servers)
    for server in servers:
        cloud.delete(conn, server.id)
    assert conn.compute.find_server_group("apart", ignore_missing=False).member_ids == []
    conn.compute.delete_server_group(group.id)
    assert list(conn.compute.server_groups()) == []


def test_groups_of_the_command_line(cloud: Cloud) -> None:
    admin = cloud.connect()
    cloud.flavor(admin, "f")
    cloud.image(admin)
    made = openstack(cloud, "server", "group", "create", "--policy", "affinity", "together", "-f", "json")
    assert (made["policy"], made["rules"]) == ("affinity", {})
    soft = openstack(
        cloud, "server", "group", "create", "--policy", "anti-affinity", "--rule", "max_server_per_host=2", "two", "-f", "json"
    )
    assert soft["rules"] == {"max_server_per_host": 2}
    words = ("server", "create", "--flavor", "f", "--image", "img", "--no-network", "--server-group", "together", "--wait")
    for name in ("a", "b"):
        openstack(cloud, *words, name)
    hinted = ("--hint", f"group={made['id']}", "--hint", "different_host=11111111-1111-4111-8111-111111111111")
    openstack(cloud, *words[:7], *hinted, "--wait", "c")
    placed = {s.compute_host for s in admin.compute.servers()}
    assert len(placed) == 1
    shown = openstack(cloud, "server", "group", "show", "together", "-f", "json")
    assert len(shown["members"]) == 3
    assert {g["Name"] for g in openstack(cloud, "server", "group", "list", "--long", "-f", "json")} == {"together", "two"}
    openstack(cloud, "server", "group", "delete", "together", "two")
    assert openstack(cloud, "server", "group", "list", "-f", "json") == []


def test_aggregates_of_the_sdk(cloud: Cloud) -> None:
    """An aggregate's hosts are those of Placement's aggregate, and flavors go there."""
    conn = cloud.connect()
    fast = conn.compute.create_aggregate(name="fast")
    members = f"/resource_providers?member_of={fast.uuid}"
    for name in ("two", "three"):
        fast = conn.compute.add_host_to_aggregate(fast.id, name)
    fast = conn.compute.set_aggregate_metadata(fast.id, disk="ssd")
    assert (sorted(fast.hosts), fast.metadata) == (["three", "two"], {"disk": "ssd"})
    assert [p["name"] for p in cloud.placement(conn, members)["resource_providers"]] == ["three", "two"]
    flavor = cloud.flavor(conn, "f", aggregate_instance_extra_specs__disk="ssd", resources__VGPU="1")
    servers = [cloud.server(conn, f"s{n}", flavor) for n in range(4)]
    assert Counter(s.compute_host for s in servers) == {"two": 2, "three": 2}
    conn.compute.migrate_server(servers[0].id)
    moved = cloud.settled(conn, servers[0].id, "VERIFY_RESIZE")
    assert {moved.compute_host, servers[0].compute_host} == {"two", "three"}
    conn.compute.confirm_server_resize(moved.id)
    cloud.settled(conn, moved.id, "ACTIVE")
    conn.compute.remove_host_from_aggregate(fast.id, "three")
    assert [p["name"] for p in cloud.placement(conn, members)["resource_providers"]] == ["two"]
    assert conn.compute.update_aggregate(fast.id, name="faster").name == "faster"
    with pytest.raises(exceptions.BadRequestException, match="not empty"):
        conn.compute.delete_aggregate(fast.id, ignore_missing=False)
    conn.compute.remove_host_from_aggregate(fast.id, "two")
    conn.compute.delete_aggregate(fast.id, ignore_missing=False)
    assert list(conn.compute.aggregates()) == []


def test_zones_of_the_command_line(cloud: Cloud) -> None:
    conn = cloud.connect()
    cloud.flavor(conn, "f")
    cloud.image(conn)
    openstack(cloud, "aggregate", "create", "--zone", "east", "--property", "rack=7", "east")
    openstack(cloud, "aggregate", "add", "host", "east", "one")
    openstack(cloud, "aggregate", "set", "--property", "row=2", "--name", "far-east", "east")
    shown = openstack(cloud, "aggregate", "show", "far-east", "-f", "json")
    assert (shown["availability_zone"], shown["hosts"], shown["properties"]) == ("east", ["one"], {"rack": "7", "row": "2"})
    listed = openstack(cloud, "availability", "zone", "list", "--compute", "-f", "json", name="lamina-demo")
    assert {z["Zone Name"]: z["Zone Status"] for z in listed} == {"east": "available", "nova": "available"}
    words = ("server", "create", "--flavor", "f", "--image", "img", "--no-network", "--wait", "--availability-zone")
    openstack(cloud, *words, "east", "a")
    openstack(cloud, *words, "nova:three", "b")
    servers = {s.name: s for s in conn.compute.servers()}
    assert {name: (s.compute_host, s.availability_zone) for name, s in servers.items()} == {"a": ("one", "east"), "b": ("three", "nova")}
    with pytest.raises(exceptions.ConflictException, match="contain instances in this zone: one"):
        conn.compute.remove_host_from_aggregate(shown["id"], "one")
    with pytest.raises(exceptions.BadRequestException, match="contain instances in this zone: one"):
        conn.compute.update_aggregate(shown["id"], availability_zone="west")
    cloud.delete(conn, servers["a"].id)
    openstack(cloud, "aggregate", "set", "--zone", "west", "far-east")
    zones = {z.name: sorted(z.hosts) for z in conn.compute.availability_zones(details=True) if z.name != "internal"}
    assert zones == {"west": ["one"], "nova": ["three", "two"]}
    openstack(cloud, "aggregate", "unset", "--property", "row", "far-east")
    openstack(cloud, "aggregate", "remove", "host", "far-east", "one")
    openstack(cloud, "aggregate", "delete", "far-east")
    eventually(lambda: {z.name for z in conn.compute.availability_zones()}, lambda names: names == {"nova"})
