"""Domains as XML: what is written is read back as it was meant, whatever stands in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.agent.hypervisor import Device
from lamina.agent.hypervisors.domain_xml import SPARE_PORTS, Frame, definition, read
from lamina.model import ids
from lamina.model.errors import HypervisorError
from lamina.model.gpus import Framework
from lamina.model.hosts import Console, DomainSpec, Nic

SERVER = ids.new_uuid()
MDEV = Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid())
VF = Device(ids.new_uuid(), Framework.VFIO, "0000:26:02.3")
FRAME = Frame("kvm", {"public": ("bridge", "br0"), "inner": ("network", "default")}, Path("/state/console.log"))
SPEC = DomainSpec(SERVER, "lamina-s", 4, 2048, 10, (MDEV.uuid, VF.uuid), running=True)


def tree(spec: DomainSpec = SPEC, frame: Frame = FRAME, *devices: Device) -> ET.Element:
    return ET.fromstring(definition(spec, devices, frame))  # noqa: S314


def test_what_is_asked_for_is_there() -> None:
    domain = tree(SPEC, FRAME, MDEV, VF)
    assert (domain.get("type"), domain.findtext("name"), domain.findtext("uuid")) == ("kvm", "lamina-s", SERVER)
    assert (domain.findtext("vcpu"), domain.findtext("memory")) == ("4", "2048")
    mdev, vf = domain.findall("devices/hostdev")
    assert mdev.attrib == {"mode": "subsystem", "type": "mdev", "managed": "no", "model": "vfio-pci", "display": "off"}
    assert mdev.find("source/address").attrib == {"uuid": MDEV.handle}  # type: ignore[union-attr]
    assert vf.attrib == {"mode": "subsystem", "type": "pci", "managed": "no"}
    address = {"domain": "0x0", "bus": "0x26", "slot": "0x2", "function": "0x3"}
    assert vf.find("source/address").attrib == address  # type: ignore[union-attr]
    assert [a.get("name") for a in domain.findall("devices/hostdev/alias")] == ["ua-vgpu-0", "ua-vgpu-1"]


def test_the_root_of_pci_comes_before_the_ports_that_are_kept_free() -> None:
    """libvirt numbers controllers as they come, and refuses another model than the root's for number 0."""
    models = [controller.get("model") for controller in tree().findall("devices/controller[@type='pci']")]
    assert models == ["pcie-root", *["pcie-root-port"] * SPARE_PORTS]


def test_it_is_known_again() -> None:
    described = read(definition(SPEC, [MDEV, VF], FRAME))
    assert described.ours
    assert list(described.vgpus.items()) == [(MDEV.uuid, MDEV.handle), (VF.uuid, VF.handle)]
    assert described.handles == {MDEV.handle, VF.handle}
    assert described.console is None


def test_the_mark_of_another_domain_is_not_ours() -> None:
    copied = definition(SPEC, [], FRAME).replace(f"<uuid>{SERVER}</uuid>", f"<uuid>{ids.new_uuid()}</uuid>")
    assert not read(copied).ours
    assert not read("<domain><uuid>x</uuid></domain>").ours


@pytest.mark.parametrize(
    "change",
    [{"vcpus": 5}, {"memory_mb": 1024}, {"disk_gb": 11}, {"name": "other"}, {"nics": (Nic("public", "fa:16:3e:00:00:01"),)}],
    ids=str,
)
def test_another_definition_has_another_digest(change: dict[str, object]) -> None:
    same, other = read(definition(SPEC, [MDEV], FRAME)), read(definition(dataclasses.replace(SPEC, **change), [MDEV], FRAME))  # type: ignore[arg-type]
    assert same.digest == read(definition(SPEC, [MDEV], FRAME)).digest != other.digest


def test_whether_it_runs_is_not_part_of_the_definition() -> None:
    stopped = dataclasses.replace(SPEC, running=False)
    assert read(definition(SPEC, [], FRAME)).digest == read(definition(stopped, [], FRAME)).digest


def test_disk_drive_and_display() -> None:
    frame = dataclasses.replace(FRAME, disk=Path("/state/disk.qcow2"), config_drive=Path("/state/config.iso"), vnc="127.0.0.1")
    domain = tree(SPEC, frame)
    disk, drive = domain.findall("devices/disk")
    assert (disk.find("driver").get("type"), disk.find("source").get("file")) == ("qcow2", "/state/disk.qcow2")  # type: ignore[union-attr]
    assert (drive.get("device"), drive.find("readonly") is not None) == ("cdrom", True)
    (graphics,) = domain.findall("devices/graphics")
    assert (graphics.get("type"), graphics.get("listen"), graphics.get("autoport")) == ("vnc", "127.0.0.1", "yes")
    assert domain.find("devices/serial/source").get("path") == "/state/console.log"  # type: ignore[union-attr]


def test_networks_by_their_kind() -> None:
    spec = dataclasses.replace(SPEC, nics=(Nic("public", "fa:16:3e:00:00:01"), Nic("inner", "fa:16:3e:00:00:02")))
    first, second = tree(spec).findall("devices/interface")
    assert (first.get("type"), first.find("source").attrib) == ("bridge", {"bridge": "br0"})  # type: ignore[union-attr]
    assert (second.get("type"), second.find("source").attrib) == ("network", {"network": "default"})  # type: ignore[union-attr]
    with pytest.raises(HypervisorError, match="no network 'nowhere'"):
        tree(dataclasses.replace(SPEC, nics=(Nic("nowhere", "fa:16:3e:00:00:01"),)))


def test_near_to_the_gpu() -> None:
    domain = tree(SPEC, dataclasses.replace(FRAME, numa=(1, "8-15,24-31")))
    assert domain.find("vcpu").get("cpuset") == "8-15,24-31"  # type: ignore[union-attr]
    assert domain.find("numatune/memory").attrib == {"mode": "preferred", "nodeset": "1"}  # type: ignore[union-attr]


def test_a_live_display_is_found() -> None:
    said = "<domain><uuid>u</uuid><devices><graphics type='vnc' port='5901' listen='10.0.0.1'/></devices></domain>"
    assert read(said).console == Console("vnc", "10.0.0.1", 5901)
    assert read(said.replace("5901", "-1")).console is None


@pytest.mark.parametrize(
    "said",
    [
        "",
        "<domain",
        "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/shadow'>]><domain><uuid>&x;</uuid></domain>",
        "<domain>" + " " * (1 << 20) + "</domain>",
    ],
    ids=["nothing", "half", "entity", "long"],
)
def test_what_is_no_domain_is_refused(said: str) -> None:
    with pytest.raises(HypervisorError):
        read(said)


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
@pytest.mark.weakness(91)
def test_no_text_breaks_out_of_its_place(name: str, bridge: str) -> None:
    spec = dataclasses.replace(SPEC, name=name, nics=(Nic("n", "fa:16:3e:00:00:01"),))
    frame = dataclasses.replace(FRAME, networks={"n": ("bridge", bridge)})
    try:
        xml = definition(spec, [MDEV], frame)
    except HypervisorError:
        assert any(not (c.isprintable() or c.isspace()) or ord(c) < 32 for c in name + bridge), "only what XML cannot hold is refused"
        return
    domain = ET.fromstring(xml)  # noqa: S314
    assert len(domain.findall("devices/hostdev")) == 1
    assert len(domain.findall("devices/interface")) == 1
    found = (domain.findtext("name") or "").replace("\r\n", "\n").replace("\r", "\n")
    assert found == name.replace("\r\n", "\n").replace("\r", "\n")
    assert domain.find("devices/interface/source").get("bridge") == bridge.replace("\r\n", "\r\n")  # type: ignore[union-attr]
    assert read(xml).ours
