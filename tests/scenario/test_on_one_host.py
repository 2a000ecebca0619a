"""What is done to a server where it is, over HTTP with openstacksdk: its vGPUs are counted before, during and after."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import Cloud, eventually, gpu, host
from tests.scenario.conftest import Launch

A, B = "0000:81:00.0", "0000:82:00.0"
TWO = {"resources__VGPU": "2"}


@pytest.fixture
def cloud(launch: Launch, framework: str) -> Cloud:
    return launch(host("host1", gpu(A, framework), gpu(B, framework)))


def uuids(cloud: Cloud, conn: Any, state: str) -> set[str]:
    assert cloud.counts(conn, "host1") == 2
    devices = cloud.devices(conn, "host1")
    assert {d["state"] for d in devices} == {state}
    return {d["uuid"] for d in devices}


def test_pause_and_unpause(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    before = uuids(cloud, conn, "attached")
    conn.compute.pause_server(server)
    paused = cloud.settled(conn, server.id, "PAUSED")
    assert (paused.vm_state, paused.power_state) == ("paused", 3)
    assert uuids(cloud, conn, "attached") == before
    with pytest.raises(exceptions.ConflictException, match="paused"):
        conn.compute.pause_server(server)
    conn.compute.unpause_server(server)
    assert cloud.settled(conn, server.id, "ACTIVE").power_state == 1
    assert uuids(cloud, conn, "attached") == before
    actions = [a.action for a in conn.compute.server_actions(server)]
    assert actions == ["unpause", "pause", "create"]
    cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0


def test_suspend_and_resume(cloud: Cloud) -> None:
    """The vGPUs stay the server's, present on the host and paid for, also over a kill of Lamina and a reboot of the host."""
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    before = uuids(cloud, conn, "attached")
    conn.compute.suspend_server(server)
    suspended = cloud.settled(conn, server.id, "SUSPENDED")
    assert (suspended.vm_state, suspended.power_state) == ("suspended", 7)
    assert uuids(cloud, conn, "present") == before
    cloud.restart(signal.SIGKILL)
    conn = cloud.connect("lamina")
    assert conn.session.post(f"{cloud.url}/fleet/v1/hosts/host1/reboot").status_code < 300
    eventually(lambda: {d["uuid"] for d in cloud.devices(conn, "host1")}, lambda found: found == before)
    cloud.settled(conn, server.id, "SUSPENDED")
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda left: left == [])
    assert uuids(cloud, conn, "present") == before
    conn.compute.resume_server(server.id)
    assert cloud.settled(conn, server.id, "ACTIVE").power_state == 1
    assert uuids(cloud, conn, "attached") == before
    conn.compute.suspend_server(server.id)
    cloud.settled(conn, server.id, "SUSPENDED")
    cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0


def test_rebuild(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    before = uuids(cloud, conn, "attached")
    other = conn.image.create_image(name="other", disk_format="raw", container_format="bare", data=b"\1" * 4096, validate_checksum=False)
    asked = conn.compute.rebuild_server(server.id, other.id, name="anew", metadata={"a": "1"})
    assert asked.id == server.id
    server = cloud.settled(conn, server.id)
    assert (server.status, server.name, server.image.id, server.metadata) == ("ACTIVE", "anew", other.id, {"a": "1"})
    assert (server.compute_host, uuids(cloud, conn, "attached")) == ("host1", before)
    conn.compute.stop_server(server)
    cloud.settled(conn, server.id, "SHUTOFF")
    conn.compute.rebuild_server(server.id, cloud.image(conn).id)
    assert cloud.settled(conn, server.id).status == "SHUTOFF"
    assert uuids(cloud, conn, "attached") == before
    with pytest.raises(exceptions.BadRequestException, match="could not be found"):
        conn.compute.rebuild_server(server.id, server.id)
    cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0


def test_rescue_and_unrescue(cloud: Cloud) -> None:
    """The vGPUs stay its own and attached, over a kill of Lamina and a reboot of the host too."""
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    before = uuids(cloud, conn, "attached")
    tools = conn.image.create_image(name="tools", disk_format="raw", container_format="bare", data=b"\2" * 4096, validate_checksum=False)
    conn.compute.rescue_server(server.id, image=tools.id)
    rescued = cloud.settled(conn, server.id, "RESCUE")
    assert (rescued.vm_state, rescued.power_state) == ("rescued", 1)
    assert f"rescued with image {tools.id}" in conn.compute.get_server_console_output(server.id)["output"]
    assert uuids(cloud, conn, "attached") == before
    with pytest.raises(exceptions.ConflictException, match="rescued"):
        conn.compute.stop_server(server.id)
    cloud.restart(signal.SIGKILL)
    conn = cloud.connect("lamina")
    assert conn.session.post(f"{cloud.url}/fleet/v1/hosts/host1/reboot").status_code < 300
    eventually(lambda: {d["uuid"] for d in cloud.devices(conn, "host1")}, lambda found: found == before)
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda left: left == [])
    assert cloud.settled(conn, server.id, "RESCUE").power_state == 1
    assert f"rescued with image {tools.id}" in conn.compute.get_server_console_output(server.id)["output"]
    conn.compute.unrescue_server(server.id)
    assert cloud.settled(conn, server.id, "ACTIVE").power_state == 1
    assert "rescued with" not in conn.compute.get_server_console_output(server.id)["output"]
    assert uuids(cloud, conn, "attached") == before
    conn.compute.rescue_server(server.id)
    cloud.settled(conn, server.id, "RESCUE")
    cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0
