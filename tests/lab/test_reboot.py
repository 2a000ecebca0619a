"""The machine is booted again, in order and by pulling the plug: vGPUs return with their uuids and types, servers as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lab.machine import Machine
from lab.stages import say
from openstack.connection import Connection

from tests.lab.plane import HOST, Plane

#: what somebody does before Lamina brings back its own: takes the virtual function for another vGPU
SABOTAGE = """#!/bin/bash
echo 6 >/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs
echo 12 >/sys/bus/pci/devices/{function}/nvidia/current_vgpu_type
"""


@pytest.fixture(scope="module")
def plane(host: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    plane = Plane(tmp_path_factory.mktemp("plane"), host)
    plane.start()
    try:
        plane.enrol()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def conn(plane: Plane) -> Connection:
    return plane.connect()


@pytest.fixture(scope="module")
def servers(plane: Plane, conn: Connection) -> dict[str, str]:
    """One on each kind of GPU, one that is stopped, one without a vGPU: name -> id."""
    flavors = {
        "mdev": plane.flavor(conn, "mdev", resources__VGPU="1"),
        "on-vf": plane.flavor(conn, "on-vf", resources__CUSTOM_ON_VF="1"),
        "vfio": plane.flavor(conn, "vfio", resources__CUSTOM_VFIO="1"),
        "plain": plane.flavor(conn, "plain"),
    }
    made: dict[str, Any] = {name: plane.server(conn, name, flavor) for name, flavor in flavors.items()}
    made["stopped"] = plane.server(conn, "stopped", flavors["mdev"])
    assert {s.status for s in made.values()} == {"ACTIVE"}, plane.troubles()
    conn.compute.stop_server(made["stopped"].id)
    plane.settled(conn, made["stopped"].id, "SHUTOFF")
    return {name: server.id for name, server in made.items()}


@pytest.mark.parametrize("orderly", [True, False], ids=["reboot", "power-cut"])
def test_vgpus_and_servers_return(plane: Plane, conn: Connection, servers: dict[str, str], orderly: bool) -> None:
    before = plane.mdevs(), plane.functions()
    assert (len(before[0]), len(before[1])) == (3, 1)
    plane.machine.reboot(orderly=orderly)
    said = plane.machine.sh("cat /var/log/lamina-vgpus.log")
    plane.wait_until_up()
    for name, server_id in servers.items():
        plane.until_runs(server_id, runs=name != "stopped")
        server = plane.settled(conn, server_id, "SHUTOFF" if name == "stopped" else "ACTIVE")
        assert server.compute_host == HOST
    assert (plane.mdevs(), plane.functions()) == before
    (vgpu,) = [v for v in plane.fleet(conn, "/vgpus")["vgpus"] if v["server_id"] == servers["mdev"]]
    assert vgpu["uuid"] in plane.qemu(servers["mdev"])
    assert plane.usage(conn, HOST) == 2
    say(f"\nlab: after the boot: {said.strip().splitlines()[-1]}")


def test_mdevctl_alone_brings_mediated_devices_back(plane: Plane, conn: Connection, servers: dict[str, str]) -> None:
    """The driver goes and comes, as it does when it is upgraded: the host itself makes the vGPUs anew, without Lamina."""
    before = plane.mdevs()
    for server_id in servers.values():
        if conn.compute.get_server(server_id).status == "ACTIVE":
            conn.compute.stop_server(server_id)
    for server_id in servers.values():
        plane.settled(conn, server_id, "SHUTOFF")
    plane.machine.sh("kill -STOP $(cat /run/lamina-agent.pid)")
    try:
        drivers = "/sys/bus/pci/drivers/nvidia"
        plane.machine.sh(f"for d in 0000:00:05.0 0000:00:06.0; do echo $d >{drivers}/unbind; done")
        gone = plane.mdevs()
        assert len(gone) < len(before)
        plane.machine.sh(f"for d in 0000:00:05.0 0000:00:06.0; do echo $d >{drivers}/bind; done; udevadm settle")
        plane.until(lambda: plane.mdevs() == before, "mdevctl has made them again", 60)
    finally:
        plane.machine.sh("kill -CONT $(cat /run/lamina-agent.pid)")
    plane.wait_until_up()


def test_what_cannot_return_is_named(plane: Plane, conn: Connection, servers: dict[str, str]) -> None:
    """Somebody has taken the place of a vGPU by the time the host is up again."""
    conn.compute.start_server(servers["vfio"])
    plane.settled(conn, servers["vfio"], "ACTIVE")
    (function,) = plane.functions()
    # the card is full of the other size: there is no other place for it either
    second = "0000:03:00.2" if function != "0000:03:00.2" else "0000:03:00.3"
    script = SABOTAGE.format(function=function) + f"echo 12 >/sys/bus/pci/devices/{second}/nvidia/current_vgpu_type\n"
    plane.machine.put("/lab/sabotage", script.encode(), "755")
    plane.machine.reboot()
    plane.wait_until_up()
    server = plane.settled(conn, servers["vfio"], "ERROR")
    assert "came back without it" in server.fault["message"]
    assert "cannot stand on" in plane.machine.sh("cat /var/log/lamina-vgpus.log")
    doctor = plane.doctor()
    assert any(servers["vfio"] in f["told"] or "is recorded and the host does not have it" in f["told"] for f in doctor), doctor
    assert set(plane.functions()) == {function, second}, "what is not ours stays"
    say(f"\nlab: fault: {server.fault['message']}")
    plane.machine.sh(f"rm /lab/sabotage; for f in {function} {second}; do echo 0 >/sys/bus/pci/devices/$f/nvidia/current_vgpu_type; done")
    conn.compute.reboot_server(servers["vfio"], "HARD")
    plane.settled(conn, servers["vfio"], "ACTIVE")
    assert len(plane.functions()) == 1


def test_nothing_is_left_in_the_end(plane: Plane, conn: Connection, servers: dict[str, str]) -> None:
    for server_id in servers.values():
        plane.delete(conn, server_id)
    assert plane.left() == {}
