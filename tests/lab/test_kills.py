"""The compute service is killed at each step of a creation, by the machine itself the moment the step shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lab.machine import Machine
from openstack.connection import Connection

from tests.lab.plane import HOST, Plane

#: what is to be seen inside -> where the creation is then. A busy loop kills within milliseconds of it
MOMENTS = {
    "the journal has the vGPU": "grep -q type_id /var/lib/lamina/agents/lab.json",
    "the vGPU stands": "ls /sys/bus/mdev/devices | grep -q . || grep -qv '^0$' /sys/bus/pci/devices/*/nvidia/current_vgpu_type",
    "the image is here": "ls /var/lib/lamina/images | grep -q .",
    "the disk is made": "ls /var/lib/lamina/disks | grep -q .",
    "the domain is defined": "ls /etc/libvirt/qemu/*.xml >/dev/null 2>&1",
    "QEMU has begun": "pgrep -x qemu-system-x86 >/dev/null",
}
#: those at which it matters how vGPUs are made
ON_DEVICES = ("the journal has the vGPU", "the vGPU stands")

KILLER = """#!/bin/bash
until {seen}; do ((SECONDS < 120)) || exit 1; done
kill -9 "$(cat /run/lamina-agent.pid)"
touch /run/killed
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
def flavors(plane: Plane, conn: Connection) -> dict[str, Any]:
    return {
        "mdev": plane.flavor(conn, "mdev", resources__VGPU="1"),
        "vfio": plane.flavor(conn, "vfio", resources__CUSTOM_VFIO="1"),
    }


@pytest.mark.parametrize(("framework", "moment"), [*(("mdev", moment) for moment in MOMENTS), *(("vfio", moment) for moment in ON_DEVICES)])
def test_killed_in_the_middle(plane: Plane, conn: Connection, flavors: dict[str, Any], framework: str, moment: str) -> None:
    """It comes up again, the creation goes on or is undone, and nothing is there twice or left over."""
    plane.machine.sh("rm -rf /var/lib/lamina/images /run/killed")
    plane.machine.put("/run/killer", KILLER.format(seen=MOMENTS[moment]).encode(), "755")
    plane.machine.sh("setsid /run/killer >/dev/null 2>&1 </dev/null &")
    server = plane.server(conn, f"{framework} {moment}", flavors[framework], wait=False)
    plane.machine.wait_for("test -e /run/killed")
    settled = plane.settled(conn, server.id)
    assert settled.status in ("ACTIVE", "ERROR"), plane.troubles()
    if settled.status == "ACTIVE":
        assert plane.qemu(server.id)
        assert len(plane.mdevs()) + len(plane.functions()) == 1
    else:
        assert plane.left() == {}, settled.fault
    plane.delete(conn, server.id)
    assert plane.left() == {}
    assert plane.usage(conn, HOST) == 0
