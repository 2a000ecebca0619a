"""A server is started, stopped and rebooted, locked and marked, over HTTP: its vGPUs stay what and where they are."""

from __future__ import annotations

from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import Cloud, eventually, gpu, host
from tests.scenario.conftest import Launch

A = "0000:81:00.0"


@pytest.fixture
def cloud(launch: Launch, framework: str) -> Cloud:
    return launch(host("host1", gpu(A, framework)))


def held(cloud: Cloud, conn: Any) -> set[str]:
    assert cloud.counts(conn, "host1") == 1
    return {device["uuid"] for device in cloud.devices(conn, "host1")}


def test_stop_start_and_reboots(cloud: Cloud) -> None:
    conn = cloud.connect()
    assert cloud.counts(conn, "host1") == 0
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v1", resources__VGPU="1"))
    before = held(cloud, conn)
    conn.compute.stop_server(server)
    assert cloud.settled(conn, server.id, "SHUTOFF").power_state == 4
    assert held(cloud, conn) == before
    with pytest.raises(exceptions.ConflictException, match="stopped"):
        conn.compute.stop_server(server)
    conn.compute.start_server(server)
    assert cloud.settled(conn, server.id, "ACTIVE").power_state == 1
    assert held(cloud, conn) == before
    for number, how in enumerate(("SOFT", "HARD"), start=1):
        conn.compute.reboot_server(server, how)

        def rebooted(actions: list[str], wanted: int = number) -> bool:
            return actions.count("reboot") == wanted

        eventually(lambda: [a.action for a in conn.compute.server_actions(server)], rebooted)
        assert cloud.settled(conn, server.id).status == "ACTIVE"
        assert held(cloud, conn) == before
    assert [a.action for a in conn.compute.server_actions(server)] == ["reboot", "reboot", "start", "stop", "create"]
    cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0


def test_lock_metadata_and_tags(cloud: Cloud) -> None:
    """What its owner is kept from by a lock an administrator may do all the same."""
    conn, owner = cloud.connect(), cloud.connect("lamina-demo")
    flavor, image = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.image(conn)
    conn.image.update_image(image, visibility="public")
    made = owner.compute.create_server(name="s1", flavor_id=flavor.id, image_id=image.id, networks="none")
    server = cloud.settled(owner, made.id)
    before = held(cloud, conn)
    conn.compute.lock_server(server, locked_reason="audit")
    for refused in (owner.compute.stop_server, owner.compute.delete_server):
        with pytest.raises(exceptions.ConflictException, match="locked"):
            refused(server.id)
    assert cloud.settled(owner, server.id).status == "ACTIVE"
    assert held(cloud, conn) == before
    conn.compute.unlock_server(server)
    owner.compute.set_server_metadata(server, role="render", owner="me")
    owner.compute.delete_server_metadata(server, ["owner"])
    owner.compute.add_tag_to_server(server, "night")
    owner.compute.add_tag_to_server(server, "cheap")
    owner.compute.remove_tag_from_server(server, "cheap")
    seen = owner.compute.get_server(server.id)
    assert (dict(seen.metadata), list(seen.tags)) == ({"role": "render"}, ["night"])
    assert held(cloud, conn) == before
    owner.compute.stop_server(server)
    cloud.settled(owner, server.id, "SHUTOFF")
    cloud.delete(owner, server.id)
    assert cloud.counts(conn, "host1") == 0
