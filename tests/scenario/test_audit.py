"""The audit trail, over HTTP with openstacksdk and with the command that shows it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import Cloud, eventually, gpu, host

GLOBAL = "req-0f3b1c52-6a3e-4d0e-9e55-1a1c4e9f7a10"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, [host("host1", gpu("0000:81:00.0", "mdev"))], "--audit", str(tmp_path / "audit.log"))
    cloud.start()
    yield cloud
    if cloud.process is not None:
        cloud.stop()


def audit(cloud: Cloud, *words: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "lamina.cli.main", "audit", "--state", str(cloud.state), "--json", *words]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return [json.loads(line) for line in told.splitlines()]


def test_the_life_of_a_server_is_in_the_trail_and_in_the_file(cloud: Cloud, tmp_path: Path) -> None:
    conn: Any = cloud.connect()
    flavor = cloud.flavor(conn, "v1", resources__VGPU="1")
    server = cloud.server(conn, "audited", flavor)
    conn.compute.stop_server(server)
    cloud.settled(conn, server.id, "SHUTOFF")
    with pytest.raises(exceptions.HttpException):
        conn.compute.stop_server(server)
    demo: Any = cloud.connect("lamina-demo")
    with pytest.raises(exceptions.HttpException):
        demo.compute.create_flavor(name="mine", vcpus=1, ram=1, disk=1)
    conn.session.delete(f"{cloud.url}/compute/v2.1/servers/{server.id}", headers={"X-OpenStack-Request-ID": GLOBAL})
    eventually(lambda: list(conn.compute.servers()), lambda found: not found, cloud.patience)

    def of_server() -> list[tuple[str, str, str]]:
        return [(e["action"], e["outcome"], e["reason"]["reasonCode"]) for e in audit(cloud, "--target", server.id)]

    expected = [
        ("create/os_compute_api:servers:create", "success", "202"),
        ("update/os_compute_api:servers:action/os-stop", "success", "202"),
        ("update/os_compute_api:servers:action/os-stop", "failure", "409"),
        ("delete/os_compute_api:servers:delete", "success", "204"),
    ]
    eventually(of_server, lambda found: found == expected, cloud.patience)
    (refused,) = audit(cloud, "--user", "demo", "--outcome", "failure")
    assert (refused["action"], refused["reason"]["reasonCode"]) == ("create/os_compute_api:os-flavor-manage:create", "403")
    (deleted,) = audit(cloud, "--request", GLOBAL)
    assert deleted["initiator"]["name"] == "admin"
    operations = conn.session.get(f"{cloud.url}/fleet/v1/operations?server_id={server.id}").json()["operations"]
    assert [one["global_request_id"] for one in operations if one["kind"] == "delete"] == [GLOBAL]
    path = tmp_path / "audit.log"
    assert path.stat().st_mode & 0o777 == 0o600
    passed_on = {event["id"]: event for event in map(json.loads, path.read_text().splitlines())}
    assert passed_on[deleted["id"]] == deleted
    secret = json.loads((cloud.state / "passwords.json").read_text())["admin"]
    assert secret not in path.read_text()


def test_the_trail_outlives_the_process(cloud: Cloud) -> None:
    conn: Any = cloud.connect()
    cloud.flavor(conn, "kept")
    cloud.restart(signal.SIGKILL)
    found = audit(cloud, "--action", "os-flavor-manage:create")
    assert [event["initiator"]["name"] for event in found] == ["admin"]
    assert found[0]["outcome"] in ("success", "pending"), "how it ended may have been lost, that it was done may not"
