"""Hosts in network namespaces of their own: one is cut off, its servers stay known, it returns, and nothing is lost.

Made and taken away by the test: a bridge with an address of TEST-NET-2 (RFC 5737), and a namespace and a pair of
interfaces for each host. Nothing else of this machine's network is touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.scenario.agents import ControlPlane
from tests.scenario.cloud import eventually, gpu, host, running

HOSTS = ("one", "two")
NETWORK = "198.51.100"


def missing() -> str | None:
    """Why this machine cannot do it, or None."""
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    if shutil.which("ip") is None:
        return "making network namespaces takes 'ip' (Debian: iproute2)"
    probe = f"lamina-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this machine makes no network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """A bridge, and hosts on it by name."""

    def __init__(self) -> None:
        self._prefix = f"lm{secrets.token_hex(3)}"
        self.bridge = f"{self._prefix}b"
        self.address = f"{NETWORK}.1"
        self._ports: dict[str, str] = {}

    @contextlib.contextmanager
    def up(self, *hosts: str) -> Iterator[None]:
        """While the block lasts."""
        try:
            ip("link", "add", self.bridge, "type", "bridge")
            ip("address", "add", f"{self.address}/28", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
            for number, name in enumerate(hosts):
                self._plug(name, number)
            yield
        finally:
            for name in hosts:
                subprocess.run(["ip", "netns", "delete", self.namespace(name)], capture_output=True, check=False)
            subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)

    def _plug(self, name: str, number: int) -> None:
        space, port = self.namespace(name), f"{self._prefix}p{number}"
        self._ports[name] = port
        ip("netns", "add", space)
        ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", port, "master", self.bridge, "up")
        ip("-n", space, "address", "add", f"{NETWORK}.{number + 2}/28", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")

    def namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def cut(self, name: str) -> None:
        ip("link", "set", self._ports[name], "down")

    def mend(self, name: str) -> None:
        ip("link", "set", self._ports[name], "up")


@pytest.fixture
def network() -> Iterator[Network]:
    """With the hosts on it; a machine that cannot make one skips, and says why."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    network = Network()
    with network.up(*HOSTS):
        yield network


def test_a_host_that_is_cut_off_returns(network: Network, tmp_path: Path) -> None:
    hosts = [host(name, gpu("0000:81:00.0", framework)) for name, framework in zip(HOSTS, ("mdev", "vfio"), strict=True)]
    with ExitStack() as stack:
        cloud = ControlPlane(tmp_path, hosts, address=network.address)
        stack.enter_context(running(cloud))
        for name in HOSTS:
            stack.enter_context(cloud.host(name, inside=("ip", "netns", "exec", network.namespace(name))))
        conn = cloud.connect()
        cloud.until(conn, one="up", two="up")
        flavor = cloud.flavor(conn, "small", resources__VGPU="1")
        placed = {name: cloud.server(conn, name, flavor, availability_zone=f"nova:{name}").id for name in HOSTS}
        before = {name: cloud.devices(conn, name) for name in HOSTS}
        assert [len(devices) for devices in before.values()] == [1, 1]

        network.cut("two")
        cloud.until(conn, one="up", two="down")
        assert {s.compute_host: s.id for s in conn.compute.servers()} == placed
        assert {s.compute_host: s.status for s in conn.compute.servers()} == dict.fromkeys(HOSTS, "ACTIVE")
        assert cloud.usage(conn, "two") == 1
        assert cloud.server(conn, "elsewhere", flavor).compute_host == "one"
        assert cloud.counts(conn, "one") == 2
        # begun while it is cut off, and done when it is back
        conn.compute.delete_server(placed["two"])

        network.mend("two")
        cloud.until(conn, one="up", two="up")
        eventually(lambda: [s.id for s in conn.compute.servers(details=False)], lambda ids: placed["two"] not in ids, 90.0)
        assert cloud.counts(conn, "two") == 0
        assert before["one"][0]["uuid"] in {d["uuid"] for d in cloud.devices(conn, "one")}
        assert cloud.server(conn, "again", flavor, availability_zone="nova:two").status == "ACTIVE"
        assert cloud.counts(conn, "two") == 1
