"""What a server reads on its config drive."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import config_drive
from lamina.model.flavors import Flavor
from lamina.model.hosts import PowerState
from lamina.model.ids import network_id
from lamina.model.networks import Port, commonest
from lamina.model.servers import Server, VmState

SERVER = Server(
    id="11111111-1111-4111-8111-111111111111",
    generation=0,
    name="Web 1",
    hostname="web-1",
    project_id="p",
    user_id="u",
    reservation_id="r-abc",
    vm_state=VmState.BUILDING,
    task_state=None,
    power_state=PowerState.NOSTATE,
    host=None,
    zone="nova",
    flavor=Flavor(id="f", name="small", vcpus=1, memory_mb=512, disk_gb=1),
    image_id=None,
    created_at=0.0,
    updated_at=0.0,
    metadata={"role": "wéb"},
)
KEY = "ssh-ed25519 AAAA me@here"
PORTS = [
    Port(f"2222222{position}-2222-4222-8222-222222222222", SERVER.id, "p", "public", f"fa:16:3e:00:00:0{position}", position, 0.0)
    for position in range(2)
]


def server(**changes: Any) -> Server:
    return dataclasses.replace(SERVER, **changes)


def document(files: dict[str, bytes], name: str) -> Any:
    return json.loads(files[f"openstack/latest/{name}"])


@pytest.mark.parametrize(
    ("changes", "needed"),
    [({}, False), ({"config_drive": True}, True), ({"user_data": ""}, True), ({"key_name": "k", "public_key": KEY}, True)],
)
def test_the_drive_is_there_where_something_could_not_be_learnt_otherwise(changes: dict[str, Any], needed: bool) -> None:
    assert config_drive.needed(server(**changes)) is needed


def test_a_server_learns_who_it_is() -> None:
    told = document(config_drive.files(server(key_name="mine", public_key=KEY), PORTS), "meta_data.json")
    assert (told["uuid"], told["name"], told["hostname"], told["project_id"]) == (SERVER.id, "Web 1", "web-1", "p")
    assert (told["availability_zone"], told["launch_index"], told["meta"]) == ("nova", 0, {"role": "wéb"})
    assert told["public_keys"] == {"mine": KEY}
    assert told["keys"] == [{"name": "mine", "type": "ssh", "data": KEY}]


def test_without_a_key_none_is_told() -> None:
    files = config_drive.files(SERVER, [])
    assert not {"keys", "public_keys"} & document(files, "meta_data.json").keys()
    assert "public-keys" not in json.loads(files["ec2/latest/meta-data.json"])
    assert not [path for path in files if "user" in path]


def test_links_have_their_addresses_and_ask_for_the_rest() -> None:
    told = document(config_drive.files(SERVER, PORTS), "network_data.json")
    assert [(link["ethernet_mac_address"], link["vif_id"]) for link in told["links"]] == [(p.mac, p.id) for p in PORTS]
    assert [(n["link"], n["type"], n["network_id"]) for n in told["networks"]] == [
        (link["id"], "ipv4_dhcp", network_id("public")) for link in told["links"]
    ]
    assert len({link["id"] for link in told["links"]}) == len(PORTS)


@given(st.binary())
def test_user_data_arrives_as_it_was_given(content: bytes) -> None:
    files = config_drive.files(server(user_data=base64.b64encode(content).decode()), [])
    paths = {"ec2/latest/user-data", *(f"{folder}/user_data" for folder in config_drive.FOLDERS)}
    assert {path: files[path] for path in paths} == dict.fromkeys(paths, content)


@given(st.dictionaries(st.text(), st.text()), st.text(), st.one_of(st.none(), st.text()))
def test_every_document_can_be_read_and_every_folder_says_the_same(metadata: dict[str, str], name: str, zone: str | None) -> None:
    described = server(metadata=metadata, name=name, zone=zone)
    files = config_drive.files(described, PORTS)
    assert files == config_drive.files(described, PORTS)
    told = [json.loads(files[f"{folder}/meta_data.json"]) for folder in config_drive.FOLDERS]
    assert (told[0]["meta"], told[0]["name"], told[0]["availability_zone"]) == (metadata, name, zone)
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("of_hosts", "network"),
    [([], None), ([[]], None), ([["b"], ["a", "b"]], "b"), ([["b"], ["a"]], "a"), ([["a", "a"], ["b"], ["b"]], "b")],
)
def test_the_commonest_network_is_the_one_of_most_hosts(of_hosts: list[list[str]], network: str | None) -> None:
    assert commonest(of_hosts) == network
