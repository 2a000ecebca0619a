"""XML parsers that expand entities let a document fill the memory or read files (CVE-2013-1664, CVE-2013-4179; in libvirt CVE-2014-5177,
virNodeDeviceCreateXML among others), and a newline in a name became a line of dnsmasq's configuration in Neutron (CVE-2021-40085).

Here XML is read by a parser without DTD and entities and within a bound; what is written is read back, and every value is one text of one
element, whatever stands in it; what a file of the host is made of has no newline.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree as ET

import defusedxml.ElementTree
import pytest

from lamina.agent import configuration
from lamina.agent.hypervisor import Device
from lamina.agent.hypervisors import domain_xml
from lamina.agent.hypervisors.domain_xml import MOST_XML, Frame
from lamina.model import config_drive, ids
from lamina.model.errors import BadRequest, HypervisorError
from lamina.model.gpus import Framework
from lamina.model.hosts import DomainSpec, Nic
from tests.faults.world import ONE
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

HOSTILE = (
    "]]><hostdev/>",
    "</name><name>x",
    '" type="x" y="',
    "&xxe;",
    "&amp;&#10;",
    "<!DOCTYPE x>",
    "a\nb",
    "--><!--",
    "ä€😀",
    "../../etc/passwd",
    "'; DROP TABLE servers; --",
    "$(reboot)",
)
EXPANDING = '<!DOCTYPE domain [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><domain><uuid>&b;</uuid></domain>'
READING = '<!DOCTYPE domain [<!ENTITY f SYSTEM "file:///etc/passwd">]><domain><uuid>&f;</uuid></domain>'
ELSEWHERE = '<!DOCTYPE domain SYSTEM "http://192.0.2.1/x.dtd"><domain/>'


def written_is_read_back(text: str) -> None:
    server_id = ids.new_uuid()
    device = Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid())
    spec = DomainSpec(server_id, text, 1, 64, 1, (device.uuid,), running=True, nics=(Nic("net", "fa:16:3e:00:00:01"),))
    frame = Frame("kvm", {"net": ("bridge", text)}, Path("/state") / "console.log", disk=Path("/state") / "disk")
    xml = domain_xml.definition(spec, [device], frame)
    plain = domain_xml.definition(DomainSpec(server_id, "plain", 1, 64, 1, (device.uuid,), True, nics=spec.nics), [device], frame)
    tree, other = ET.fromstring(xml), ET.fromstring(plain)  # noqa: S314 - both are our own
    assert tree.findtext("name") == text.replace("\r", "\n")
    assert [element.tag for element in tree.iter()] == [element.tag for element in other.iter()], "a value became an element"
    described = domain_xml.read(xml)
    assert described.ours
    assert described.handles == {device.handle}


def check(stage: Stage) -> None:
    for text in HOSTILE:
        written_is_read_back(text)
    for xml in (EXPANDING, READING, ELSEWHERE, "<domain>" + " " * MOST_XML + "</domain>"):
        try:
            read = domain_xml.read(xml)
        except HypervisorError:
            continue
        raise AssertionError(f"{xml[:60]} was read: {read}")
    for control in "\0\x08\x1b\ufffe":
        with pytest.raises(HypervisorError):
            written_is_read_back(f"a{control}b")
    no_line_of_another_file(stage)


def no_line_of_another_file(stage: Stage) -> None:
    """The settings name bridges and networks of the host; the config drive is JSON, whatever the server is called."""
    for name in ("br0\nx", "br0 x", "../br0", "br0/x", ""):
        for kind in ("bridge", "libvirt"):
            try:
                configuration.parse(f"[networks.net]\n{kind} = {json.dumps(name)}\n")
            except BadRequest:
                continue
            raise AssertionError(f"{name!r} is taken for a {kind}")
    world = stage.world()
    for text in HOSTILE:
        server = world.create(ONE)[0]
        files = config_drive.files(server.__class__(**{**_fields(server), "name": text, "metadata": {text: text}}), [])
        told = json.loads(files["openstack/latest/meta_data.json"])
        assert (told["name"], told["meta"]) == (text, {text: text})
        assert not any(".." in path or "\n" in path for path in files)


def _fields(server: Any) -> dict[str, Any]:
    return {name: getattr(server, name) for name in server.__dataclass_fields__}


def broken() -> AbstractContextManager[Any]:
    """XML is read with entities"""
    return mock.patch.object(defusedxml.ElementTree, "fromstring", lambda xml, **_: ET.fromstring(xml))  # noqa: S314 - that is the fault


ROW = Row(
    18,
    ("CVE-2013-1664", "CVE-2013-4179", "CVE-2014-5177", "CVE-2021-40085"),
    707,
    "entities in XML, and newlines in what files are made of",
    check,
    broken,
)


@pytest.mark.weakness(611)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
