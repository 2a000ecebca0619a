"""Domains as libvirt describes them: built as a tree, read without entities.

Source: libvirt, "Domain XML format". What is ours carries a mark in its metadata: the vGPUs in their order, and a digest of
the whole definition, by which one defined otherwise is told.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from lamina.agent.hypervisor import Device
from lamina.model.errors import BadRequest, HypervisorError
from lamina.model.gpus import Framework
from lamina.model.hosts import Console, DomainSpec
from lamina.model.ids import PciAddress

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

NAMESPACE = "urn:lamina:domain:1"
_OURS = f"{{{NAMESPACE}}}server"
_VGPU = f"{{{NAMESPACE}}}vgpu"
ET.register_namespace("lamina", NAMESPACE)

#: PCI Express ports beside those that its devices need: without one no device can be given to a domain that runs
SPARE_PORTS = 4
#: a domain's XML is some kilobytes; what is longer than this is not read
MOST_XML = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """What a definition takes from its host."""

    #: ``kvm``, or ``qemu`` where there is none
    virt_type: str
    #: name of a network -> (``bridge`` or ``network``, what the host calls it)
    networks: dict[str, tuple[str, str]]
    console_log: Path
    disk: Path | None = None
    #: what is booted from in its place
    rescue_disk: Path | None = None
    config_drive: Path | None = None
    #: address that the display listens on; None where there is no display
    vnc: str | None = None
    #: NUMA node to be near to, and its CPUs as Linux lists them (``0-7,16-23``)
    numa: tuple[int, str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """What was read of a domain. `vgpus` maps uuid -> handle of ours; `handles` are the devices of any domain."""

    ours: bool
    digest: str | None
    vgpus: dict[str, str]
    handles: frozenset[str]
    console: Console | None


def definition(spec: DomainSpec, devices: Sequence[Device], frame: Frame) -> str:
    """The XML of a domain. Raises `HypervisorError` for a network the host lacks and for text that XML cannot hold."""
    domain = ET.Element("domain", type=frame.virt_type)
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.server_id)
    metadata = ET.SubElement(domain, "metadata")
    _text(domain, "memory", str(spec.memory_mb), unit="MiB")
    vcpu = _text(domain, "vcpu", str(spec.vcpus), placement="static")
    if frame.numa is not None:
        node, cpus = frame.numa
        vcpu.set("cpuset", cpus)
        ET.SubElement(ET.SubElement(domain, "numatune"), "memory", mode="preferred", nodeset=str(node))
    system = ET.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    ET.SubElement(system, "boot", dev="hd")
    features = ET.SubElement(domain, "features")
    for name in ("acpi", "apic"):
        ET.SubElement(features, name)
    if frame.virt_type == "kvm":
        ET.SubElement(domain, "cpu", mode="host-model", check="partial")
    clock = ET.SubElement(domain, "clock", offset="utc")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, action)
    _devices(ET.SubElement(domain, "devices"), spec, devices, frame)
    digest = hashlib.sha256(_written(domain).encode() + f" {spec.disk_gb}".encode()).hexdigest()
    ours = ET.SubElement(metadata, _OURS, id=spec.server_id, definition=digest)
    for device in devices:
        ET.SubElement(ours, _VGPU, uuid=device.uuid, handle=device.handle)
    return _written(domain)


def read(xml: str) -> Described:
    """Raises `HypervisorError` for what is no domain's XML."""
    domain = _root(xml)
    ours = domain.find(f"metadata/{_OURS}")
    vgpus = {v.get("uuid", ""): v.get("handle", "") for v in ours.findall(_VGPU)} if ours is not None else {}
    return Described(
        ours=ours is not None and ours.get("id") == domain.findtext("uuid"),
        digest=ours.get("definition") if ours is not None else None,
        vgpus=vgpus,
        handles=frozenset(handle for each in domain.findall("devices/hostdev") for handle in _handles(each)),
        console=_console(domain),
    )


def _root(xml: str) -> Element:
    if len(xml) > MOST_XML:
        raise HypervisorError(f"libvirt described a domain in {len(xml)} bytes, which nobody has to read.")
    try:
        domain: Element = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except (ET.ParseError, DefusedXmlException, ValueError) as error:
        raise HypervisorError(f"libvirt's description of a domain cannot be read: {error}") from error
    return domain


def hostdev(device: Device, number: int) -> str:
    """The XML of the `number`-th vGPU of a domain, to be attached while it runs."""
    parent = ET.Element("devices")
    _hostdev(parent, device, number)
    return _written(parent[0])


def hostdevs(xml: str) -> dict[str, str]:
    """Handle -> XML of each device in a domain's XML, as libvirt wants it back to detach it. Raises `HypervisorError`."""
    return {handle: _written(element) for element in _root(xml).findall("devices/hostdev") for handle in _handles(element)}


def backup(disks: Sequence[str], into: Path) -> str:
    """What libvirt is to copy of a running domain, and where to: its one disk, whole (libvirt, "Backup XML format")."""
    if len(disks) != 1:
        raise HypervisorError(f"The domain has {len(disks)} disks of its own, and one is copied.")
    wanted = ET.Element("domainbackup", mode="push")
    disk = ET.SubElement(ET.SubElement(wanted, "disks"), "disk", name=disks[0], backup="yes", type="file")
    ET.SubElement(disk, "driver", type="qcow2")
    ET.SubElement(disk, "target", file=str(into))
    return _written(wanted)


def own_disks(xml: str) -> list[str]:
    """What the guest's writable disks are called, which no two hosts share. Raises `HypervisorError`."""
    disks = [disk for disk in _root(xml).findall("devices/disk") if disk.find("readonly") is None]
    return [target.get("dev", "") for disk in disks for target in disk.findall("target")]


def moved(here: str, there: str) -> str:
    """A domain's XML `here` with all that is its host's taken from the definition that awaits it `there`.

    What the guest sees, PCI addresses among it, stays; its vGPUs, disks and interfaces become those of the other host, each in
    the place of its counterpart. Raises `HypervisorError` where one has none.
    """
    domain, awaited = _root(here), _root(there)
    _take(domain, awaited, "metadata")
    _take(domain, awaited, "numatune")
    vcpu, wanted = domain.find("vcpu"), awaited.find("vcpu")
    if vcpu is not None and wanted is not None:
        vcpu.attrib.pop("cpuset", None)
        vcpu.attrib |= {name: value for name, value in wanted.attrib.items() if name == "cpuset"}
    for path, key, attribute in _COUNTERPARTS:
        others = {each.get(attribute): parent for parent in awaited.findall(path) for each in parent.findall(key)}
        for element in domain.findall(path):
            name = next((each.get(attribute) for each in element.findall(key)), None)
            if path == "devices/hostdev" and not (name or "").startswith("ua-vgpu-"):
                raise HypervisorError("The domain has a device of its host that is no vGPU, and cannot leave with it.")
            if name not in others:
                raise HypervisorError(f"The domain's {element.tag} {name} has no counterpart where it is awaited.")
            element.set("type", others[name].get("type", ""))
            _take(element, others[name], "source")
    for serial in awaited.findall("devices/serial"):  # libvirt shows the serial port a second time, as the console
        for console in domain.findall("devices/console"):
            _take(console, serial, "source")
    _take_display(domain, awaited)
    return _written(domain)


def _take_display(domain: Element, awaited: Element) -> None:
    """Where it listens. Having one or not is the guest's own."""
    shown, wanted = domain.find("devices/graphics"), awaited.find("devices/graphics")
    if (shown is None) != (wanted is None):
        raise HypervisorError("One of the two hosts gives its domains a display and the other does not.")
    if shown is not None and wanted is not None:
        shown.set("listen", wanted.get("listen", "127.0.0.1"))
        _take(shown, wanted, "listen")


#: path of a device -> what tells it from others of its kind
_COUNTERPARTS = (
    ("devices/hostdev", "alias", "name"),
    ("devices/interface", "mac", "address"),
    ("devices/disk", "target", "dev"),
    ("devices/serial", "target", "port"),
)


def _take(element: Element, other: Element, name: str) -> None:
    """Have the other's child of this name in the place of one's own."""
    children = list(element)
    place = next((number for number, child in enumerate(children) if child.tag == name), len(children))
    for child in element.findall(name):
        element.remove(child)
    found = other.find(name)
    if found is not None:
        element.insert(place, found)


def _devices(parent: Element, spec: DomainSpec, devices: Sequence[Device], frame: Frame) -> None:
    ET.SubElement(parent, "controller", type="usb", model="none")
    # libvirt numbers them as they come, and number 0 must be the root
    ET.SubElement(parent, "controller", type="pci", model="pcie-root")
    for _ in range(SPARE_PORTS):
        ET.SubElement(parent, "controller", type="pci", model="pcie-root-port")
    disks = [path for path in (frame.rescue_disk, frame.disk) if path is not None]
    for path, target in zip(disks, ("vda", "vdb"), strict=False):
        _disk(parent, path, "qcow2", "disk", target, "virtio")
    if frame.config_drive is not None:
        _disk(parent, frame.config_drive, "raw", "cdrom", "sda", "sata")
    for nic in spec.nics:
        if nic.network not in frame.networks:
            raise HypervisorError(f"This host has no network {nic.network!r}.")
        kind, name = frame.networks[nic.network]
        interface = ET.SubElement(parent, "interface", type=kind)
        ET.SubElement(interface, "mac", address=nic.mac)
        ET.SubElement(interface, "source", {kind: name})
        ET.SubElement(interface, "model", type="virtio")
    serial = ET.SubElement(parent, "serial", type="file")
    ET.SubElement(serial, "source", path=str(frame.console_log), append="on")
    ET.SubElement(serial, "target", port="0")
    _display(parent, frame.vnc)
    for number, device in enumerate(devices):
        _hostdev(parent, device, number)
    ET.SubElement(parent, "memballoon", model="none")
    ET.SubElement(ET.SubElement(parent, "rng", model="virtio"), "backend", model="random").text = "/dev/urandom"


def _disk(parent: Element, path: Path, driver: str, device: str, target: str, bus: str) -> None:
    disk = ET.SubElement(parent, "disk", type="file", device=device)
    ET.SubElement(disk, "driver", name="qemu", type=driver)
    ET.SubElement(disk, "source", file=str(path))
    ET.SubElement(disk, "target", dev=target, bus=bus)
    if device == "cdrom":
        ET.SubElement(disk, "readonly")


def _display(parent: Element, vnc: str | None) -> None:
    model = "none"
    if vnc is not None:
        graphics = ET.SubElement(parent, "graphics", type="vnc", autoport="yes", listen=vnc)
        ET.SubElement(graphics, "listen", type="address", address=vnc)
        model = "vga"
    ET.SubElement(ET.SubElement(parent, "video"), "model", type=model)


def _hostdev(parent: Element, device: Device, number: int) -> None:
    """``managed='no'``: a VF stays with the vendor's driver; bound to another it would lose its vGPU."""
    if device.framework is Framework.MDEV:
        hostdev = ET.SubElement(parent, "hostdev", mode="subsystem", type="mdev", managed="no", model="vfio-pci", display="off")
        ET.SubElement(ET.SubElement(hostdev, "source"), "address", uuid=device.handle)
    else:
        at = PciAddress.parse(device.handle)
        hostdev = ET.SubElement(parent, "hostdev", mode="subsystem", type="pci", managed="no")
        where = {"domain": at.domain, "bus": at.bus, "slot": at.slot, "function": at.function}
        ET.SubElement(ET.SubElement(hostdev, "source"), "address", {name: hex(value) for name, value in where.items()})
    # an alias of ours stays the same however libvirt numbers its own
    ET.SubElement(hostdev, "alias", name=f"ua-vgpu-{number}")


def _handles(hostdev: Element) -> list[str]:
    found = []
    for address in hostdev.findall("source/address") if hostdev.get("mode") == "subsystem" else ():
        if "uuid" in address.attrib:
            found.append(address.attrib["uuid"])
        elif "bus" in address.attrib:
            try:
                parts = [int(address.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function")]
                found.append(str(PciAddress(*parts)))
            except (ValueError, BadRequest) as error:
                raise HypervisorError(f"libvirt gave a device an address that is none: {error}") from error
    return found


def _console(domain: Element) -> Console | None:
    for graphics in domain.findall("devices/graphics"):
        port = graphics.get("port", "-1")
        if graphics.get("type") in ("vnc", "spice") and port.isdecimal():
            return Console(graphics.get("type", ""), graphics.get("listen", "127.0.0.1"), int(port))
    return None


def _text(parent: Element, name: str, text: str, **attributes: str) -> Element:
    element = ET.SubElement(parent, name, attributes)
    element.text = text
    return element


def _written(domain: Element) -> str:
    """XML 1.0 has no control characters but three, however they are escaped. Raises `HypervisorError`."""
    for element in domain.iter():
        for text in (element.text or "", *element.attrib.values()):
            if any((ord(c) < 0x20 and c not in "\t\n\r") or 0xD800 <= ord(c) <= 0xDFFF or ord(c) in (0xFFFE, 0xFFFF) for c in text):
                raise HypervisorError(f"A value of the domain's {element.tag} cannot be written as XML.")
    written = ET.tostring(domain, encoding="unicode")
    if len(written) > MOST_XML:
        raise HypervisorError(f"The domain's description would be {len(written)} bytes long, which nobody has to read.")
    return written
