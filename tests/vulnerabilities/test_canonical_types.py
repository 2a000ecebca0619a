"""Nova wrote a security group's rule down with the protocol as it was typed, and the code that put rules into force knew ``tcp`` and not
``TCP``: the rule was silently without effect.

Here a word is parsed once, at the door, into the one form that there is of it, or it is refused; it never goes on as it was typed. So it
is for PCI addresses, uuids, versions, resource classes and traits, protocols of consoles, and values that are true or false.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.api.routing import Version
from lamina.model import ids, resources
from lamina.model.errors import BadRequest
from lamina.model.ids import PciAddress
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Cloud, Stage

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
#: parse, what it gives, the ways in which that may be written, and what looks like it and is none
FORMS: tuple[tuple[Callable[[str], Any], Any, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        PciAddress.parse,
        PciAddress(0, 0x8A, 0, 1),
        ("0000:8a:00.1", "0000:8A:00.1"),
        (
            "0000:8a:00.1\n",
            "0000:8a:00x1",
            "8a:00.1",
            " 0000:8a:00.1",
            "0000:8a:00.8",
            "0000:8a:20.1",
            "0000:8a:00.1_junk",
            "\u0660000:8a:00.1",
        ),
    ),
    (
        PciAddress.parse_node_device,
        PciAddress(0, 6, 0, 0),
        ("pci_0000_06_00_0",),
        ("pci_0000_06_00_0_junk", "pci_0000_06_00_0\n", "PCI_0000_06_00_0", "node_1_pci_0000_06_00_0"),
    ),
    (
        ids.parse_uuid,
        ID,
        (ID, ID.upper(), ID.replace("-", "")),
        (ID + "\n", "{" + ID + "}", "urn:uuid:" + ID, ID[:-1], ID.replace("0", "\u0966", 1)),
    ),
    (Version.parse, Version(2, 10), ("2.10",), ("2.1O", "2.10\n", "2,10", "2", "2.-1", "\u0662.10")),
    (resources.parse_trait, "CUSTOM_NVIDIA_11", ("CUSTOM_NVIDIA_11",), ("custom_nvidia_11", "CUSTOM_NVIDIA_11\n", "CUSTOM-NVIDIA-11")),
    (resources.parse_resource_class, "VGPU", ("VGPU",), ("vgpu", "VGPU ", "VGPU\n")),
    (ids.parse_host_name, "node-1", ("node-1",), ("node-1\n", "node 1", "-node", "nöde")),
)


def check(stage: Stage) -> None:
    assert Version.parse("2.10") > Version.parse("2.9"), "versions are compared as numbers"
    for parse, value, forms, others in FORMS:
        for text in forms:
            assert parse(text) == value
            assert str(parse(text)) == str(value)
        for text in others:
            try:
                parsed = parse(text)
            except BadRequest:
                continue
            raise AssertionError(f"{text!r} is taken for {parsed}")
    with stage.cloud() as cloud:
        words_of_the_api(cloud)


def words_of_the_api(cloud: Cloud) -> None:
    """A word in another case is another word, and is refused; ``"False"`` is not true."""
    server_id = cloud.boot()
    path = f"/compute/v2.1/servers/{server_id}"
    for form in (server_id.upper(), uuid.UUID(server_id).hex):
        assert cloud.ask("GET", f"/compute/v2.1/servers/{form}").json()["server"]["id"] == server_id
    for protocol, kind in (("VNC", "novnc"), ("vnc", "NoVNC"), ("vnc ", "novnc")):
        answer = cloud.ask("POST", f"{path}/remote-consoles", {"remote_console": {"protocol": protocol, "type": kind}})
        assert answer.status_code == 400
        assert "Invalid console type" in answer.text
    for body in ({"reboot": {"type": "soft!"}}, {"Reboot": {"type": "SOFT"}}, {"os-Stop": None}):
        assert cloud.ask("POST", f"{path}/action", body).status_code in (400, 404), body
    for value in ("False", "false", False):
        wanted = {"name": "plain", "flavorRef": "small", "networks": "none", "imageRef": "", "config_drive": value}
        assert cloud.ask("POST", "/compute/v2.1/servers", {"server": wanted}).status_code in (202, 400)
    cloud.world.settle()
    listed = cloud.ask("GET", "/compute/v2.1/servers/detail").json()["servers"]
    assert not any(each["config_drive"] for each in listed)


class _EndOfLine:
    """A regular expression that ends with ``$`` where it should be matched as a whole."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = re.compile(pattern.pattern + "$")

    def fullmatch(self, text: str) -> re.Match[str] | None:
        return self._pattern.match(text)


def broken() -> AbstractContextManager[Any]:
    """a PCI address may end in a newline"""
    return mock.patch.object(ids, "_PCI", _EndOfLine(ids._PCI))


ROW = Row(15, ("CVE-2012-2654", "OSSA-2012-007"), 697, "a word in another case is silently without effect", check, broken)


@pytest.mark.weakness(178)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
