"""A fleet with room enough and none for the server that is asked for: planned, moved, and then it fits."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from openstack.connection import Connection

from tests.scenario.cloud import Cloud, gpu, host
from tests.scenario.conftest import Launch

A = "0000:81:00.0"
SMALL = {"resources__VGPU": "1", "trait__CUSTOM_NVIDIA_11": "required"}
LARGE = {"resources__VGPU": "1", "trait__CUSTOM_NVIDIA_12": "required"}


def lamina(cloud: Cloud, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lamina.cli.main", "defrag", *words, "--state", str(cloud.state)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def cloud(launch: Launch, framework: str) -> Cloud:
    both = ["nvidia-11", "nvidia-12"]
    return launch(*(host(name, gpu(A, framework, enabled=both)) for name in ("one", "two")))


@pytest.fixture
def conn(cloud: Cloud) -> Connection:
    return cloud.connect()


@pytest.fixture
def scattered(cloud: Cloud, conn: Connection) -> list[Any]:
    """A small server on each host, which binds each card to its size."""
    flavor = cloud.flavor(conn, "small", **SMALL)
    servers = [cloud.server(conn, name, flavor, availability_zone=f"nova:{where}") for name, where in (("s1", "one"), ("s2", "two"))]
    assert [server.compute_host for server in servers] == ["one", "two"]
    cloud.flavor(conn, "large", **LARGE)
    assert cloud.server(conn, "refused", conn.compute.find_flavor("large")).status == "ERROR"
    return servers


def plan(cloud: Cloud, *words: str) -> Any:
    shown = lamina(cloud, "plan", *words, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def test_a_server_that_is_shut_off_makes_way(cloud: Cloud, conn: Connection, scattered: list[Any]) -> None:
    first, _ = scattered
    refused = lamina(cloud, "run", "--for", "large", "--only-stopped", "--yes")
    assert (refused.returncode, "No move helps." in refused.stdout) == (1, True), "both run"
    assert "There is no room for 1 of large yet" in refused.stderr

    conn.compute.stop_server(first.id)
    cloud.settled(conn, first.id, "SHUTOFF")
    planned = plan(cloud, "--for", "large", "--only-stopped")
    assert [(m["server_id"], m["from"]["host"], m["to"]) for m in planned["moves"]] == [(first.id, "one", {"host": "two", "gpus": [A]})]
    assert (planned["before"]["fits"], planned["after"]["fits"]) == (0, 1)
    assert planned["after"]["fragmentation"] < planned["before"]["fragmentation"]
    assert cloud.counts(conn, "one") == 1, "a plan changes nothing"

    shown = lamina(cloud, "plan", "--for", "large")
    assert (shown.returncode, "now:   0 of 1 of large fit; " in shown.stdout) == (0, True)
    assert "1 server, 0.5 GiB of framebuffer to move, about 2 s of stun in all" in shown.stdout

    unasked = lamina(cloud, "run", "--for", "large")
    assert (unasked.returncode, cloud.counts(conn, "one")) == (1, 1), "nobody has said yes"
    moved = lamina(cloud, "run", "--for", "large", "--yes")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert f"1 of 1: s1 ({first.id}) is on two {A}" in moved.stdout
    assert "1 of 1 of large fit" in moved.stdout
    assert (cloud.counts(conn, "one"), cloud.counts(conn, "two")) == (0, 2)
    server = conn.compute.get_server(first.id)
    assert (server.status, server.compute_host) == ("SHUTOFF", "two")

    large = cloud.server(conn, "large", conn.compute.find_flavor("large"))
    assert (large.status, large.compute_host) == ("ACTIVE", "one")
    again = lamina(cloud, "run", "--for", "small", "--yes")
    assert (again.returncode, "No move is needed." in again.stdout) == (0, True)


@pytest.mark.parametrize(("how", "action"), [((), "live-migration"), (("--cold",), "confirmResize")], ids=["live", "cold"])
def test_a_server_that_runs_makes_way(cloud: Cloud, conn: Connection, scattered: list[Any], how: tuple[str, ...], action: str) -> None:
    conn.compute.lock_server(scattered[0].id)
    moved = lamina(cloud, "run", "--lower", *how, "--yes")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert (cloud.counts(conn, "one"), cloud.counts(conn, "two")) == (2, 0), "what is locked stays"
    server = conn.compute.get_server(scattered[1].id)
    assert (server.status, server.compute_host) == ("ACTIVE", "one")
    assert next(iter(conn.compute.server_actions(server))).action == action
    assert cloud.server(conn, "large", conn.compute.find_flavor("large")).status == "ACTIVE"
