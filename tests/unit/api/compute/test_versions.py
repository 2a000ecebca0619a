"""Version documents, microversion headers, and what a server shows at each microversion."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from tests.unit.api.compute.conftest import IMAGE, Call, why

Boot = Callable[..., str]


@pytest.mark.parametrize("path", ["/compute", "/compute/"])
def test_the_versions_are_told_to_everybody(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    (version,) = answer.json()["versions"]
    assert (version["id"], version["status"]) == ("v2.1", "CURRENT")
    assert (version["min_version"], version["version"]) == ("2.1", "2.96")
    assert version["links"] == [{"rel": "self", "href": "http://127.0.0.1:8774/compute/v2.1/"}]


@pytest.mark.parametrize("path", ["/compute/v2.1", "/compute/v2.1/"])
def test_one_version_is_told_to_everybody(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    version = answer.json()["version"]
    assert (version["id"], version["min_version"], version["version"]) == ("v2.1", "2.1", "2.96")
    assert version["media-types"][0]["base"] == "application/json"
    assert answer.headers["X-Compute-Request-Id"].startswith("req-")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ({}, "2.1"),
        ({"OpenStack-API-Version": "compute 2.47"}, "2.47"),
        ({"OpenStack-API-Version": "placement 1.2, compute 2.47"}, "2.47"),
        ({"OpenStack-API-Version": "placement 1.2"}, "2.1"),
        ({"X-OpenStack-Nova-API-Version": "2.47"}, "2.47"),
        ({"OpenStack-API-Version": "compute latest"}, "2.96"),
        ({"X-OpenStack-Nova-API-Version": "latest"}, "2.96"),
        ({"OpenStack-API-Version": "compute 2.50", "X-OpenStack-Nova-API-Version": "2.47"}, "2.50"),
    ],
)
def test_the_version_is_negotiated_by_header(client: TestClient, sent: dict[str, str], answered: str) -> None:
    answer = client.get("/compute/v2.1/", headers=sent)
    assert answer.status_code == 200
    assert answer.headers["OpenStack-API-Version"] == f"compute {answered}"
    assert answer.headers["X-OpenStack-Nova-API-Version"] == answered
    assert answer.headers["Vary"] == "OpenStack-API-Version, X-OpenStack-Nova-API-Version"


@pytest.mark.parametrize("header", ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"])
@pytest.mark.parametrize(
    ("version", "status"), [("2.97", 406), ("2.0", 406), ("3.1", 406), ("nonsense", 400), ("2.", 400), ("2.1.1", 400), ("-2.5", 400)]
)
def test_a_version_that_is_not_served_is_refused(client: TestClient, header: str, version: str, status: int) -> None:
    sent = f"compute {version}" if header.startswith("Open") else version
    answer = client.get("/compute/v2.1/servers", headers={header: sent})
    told = why(answer)
    assert told[0] == status
    assert version in told[1]


ALWAYS = {
    *("id", "name", "links", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated"),
    *("addresses", "accessIPv4", "accessIPv6", "OS-DCF:diskConfig", "OS-EXT-AZ:availability_zone", "config_drive", "key_name"),
    *("OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state"),
    *("OS-EXT-STS:power_state", "os-extended-volumes:volumes_attached", "security_groups", "progress"),
}
OF_ADMINS = {"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name"}
SINCE_2_3 = {
    *("OS-EXT-SRV-ATTR:reservation_id", "OS-EXT-SRV-ATTR:launch_index", "OS-EXT-SRV-ATTR:hostname", "OS-EXT-SRV-ATTR:kernel_id"),
    *("OS-EXT-SRV-ATTR:ramdisk_id", "OS-EXT-SRV-ATTR:root_device_name", "OS-EXT-SRV-ATTR:user_data"),
}
#: what each version adds: (for everybody, for administrators besides)
ADDED: dict[str, tuple[set[str], set[str]]] = {
    "2.1": (set(), OF_ADMINS),
    "2.3": (set(), SINCE_2_3),
    "2.9": ({"locked"}, set()),
    "2.16": (set(), {"host_status"}),
    "2.19": ({"description"}, set()),
    "2.26": ({"tags"}, set()),
    "2.47": (set(), set()),
    "2.63": ({"trusted_image_certificates"}, set()),
    "2.71": ({"server_groups"}, set()),
    "2.73": ({"locked_reason"}, set()),
    "2.90": ({"OS-EXT-SRV-ATTR:hostname"}, set()),
    "2.96": ({"pinned_availability_zone"}, set()),
}


def test_each_version_shows_its_own_keys(call: Call, boot: Boot) -> None:
    server_id = boot()
    member, admin = set(ALWAYS), set(ALWAYS)
    for version, (everybody, besides) in ADDED.items():
        member |= everybody
        admin |= everybody | besides
        shown = call("GET", f"/servers/{server_id}", version=version).json()["server"]
        assert set(shown) == member, version
        assert set(call("GET", f"/servers/{server_id}", version=version, user="admin").json()["server"]) == admin, version
        shown.pop("server_groups", None)
        (listed,) = call("GET", "/servers/detail", version=version).json()["servers"]
        assert listed == shown


def test_a_servers_values(call: Call, boot: Boot) -> None:
    server_id = boot(name="web", flavorRef="vgpu", metadata={"a": "b"}, tags=["x"], description="d", hostname="web-1")
    shown = call("GET", f"/servers/{server_id}").json()["server"]
    assert shown["status"] == "ACTIVE"
    assert shown["progress"] == 100
    assert shown["OS-EXT-STS:power_state"] == 1
    assert (shown["name"], shown["description"], shown["OS-EXT-SRV-ATTR:hostname"]) == ("web", "d", "web-1")
    assert (shown["metadata"], shown["tags"], shown["locked"], shown["locked_reason"]) == ({"a": "b"}, ["x"], False, None)
    assert shown["image"]["id"] == IMAGE
    assert shown["flavor"]["original_name"] == "vgpu"
    assert shown["flavor"]["extra_specs"] == {"resources:VGPU": "1"}
    assert shown["OS-EXT-AZ:availability_zone"] == "nova"
    assert len(shown["hostId"]) == 56
    assert shown["OS-SRV-USG:launched_at"].endswith(".000000")
    assert shown["created"].endswith("Z")
    old = call("GET", f"/servers/{server_id}", version="2.46").json()["server"]
    assert old["flavor"]["id"] == "vgpu"
    assert set(old["flavor"]) == {"id", "links"}


def test_administrators_see_the_host_and_whether_it_is_up(call: Call, boot: Boot) -> None:
    server_id = boot()
    shown = call("GET", f"/servers/{server_id}", user="admin").json()["server"]
    assert shown["OS-EXT-SRV-ATTR:host"] == shown["OS-EXT-SRV-ATTR:hypervisor_hostname"]
    assert shown["OS-EXT-SRV-ATTR:host"].startswith("host")
    assert shown["host_status"] == "UP"


def test_a_zone_asked_for_is_the_pinned_one(call: Call, boot: Boot) -> None:
    shown = call("GET", f"/servers/{boot(availability_zone='nova')}").json()["server"]
    assert (shown["OS-EXT-AZ:availability_zone"], shown["pinned_availability_zone"]) == ("nova", "nova")
    shown = call("GET", f"/servers/{boot()}").json()["server"]
    assert (shown["OS-EXT-AZ:availability_zone"], shown["pinned_availability_zone"]) == ("nova", None)
