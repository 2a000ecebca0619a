"""Disks that become images, and servers that give their hosts back, over HTTP: vGPUs are counted before, during and after."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import Cloud, eventually, gpu, host
from tests.scenario.conftest import Launch

A = "0000:81:00.0"
TWO = {"resources__VGPU": "2"}


@pytest.fixture
def cloud(launch: Launch, framework: str) -> Cloud:
    return launch(*(host(name, gpu(A, framework)) for name in ("host1", "host2")))


def counts(cloud: Cloud, conn: Any) -> int:
    return cloud.counts(conn, "host1") + cloud.counts(conn, "host2")


def image(conn: Any, name: str) -> Any:
    """The image once it is whole."""
    return eventually(lambda: conn.image.find_image(name), lambda found: found is not None and found.status == "active")


def test_a_snapshot_of_a_server_that_runs(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    flavor = cloud.flavor(conn, "v2", **TWO)
    server = cloud.server(conn, "s1", flavor)
    before = cloud.devices(conn, server.compute_host)
    asked = conn.compute.create_server_image(server.id, "kept", {"why": "to try"})
    kept = image(conn, "kept")
    assert asked.id == kept.id
    assert cloud.settled(conn, server.id, "ACTIVE").power_state == 1
    assert cloud.devices(conn, server.compute_host) == before
    assert (kept.visibility, kept.min_disk, kept.instance_uuid, kept.properties["why"]) == ("private", 1, server.id, "to try")
    assert kept.size == len(conn.image.download_image(kept.id).content) > 0
    again = conn.compute.create_server(name="s2", flavor_id=flavor.id, image_id=kept.id, networks="none")
    assert cloud.settled(conn, again.id).status == "ACTIVE"
    assert counts(cloud, conn) == 4
    for one in (server, again):
        cloud.delete(conn, one.id)
    assert image(conn, "kept").id == kept.id, "an image outlives its server"


def test_backups_are_rotated(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    for name in ("one", "two", "three"):
        conn.compute.backup_server(server.id, name, "daily", 2)
        image(conn, name)
        cloud.settled(conn, server.id, "ACTIVE")
    conn.compute.backup_server(server.id, "of the week", "weekly", 1)
    image(conn, "of the week")
    kept = eventually(lambda: {i.name for i in conn.image.images()} - {"img"}, lambda names: "one" not in names)
    assert kept == {"two", "three", "of the week"}
    assert counts(cloud, conn) == 2


def test_a_server_is_shelved_and_comes_back(cloud: Cloud) -> None:
    """It holds nothing meanwhile, over a kill of Lamina too, and its room may be somebody else's."""
    conn = cloud.connect("lamina")
    flavor = cloud.flavor(conn, "v2", **TWO)
    server = cloud.server(conn, "s1", flavor)
    first = server.compute_host
    conn.compute.shelve_server(server.id)
    shelved = cloud.settled(conn, server.id, "SHELVED_OFFLOADED")
    assert (shelved.vm_state, shelved.compute_host, shelved.power_state) == ("shelved_offloaded", None, 4)
    assert counts(cloud, conn) == 0
    assert cloud.placement(conn, f"/allocations/{server.id}")["allocations"] == {}
    kept = image(conn, "s1-shelved")
    with pytest.raises(exceptions.ConflictException, match="shelved_offloaded"):
        conn.compute.start_server(server.id)
    cloud.restart(signal.SIGKILL)
    conn = cloud.connect("lamina")
    conn.compute.unshelve_server(server.id, host={"host1": "host2", "host2": "host1"}[first])
    back = cloud.settled(conn, server.id, "ACTIVE")
    assert (back.compute_host != first, back.power_state) == (True, 1)
    assert (cloud.counts(conn, first), counts(cloud, conn)) == (0, 2)
    eventually(lambda: conn.image.find_image(kept.id), lambda found: found is None)
    assert [a.action for a in conn.compute.server_actions(server)] == ["unshelve", "shelve", "create"]
    conn.compute.shelve_server(server.id)
    cloud.settled(conn, server.id, "SHELVED_OFFLOADED")
    cloud.delete(conn, server.id)
    assert conn.image.find_image("s1-shelved") is None
    assert counts(cloud, conn) == 0


def test_a_server_stays_shelved_where_there_is_no_room(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    flavor = cloud.flavor(conn, "v2", **TWO)
    server = cloud.server(conn, "s1", flavor)
    conn.compute.shelve_server(server.id)
    cloud.settled(conn, server.id, "SHELVED_OFFLOADED")
    others = [cloud.server(conn, f"o{n}", cloud.flavor(conn, f"v16-{n}", resources__VGPU="16")) for n in range(2)]
    assert [other.status for other in others] == ["ACTIVE", "ACTIVE"]
    conn.compute.unshelve_server(server.id)
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda left: left == [])
    assert cloud.settled(conn, server.id).status == "SHELVED_OFFLOADED"
    assert image(conn, "s1-shelved").status == "active"
    cloud.delete(conn, others[0].id)
    conn.compute.unshelve_server(server.id)
    assert cloud.settled(conn, server.id, "ACTIVE").power_state == 1
    assert counts(cloud, conn) == 18
