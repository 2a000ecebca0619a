"""Identifiers: exactly the grammar is taken, and what is taken has one form."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import ids
from lamina.model.errors import BadRequest
from lamina.model.ids import PciAddress

addresses = st.builds(PciAddress, st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7))

#: near misses: what a careless pattern lets through
WRONG_ADDRESSES = [
    "",
    "0000:06:00.0\n",
    "\n0000:06:00.0",
    " 0000:06:00.0",
    "0000:06:00x0",
    "0000:06:00.8",
    "0000:06:20.0",
    "0000:06:00.00",
    "06:00.0",
    "00000000:06:00.0",
    "0000:06:00.0/..",
    "0000:06:00.0\0",
    "0000:6:00.0",
    "\uff10000:06:00.0",
    "000\u0661:06:00.0",
    "pci_0000_06_00_0",
]
WRONG_NODE_DEVICES = ["pci_0000_06_00_0_junk", "pci_0000_06_00_0\n", "xpci_0000_06_00_0", "pci_0000_06_20_0", "pci_0000:06:00.0"]


@given(addresses)
def test_an_address_survives_both_of_its_forms(address: PciAddress) -> None:
    assert PciAddress.parse(str(address)) == address
    assert PciAddress.parse(str(address).upper()) == address
    assert PciAddress.parse_node_device(address.node_device) == address


@given(addresses, addresses)
def test_addresses_sort_as_their_words_do(one: PciAddress, other: PciAddress) -> None:
    assert (one < other) == (str(one) < str(other))


@given(st.text(alphabet="0123456789abcdefABCDEF:._x\n", max_size=14))
@pytest.mark.weakness(185)
def test_nothing_outside_the_grammar_is_an_address(text: str) -> None:
    grammar = re.compile(r"\A[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]\Z")
    if grammar.search(text):
        assert str(PciAddress.parse(text)) == text.lower()
    else:
        with pytest.raises(BadRequest):
            PciAddress.parse(text)


@pytest.mark.parametrize("text", WRONG_ADDRESSES)
@pytest.mark.weakness(185)
def test_a_near_miss_is_no_address(text: str) -> None:
    with pytest.raises(BadRequest, match="is not a PCI address"):
        PciAddress.parse(text)


@pytest.mark.parametrize("text", WRONG_NODE_DEVICES)
@pytest.mark.weakness(754)
def test_a_near_miss_is_no_node_device(text: str) -> None:
    with pytest.raises(BadRequest, match="is not a PCI address"):
        PciAddress.parse_node_device(text)


def test_an_address_cannot_be_made_out_of_range() -> None:
    for parts in ((0x10000, 0, 0, 0), (0, 256, 0, 0), (0, 0, 32, 0), (0, 0, 0, 8), (-1, 0, 0, 0)):
        with pytest.raises(BadRequest, match="out of range"):
            PciAddress(*parts)


def test_virtual_functions_are_numbered_as_the_driver_numbers_them() -> None:
    """0000:26:00.0 with offset 4 and stride 1 has its sixteen at 26:00.4 to 26:02.3, as recorded on an A2."""
    physical = PciAddress.parse("0000:26:00.0")
    functions = [str(physical.virtual_function(i)) for i in range(16)]
    assert (functions[0], functions[4], functions[-1]) == ("0000:26:00.4", "0000:26:01.0", "0000:26:02.3")
    assert len(set(functions)) == 16


@given(st.uuids())
def test_a_uuid_has_one_form(value: uuid.UUID) -> None:
    for text in (str(value), str(value).upper(), value.hex):
        assert ids.is_uuid(text)
        assert ids.parse_uuid(text) == str(value)


@pytest.mark.parametrize("text", ["", "x", "{6f0c52de-6a3e-4d0e-9e55-1a1c4e9f7a10}", "urn:uuid:6f0c52de-6a3e-4d0e-9e55-1a1c4e9f7a10"])
@pytest.mark.parametrize("tail", ["", "\n"])
def test_other_spellings_of_a_uuid_are_refused(text: str, tail: str) -> None:
    with pytest.raises(BadRequest, match=r"server: .* is not a uuid"):
        ids.parse_uuid(text + tail, "server")


@pytest.mark.weakness(185)
def test_a_newline_after_a_uuid_is_refused() -> None:
    assert not ids.is_uuid(f"{uuid.uuid4()}\n")


@given(st.uuids(), st.uuids(), st.integers(0, 7))
def test_a_vgpus_uuid_tells_server_operation_and_index_apart(server: uuid.UUID, operation: uuid.UUID, index: int) -> None:
    made = ids.vgpu_uuid(str(server), str(operation), index)
    assert made == ids.vgpu_uuid(str(server), str(operation), index)
    assert ids.parse_uuid(made) == made
    assert made != ids.vgpu_uuid(str(server), str(operation), index + 1)
    if server != operation:
        assert made != ids.vgpu_uuid(str(operation), str(server), index)


@pytest.mark.parametrize("name", ["a", "host1", "rack-3.example_x", "A" * 255])
def test_host_names(name: str) -> None:
    assert ids.parse_host_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", ".", "..", "a/b", "a b", "a\n", "\u00e4", "a" * 256, "a\0"])
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(BadRequest, match="is not a host name"):
        ids.parse_host_name(name)


@pytest.mark.parametrize("edge", "09afAF")
@pytest.mark.parametrize("at", [0, 3, 5, 6, 9])
def test_every_digit_of_an_address_is_any_hexadecimal_one(edge: str, at: int) -> None:
    text = "0000:00:00.0"
    text = text[:at] + edge + text[at + 1 :]
    assert str(PciAddress.parse(text)) == text.lower()
    assert PciAddress.parse_node_device("pci_" + text.replace(":", "_").replace(".", "_")) == PciAddress.parse(text)


@pytest.mark.parametrize("edge", "09azAZ")
def test_host_names_take_every_letter_and_digit_everywhere(edge: str) -> None:
    for name in (edge, f"{edge}-x", f"x{edge}x", f"x-{edge}"):
        assert ids.parse_host_name(name) == name


def test_a_network_has_an_id() -> None:
    assert ids.is_uuid(ids.network_id("public"))
    assert ids.network_id("public") == ids.network_id("public") != ids.network_id("inner")
