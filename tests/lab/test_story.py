"""A server's life on the real thing, as its owner, its operator and the machine itself see it. The tests follow one another."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from lab.machine import Machine
from lab.stages import say
from openstack.connection import Connection

from lamina.agent.hypervisors.domain_xml import read
from tests.lab.plane import FOREIGN, HOST, MDEV, MDEV_ON_VF, SECOND_MDEV, SHARED, VFIO, Plane

SMALL, LARGE = "CUSTOM_NVIDIA_LAB_0Q", "CUSTOM_NVIDIA_LAB_1Q"


@pytest.fixture(scope="module")
def plane(host: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    plane = Plane(tmp_path_factory.mktemp("plane"), host)
    plane.start()
    try:
        plane.enrol()
        plane.plant_foreign()
        conn = plane.connect()
        # recorded with the host's next report; the list of vGPUs asks the host itself, and knows it sooner
        plane.until(lambda: sum(g["foreign"] for g in plane.fleet(conn, "/gpus")["gpus"]) == 1, "the foreign vGPU is recorded")
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def conn(plane: Plane) -> Connection:
    return plane.connect()


@pytest.fixture(scope="module")
def flavors(plane: Plane, conn: Connection) -> dict[str, Any]:
    return {
        "small": plane.flavor(conn, "small", resources__VGPU="1", **{f"trait__{SMALL}": "required"}),
        "large": plane.flavor(conn, "large", resources__VGPU="1", **{f"trait__{LARGE}": "required"}),
        "on-vf": plane.flavor(conn, "on-vf", resources__CUSTOM_ON_VF="1"),
        "vfio": plane.flavor(conn, "vfio", resources__CUSTOM_VFIO="1"),
        "plain": plane.flavor(conn, "plain"),
    }


@pytest.fixture(autouse=True)
def _what_always_holds(plane: Plane) -> Iterator[None]:
    """Nobody touches what is not ours, and what runs is what is defined."""
    yield
    assert plane.mdevs().get(FOREIGN) == "nvidia-11"
    for name in plane.machine.sh("virsh list --name").split():
        live, persistent = (read(plane.machine.run("virsh", "dumpxml", name, *how)) for how in ((), ("--inactive",)))
        assert (live.digest, live.vgpus, live.handles) == (persistent.digest, persistent.vgpus, persistent.handles)


def test_the_cards_are_discovered_with_their_facts(plane: Plane, conn: Connection) -> None:
    gpus = {g["address"]: g for g in plane.fleet(conn, "/gpus")["gpus"]}
    facts = {a: (g["framework"], g["virtual_functions"], g["partitioning"], g["driver"], g["total"]) for a, g in gpus.items()}
    assert facts == {
        MDEV: ("mdev", None, "same-size", "nvidia", 4),
        SECOND_MDEV: ("mdev", None, "same-size", "nvidia", 4),
        MDEV_ON_VF: ("mdev", 6, "same-size", "nvidia", 4),
        SHARED: ("mdev", 6, "same-size", "nvidia", 4),
        VFIO: ("vfio", 6, "same-size", "nvidia", 4),
    }
    for gpu in gpus.values():
        assert [(t["name"], t["max_instances"]) for t in gpu["types"]] == [("NVIDIA LAB-0Q", 4), ("NVIDIA LAB-1Q", 2)]
    room = {a: {t["name"]: t["room"] for t in g["types"]} for a, g in gpus.items()}
    assert room[MDEV] == {"NVIDIA LAB-0Q": 4, "NVIDIA LAB-1Q": 2}
    assert room[SHARED] == {"NVIDIA LAB-0Q": 3, "NVIDIA LAB-1Q": 0}, "what is not ours takes its place all the same"
    (host,) = plane.fleet(conn, "/hosts")["hosts"]
    assert len([p for p in host["problems"] if "none of its 6 virtual functions enabled" in p]) == 1, host["problems"]
    (foreign,) = [v for v in plane.fleet(conn, "/vgpus")["vgpus"] if v["state"] == "foreign"]
    assert (foreign["uuid"], foreign["type"]) == (FOREIGN, "NVIDIA LAB-0Q")


def test_a_server_holds_its_mediated_device(plane: Plane, conn: Connection, flavors: dict[str, Any]) -> None:
    (network,) = conn.network.networks(name="public")
    server = plane.server(conn, "first", flavors["small"], networks=[{"uuid": network.id}], user_data="aGVsbG8=", config_drive=True)
    assert server.status == "ACTIVE", f"{server.fault}\n{plane.troubles()}"
    (vgpu,) = [v for v in plane.fleet(conn, "/vgpus")["vgpus"] if v["server_id"] == server.id]
    assert (vgpu["state"], vgpu["on_host"]) == ("attached", True)
    process = plane.qemu(server.id)
    (device,) = re.findall(r'\{"driver":"vfio-pci"[^}]*\}', process)
    assert f'"sysfsdev":"/sys/bus/mdev/devices/{vgpu["uuid"]}"' in device
    nodes = plane.machine.sh("virsh nodedev-list --cap mdev")
    assert vgpu["uuid"].replace("-", "_") in nodes
    assert plane.machine.sh(f"ls -l /proc/{process.split()[0]}/fd | grep -c '/dev/vfio/[0-9]'").strip() != "0"
    (port,) = conn.network.ports(device_id=server.id)
    assert port.mac_address in plane.machine.sh(f"virsh domiflist lamina-{server.id}")
    assert "br0" in plane.machine.sh(f"virsh domiflist lamina-{server.id}")
    listed = plane.machine.sh(f"mdevctl list --defined --uuid {vgpu['uuid']}")
    assert "auto" in listed
    say(f"\nlab: QEMU: {device}\nlab: virsh nodedev-list --cap mdev: {nodes.split()}")
    say(f"lab: GET /fleet/v1/vgpus: {vgpu}\nlab: mdevctl: {listed.strip()}")


def test_its_display_and_its_console(plane: Plane, conn: Connection) -> None:
    (server,) = conn.compute.servers(name="first")
    console = conn.compute.create_console(server, console_type="novnc")
    assert console is not None
    assert re.fullmatch(r"vnc://127\.0\.0\.1:59\d\d", console["url"])
    assert "output" in conn.compute.get_server_console_output(server.id)


@pytest.mark.parametrize("end", ["revert", "confirm"])
def test_a_resize_between_types(plane: Plane, conn: Connection, flavors: dict[str, Any], end: str) -> None:
    (server,) = conn.compute.servers(name="first")
    before = {u for u in plane.mdevs() if u != FOREIGN}
    server = plane.resize(conn, server.id, flavors["large"])
    assert server.status == "VERIFY_RESIZE", f"{server.fault}\n{plane.troubles()}"
    both = {u: t for u, t in plane.mdevs().items() if u != FOREIGN}
    assert sorted(both.values()) == ["nvidia-11", "nvidia-12"]
    (new,) = both.keys() - before
    assert new in plane.qemu(server.id)
    if end == "revert":
        conn.compute.revert_server_resize(server.id)
    else:
        conn.compute.confirm_server_resize(server.id)
    server = plane.settled(conn, server.id, "ACTIVE")
    left = {u for u in plane.mdevs() if u != FOREIGN}
    assert left == (before if end == "revert" else {new})
    (held,) = left
    assert held in plane.qemu(server.id)
    assert server.flavor.original_name == ("small" if end == "revert" else "large")
    assert plane.usage(conn, HOST) == 1


@pytest.mark.parametrize(("name", "gpu"), [("on-vf", MDEV_ON_VF), ("vfio", VFIO)])
def test_a_server_on_a_virtual_function(plane: Plane, conn: Connection, flavors: dict[str, Any], name: str, gpu: str) -> None:
    server = plane.server(conn, name, flavors[name])
    assert server.status == "ACTIVE", f"{server.fault}\n{plane.troubles()}"
    (vgpu,) = [v for v in plane.fleet(conn, "/vgpus")["vgpus"] if v["server_id"] == server.id]
    assert vgpu["gpu"] == gpu
    process = plane.qemu(server.id)
    if name == "vfio":
        (function,) = plane.functions()
        assert f'"host":"{function}"' in process
    else:
        assert vgpu["uuid"] in process
    (host_gpu,) = [g for g in plane.fleet(conn, "/gpus")["gpus"] if g["address"] == gpu]
    assert (host_gpu["used"], host_gpu["total"]) == (1, 4), "one GPU with its functions, and what it can really hold"
    say(f"\nlab: {name}: {re.findall(r'.driver.:.vfio-pci.[^}]*', process)}")


def test_what_virsh_does_is_told(plane: Plane, conn: Connection) -> None:
    (server,) = conn.compute.servers(name="vfio")
    plane.machine.sh(f"virsh destroy lamina-{server.id}")
    server = plane.settled(conn, server.id, "SHUTOFF")
    assert server.power_state == 4
    plane.machine.sh(f"virsh start lamina-{server.id}")
    server = plane.settled(conn, server.id, "ACTIVE")
    assert server.power_state == 1


def test_libvirt_dies_and_comes_back(plane: Plane, conn: Connection, flavors: dict[str, Any]) -> None:
    """Its domains go on without it; what was asked for meanwhile is done or refused with a readable fault, and nothing stays behind."""
    plane.machine.sh("pkill -9 -x libvirtd; sleep 1; libvirtd -d")
    (server,) = conn.compute.servers(name="first")
    assert plane.qemu(server.id)
    another = plane.server(conn, "after", flavors["plain"])
    assert another.status == "ACTIVE", f"{another.fault}\n{plane.troubles()}"
    conn.compute.stop_server(server.id)
    plane.settled(conn, server.id, "SHUTOFF")
    assert plane.qemu(server.id) == ""


def test_a_busy_device_is_a_readable_fault(plane: Plane, conn: Connection, flavors: dict[str, Any]) -> None:
    """The kernel says no at each attempt: the server says why, and nothing stays on the host."""
    before = (plane.mdevs(), plane.functions())
    plane.machine.sh("echo 16 >/sys/module/lamina_lab/parameters/fail_create")
    server = plane.server(conn, "refused", flavors["on-vf"])
    assert server.status == "ERROR"
    assert "EBUSY" in server.fault["message"]
    assert (plane.mdevs(), plane.functions()) == before
    plane.delete(conn, server.id)


def test_an_image_that_names_another_file_is_refused(plane: Plane, conn: Connection) -> None:
    plane.machine.sh("qemu-img create -q -f qcow2 -b /etc/shadow -F raw -u /root/evil.qcow2 1M")
    _, text = plane.machine.do("base64", "/root/evil.qcow2")
    image = conn.image.create_image(name="evil", disk_format="qcow2", container_format="bare")
    answer = conn.image.put(
        f"/images/{image.id}/file", data=base64.b64decode(text), headers={"Content-Type": "application/octet-stream"}
    )
    assert answer.status_code in (400, 415), answer.text
    assert "backing" in answer.text


def test_everything_goes_with_its_server(plane: Plane, conn: Connection) -> None:
    for server in conn.compute.servers():
        plane.delete(conn, server.id)
    assert plane.left() == {"mdevs": FOREIGN}
    assert plane.usage(conn, HOST) == 0
