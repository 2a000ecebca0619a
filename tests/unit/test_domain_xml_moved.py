"""A domain's XML on its way to another host: what is the host's becomes the other host's, what the guest sees stays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lamina.agent.hypervisor import Device
from lamina.agent.hypervisors.domain_xml import Frame, backup, definition, moved, own_disks, read
from lamina.model import ids
from lamina.model.errors import HypervisorError
from lamina.model.gpus import Framework
from lamina.model.hosts import DomainSpec, Nic

SERVER = ids.new_uuid()
HERE = [Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid()), Device(ids.new_uuid(), Framework.VFIO, "0000:26:02.3")]
THERE = [Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid()), Device(ids.new_uuid(), Framework.VFIO, "0000:c1:00.4")]
NICS = (Nic("public", "fa:16:3e:00:00:01"), Nic("inner", "fa:16:3e:00:00:02"))
SPEC = DomainSpec(SERVER, "lamina-s", 4, 2048, 10, tuple(d.uuid for d in HERE), running=True, nics=NICS)
FRAME = Frame(
    virt_type="kvm",
    networks={"public": ("bridge", "br0"), "inner": ("network", "default")},
    console_log=Path("/here/console.log"),
    disk=Path("/here/disk.qcow2"),
    config_drive=Path("/here/config.iso"),
    vnc="10.0.0.1",
    numa=(0, "0-7"),
)
OTHER = Frame(
    virt_type="kvm",
    networks={"public": ("network", "lan"), "inner": ("bridge", "br7")},
    console_log=Path("/there/console.log"),
    disk=Path("/there/disk.qcow2"),
    config_drive=Path("/there/config.iso"),
    vnc="10.0.0.2",
)
AWAITED = definition(dataclasses.replace(SPEC, vgpus=tuple(d.uuid for d in THERE)), THERE, OTHER)


def live() -> ET.Element:
    """As libvirt tells of a domain that runs: with PCI addresses, and the console a second time."""
    domain = ET.fromstring(definition(SPEC, HERE, FRAME))  # noqa: S314
    devices = domain.find("devices")
    assert devices is not None
    for number, element in enumerate(e for e in devices if e.tag in ("hostdev", "interface", "disk")):
        ET.SubElement(element, "address", type="pci", domain="0x0000", bus=f"0x{number + 1:02x}", slot="0x00", function="0x0")
    console = ET.SubElement(devices, "console", type="file")
    ET.SubElement(console, "source", path="/here/console.log")
    ET.SubElement(console, "target", type="serial", port="0")
    return domain


def text(domain: ET.Element) -> str:
    return ET.tostring(domain, encoding="unicode")


def test_what_is_the_hosts_becomes_the_other_hosts() -> None:
    written = moved(text(live()), AWAITED)
    domain = ET.fromstring(written)  # noqa: S314
    assert "/here/" not in written
    described = read(written)
    assert described.ours
    assert described.vgpus == {d.uuid: d.handle for d in THERE}
    assert described.handles == {d.handle for d in THERE}
    assert described.digest == read(AWAITED).digest, "the other host takes it for what it awaits"
    reached = [(i.get("type"), next(iter(i.find("source").attrib.values()))) for i in domain.findall("devices/interface")]  # type: ignore[union-attr]
    assert reached == [("network", "lan"), ("bridge", "br7")]
    assert [d.find("source").get("file") for d in domain.findall("devices/disk")] == ["/there/disk.qcow2", "/there/config.iso"]  # type: ignore[union-attr]
    assert domain.find("numatune") is None
    assert domain.find("vcpu").attrib == {"placement": "static"}  # type: ignore[union-attr]
    graphics = domain.find("devices/graphics")
    assert graphics is not None
    assert (graphics.get("listen"), graphics.find("listen").get("address")) == ("10.0.0.2", "10.0.0.2")  # type: ignore[union-attr]


def test_what_the_guest_sees_stays() -> None:
    before, after = live(), ET.fromstring(moved(text(live()), AWAITED))  # noqa: S314
    for path in ("devices/hostdev", "devices/interface", "devices/disk"):
        seen = [[ET.tostring(a) for a in element.findall("address")] for element in before.findall(path)]
        assert [[ET.tostring(a) for a in element.findall("address")] for element in after.findall(path)] == seen
    assert after.findtext("memory") == before.findtext("memory")
    assert [e.tag for e in after.find("devices") or ()] == [e.tag for e in before.find("devices") or ()]


def test_what_a_server_is_rescued_with_comes_before_its_own_disk() -> None:
    frame = dataclasses.replace(FRAME, rescue_disk=Path("/here/rescue.qcow2"))
    domain = ET.fromstring(definition(SPEC, HERE, frame))  # noqa: S314
    disks = [(d.find("source").get("file"), d.find("target").get("dev")) for d in domain.findall("devices/disk")]  # type: ignore[union-attr]
    assert disks[:2] == [("/here/rescue.qcow2", "vda"), ("/here/disk.qcow2", "vdb")]
    assert read(definition(SPEC, HERE, frame)).digest != read(definition(SPEC, HERE, FRAME)).digest


def test_one_disk_is_backed_up() -> None:
    xml = ET.fromstring(backup(["vda"], Path("/here/copy & more.qcow2")))  # noqa: S314
    (disk,) = xml.findall("disks/disk")
    assert (xml.get("mode"), disk.get("name"), disk.find("target").get("file")) == ("push", "vda", "/here/copy & more.qcow2")  # type: ignore[union-attr]
    for disks in ([], ["vda", "vdb"]):
        with pytest.raises(HypervisorError, match="one is copied"):
            backup(disks, Path("/here/copy"))


def test_its_own_disks_are_those_that_it_writes_to() -> None:
    assert own_disks(text(live())) == ["vda"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vgpus": (HERE[0].uuid,)}, "hostdev ua-vgpu-1 has no counterpart"),
        ({"nics": NICS[:1]}, "interface fa:16:3e:00:00:02 has no counterpart"),
    ],
    ids=["vgpu", "interface"],
)
def test_what_is_not_awaited_is_not_left_behind(change: dict[str, object], why: str) -> None:
    devices = THERE[: len(change.get("vgpus", THERE))]  # type: ignore[arg-type]
    with pytest.raises(HypervisorError, match=why):
        moved(text(live()), definition(dataclasses.replace(SPEC, **change), devices, OTHER))  # type: ignore[arg-type]


def test_a_domain_without_a_display_does_not_get_one_on_its_way() -> None:
    with pytest.raises(HypervisorError, match="display"):
        moved(text(live()), definition(SPEC, THERE, dataclasses.replace(OTHER, vnc=None)))


def test_a_device_that_somebody_else_has_given_it_keeps_it_here() -> None:
    domain = live()
    added = ET.SubElement(domain.find("devices"), "hostdev", mode="subsystem", type="usb")  # type: ignore[arg-type]
    ET.SubElement(added, "alias", name="hostdev0")
    with pytest.raises(HypervisorError, match="a device of its host that is no vGPU"):
        moved(text(domain), AWAITED)


def test_what_awaits_it_is_read_without_entities() -> None:
    with pytest.raises(HypervisorError, match="cannot be read"):
        moved(text(live()), '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><domain><name>&e;</name></domain>')
