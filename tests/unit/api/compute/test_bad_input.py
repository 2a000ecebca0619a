"""Bad input is a 400 whose sentence names what to mend, and nothing is half done."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.api.compute.conftest import IMAGE, MISSING, Call, wanted, why

from lamina.model import ids

Boot = Callable[..., str]
PUBLIC = ids.network_id("public")

SERVERS: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"name": ""}, "name"),
    ({"name": "  "}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a\x00b"}, "NUL"),
    ({"name": "x" * 256}, "name"),
    ({"name": 7}, "name"),
    ({"flavorRef": "no-such"}, "flavorRef"),
    ({"flavorRef": ""}, "flavorRef"),
    ({"flavorRef": "a\x00b"}, "NUL"),
    ({"flavorRef": -1}, "flavorRef"),
    ({"flavorRef": None}, "flavorRef"),
    ({"imageRef": MISSING}, "imageRef"),
    ({"imageRef": "nonsense"}, "imageRef"),
    ({"imageRef": ""}, "imageRef"),
    ({"networks": None}, "networks"),
    ({"networks": "all"}, "networks"),
    ({"networks": [{"uuid": MISSING}]}, "networks"),
    ({"networks": 7}, "networks"),
    ({"networks": ["public"]}, "networks[0]"),
    ({"networks": [{}]}, "networks[0].uuid"),
    ({"networks": [{"uuid": "public"}]}, "networks[0].uuid"),
    ({"networks": [{"uuid": PUBLIC}, {"uuid": MISSING}]}, f"networks[1].uuid: Network {MISSING} could not be found."),
    ({"networks": [{"port": MISSING}]}, "networks[0].port"),
    ({"networks": [{"uuid": PUBLIC, "fixed_ip": "10.0.0.4"}]}, "networks[0].fixed_ip"),
    ({"networks": [{"uuid": PUBLIC, "tag": "t"}]}, "networks[0].tag"),
    ({"networks": [{"uuid": PUBLIC, "colour": "red"}]}, "colour"),
    ({"networks": [{"uuid": PUBLIC}] * 17}, "networks"),
    ({"availability_zone": "moon"}, "availability_zone"),
    ({"min_count": 2, "max_count": 1}, "min_count"),
    ({"min_count": 0}, "min_count"),
    ({"min_count": -1}, "min_count"),
    ({"min_count": True}, "min_count"),
    ({"min_count": "many"}, "min_count"),
    ({"max_count": 10**30}, "max_count"),
    ({"max_count": 1001}, "max_count"),
    ({"user_data": "not base64!"}, "user_data"),
    ({"user_data": base64.b64encode(b"x" * 49152).decode()}, "user_data"),
    ({"user_data": "ä"}, "user_data"),
    ({"metadata": {"": "x"}}, "metadata"),
    ({"metadata": {"k" * 256: "x"}}, "metadata"),
    ({"metadata": {"k": "x" * 256}}, "metadata"),
    ({"metadata": {"k": 7}}, "metadata"),
    ({"metadata": {"k": "a\x00b"}}, "NUL"),
    ({"metadata": ["k"]}, "metadata"),
    ({"tags": ["a,b"]}, "tags"),
    ({"tags": ["a/b"]}, "tags"),
    ({"tags": [""]}, "tags"),
    ({"tags": ["x" * 61]}, "tags"),
    ({"tags": [f"t{i}" for i in range(51)]}, "tags"),
    ({"hostname": "a.b"}, "hostname"),
    ({"hostname": "-a"}, "hostname"),
    ({"hostname": "a\n"}, "hostname"),
    ({"hostname": "a", "min_count": 2}, "hostname"),
    ({"description": "x" * 256}, "description"),
    ({"description": "a\x00b"}, "NUL"),
    ({"key_name": "none"}, "key_name"),
    ({"config_drive": "maybe"}, "config_drive"),
    ({"return_reservation_id": "maybe"}, "return_reservation_id"),
    ({"OS-DCF:diskConfig": "SOMETIMES"}, "OS-DCF:diskConfig"),
    ({"security_groups": [{"name": "mine"}]}, "security_groups"),
    ({"block_device_mapping_v2": [{"source_type": "volume", "uuid": MISSING}]}, "block_device_mapping_v2"),
    ({"personality": [{"path": "/x", "contents": ""}]}, "personality"),
    ({"accessIPv4": "not an address"}, "accessIPv4"),
    ({"accessIPv6": "1.2.3.4"}, "accessIPv6"),
    ({"trusted_image_certificates": [MISSING]}, "trusted_image_certificates"),
]


@pytest.mark.parametrize(("change", "field"), SERVERS, ids=lambda value: str(value)[:40])
def test_a_server_is_refused_by_field(call: Call, change: dict[str, Any], field: str) -> None:
    status, message = why(call("POST", "/servers", wanted(**change)))
    assert status == 400
    assert field in message
    assert call("GET", "/servers").json()["servers"] == []


@pytest.mark.parametrize("missing", ["name", "flavorRef", "imageRef", "networks"])
def test_what_is_needed_is_named(call: Call, missing: str) -> None:
    body = wanted()
    del body["server"][missing]
    status, message = why(call("POST", "/servers", body))
    assert status == 400
    assert missing in message


@pytest.mark.parametrize(
    ("change", "before"),
    [({"description": "d"}, "2.18"), ({"tags": ["t"]}, "2.51"), ({"hostname": "h"}, "2.89"), ({"host": "host1"}, "2.73")],
)
def test_what_a_version_does_not_have_is_refused(call: Call, change: dict[str, Any], before: str) -> None:
    body = wanted(**change)
    if before == "2.18":
        del body["server"]["networks"]
    status, message = why(call("POST", "/servers", body, version=before, user="admin"))
    assert status == 400
    assert next(iter(change)) in message


@pytest.mark.parametrize("change", [{"host": "host1"}, {"hypervisor_hostname": "host1"}, {"availability_zone": "nova:host1"}])
def test_a_host_is_named_by_administrators_only(call: Call, change: dict[str, Any]) -> None:
    assert why(call("POST", "/servers", wanted(**change)))[0] == 403
    assert call("POST", "/servers", wanted(**change), user="admin").status_code == 202


def test_a_host_that_is_not_there_is_named(call: Call) -> None:
    status, message = why(call("POST", "/servers", wanted(host="nowhere"), user="admin"))
    assert status == 400
    assert "nowhere" in message


def test_too_many_metadata_items_are_over_the_limit(call: Call) -> None:
    assert why(call("POST", "/servers", wanted(metadata={f"k{i}": "v" for i in range(129)})))[0] == 403


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"\xff", b'{"server": 1}', b'{"server": {}}', b"[" * 5000])
def test_a_body_that_is_no_request_is_refused(call: Call, content: bytes) -> None:
    assert why(call("POST", "/servers", content=content))[0] == 400


@pytest.mark.weakness(770)
def test_a_body_over_its_limit_is_refused(call: Call) -> None:
    assert why(call("POST", "/servers", content=b'{"server": "' + b"x" * (1 << 20) + b'"}'))[0] == 413


ACTIONS: list[tuple[Any, str]] = [
    ({}, "one key"),
    ({"os-start": None, "os-stop": None}, "one key"),
    ({"fly": None}, "fly"),
    ({"os-start": "now"}, "os-start"),
    ({"reboot": None}, "reboot"),
    ({"reboot": {}}, "type"),
    ({"reboot": {"type": "GENTLE"}}, "reboot.type"),
    ({"reboot": {"type": "SOFT", "force": True}}, "force"),
    ({"resize": {}}, "flavorRef"),
    ({"os-getConsoleOutput": {"length": "many"}}, "os-getConsoleOutput.length"),
    ({"os-getConsoleOutput": {"length": -2}}, "os-getConsoleOutput.length"),
    ({"os-getConsoleOutput": {"length": True}}, "length"),
    ({"os-getConsoleOutput": {"lines": 1}}, "lines"),
    ({"resize": {"flavorRef": "no-such"}}, "flavorRef"),
    ({"resize": {"flavorRef": "vgpu", "OS-DCF:diskConfig": "SOMETIMES"}}, "OS-DCF:diskConfig"),
    ({"confirmResize": 1}, "confirmResize"),
    ({"revertResize": []}, "revertResize"),
    ({"lock": {"locked_reason": "x" * 256}}, "locked_reason"),
    ({"lock": {"locked_reason": ""}}, "locked_reason"),
    ({"lock": {"reason": "x"}}, "reason"),
    ({"lock": "x"}, "lock"),
    ({"lock": False}, "lock"),
    ({"unlock": {"a": 1}}, "unlock"),
]


@pytest.mark.parametrize(("body", "field"), ACTIONS, ids=str)
def test_an_action_is_refused_by_field(call: Call, boot: Boot, body: Any, field: str) -> None:
    status, message = why(call("POST", f"/servers/{boot()}/action", body))
    assert status == 400
    assert field in message


UPDATES: list[tuple[str, str, Any, str]] = [
    ("PUT", "", {"server": {"name": ""}}, "name"),
    ("PUT", "", {"server": {"name": "a\x00b"}}, "NUL"),
    ("PUT", "", {"server": {"description": "x" * 256}}, "description"),
    ("PUT", "", {"server": {"hostname": "a b"}}, "hostname"),
    ("PUT", "", {"server": {"accessIPv4": "::1"}}, "accessIPv4"),
    ("PUT", "", {"server": {"OS-DCF:diskConfig": "x"}}, "OS-DCF:diskConfig"),
    ("PUT", "", {"server": {"flavorRef": "vgpu"}}, "flavorRef"),
    ("POST", "/metadata", {"metadata": {"": "x"}}, "metadata"),
    ("POST", "/metadata", {"meta": {"a": "x"}}, "meta"),
    ("PUT", "/metadata", {"metadata": {"a": None}}, "metadata"),
    ("PUT", "/metadata/a", {"meta": {"b": "x"}}, "mismatch"),
    ("PUT", "/metadata/a", {"meta": {"a": "x" * 256}}, "metadata"),
    ("PUT", "/tags", {"tags": ["a/b"]}, "tags"),
    ("PUT", "/tags", {"tags": "a"}, "tags"),
    ("PUT", "/tags", {"tags": ["a"] * 51}, "tags"),
    ("PUT", "/tags/a,b", None, "tags"),
    ("PUT", "/tags/" + "x" * 61, None, "tags"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), UPDATES, ids=str)
def test_a_change_is_refused_by_field(call: Call, boot: Boot, method: str, path: str, body: Any, field: str) -> None:
    server_id = boot(metadata={"a": "1"}, tags=["t"])
    before = call("GET", f"/servers/{server_id}").json()
    status, message = why(call(method, f"/servers/{server_id}{path}", body))
    assert status == 400
    assert field in message
    assert call("GET", f"/servers/{server_id}").json() == before


def test_an_image_by_its_link_is_found(call: Call) -> None:
    assert call("POST", "/servers", wanted(imageRef=f"http://127.0.0.1/image/v2/images/{IMAGE}")).status_code == 202
