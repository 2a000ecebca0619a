"""libvirt on the lab's machine, as a contract wants it: with nothing defined before and after."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from lamina.agent import configuration
from lamina.agent.hypervisor import Hypervisor
from lamina.agent.images import LocalImages
from lamina.model.clock import SystemClock

SETTINGS = "host = 'lab'\nshutdown_grace = 0.5\n"


@contextmanager
def on_libvirt(state: Path) -> Iterator[tuple[Hypervisor, Callable[[str, str], None]]]:
    """The hypervisor, and a way for somebody else to define and start a domain."""
    import libvirt

    from lamina.agent.hypervisors import libvirt as ours

    known = configuration.parse(SETTINGS)
    connection = libvirt.open(known.libvirt_uri)

    def define(uuid: str, name: str) -> None:
        domain = ET.Element("domain", type="qemu")
        for tag, text in (("name", name), ("uuid", uuid), ("memory", "65536"), ("vcpu", "1")):
            ET.SubElement(domain, tag).text = text
        ET.SubElement(ET.SubElement(domain, "os"), "type", arch="x86_64", machine="q35").text = "hvm"
        connection.defineXML(ET.tostring(domain, encoding="unicode")).create()

    _clear(connection)
    try:
        with mock.patch.object(ours, "LET_GO", 2.0):
            yield ours.LibvirtHypervisor(known, state, LocalImages(state / "glance"), SystemClock()), define
    finally:
        _clear(connection)
        connection.close()


def _clear(connection: Any) -> None:
    import libvirt

    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
