"""A server is deleted in every state it can rest in, and at every operation's beginning, over HTTP: nothing of it stays on any host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.scenario.cloud import Cloud, eventually, gpu, host
from tests.scenario.conftest import Launch

A = "0000:81:00.0"
Step = Callable[[Any, Any, str], object]

#: the state it comes to rest in -> what is asked for to that end, of an active server
RESTS: dict[str, Step] = {
    "ACTIVE": lambda conn, large, server: None,
    "SHUTOFF": lambda conn, large, server: conn.compute.stop_server(server),
    "PAUSED": lambda conn, large, server: conn.compute.pause_server(server),
    "SUSPENDED": lambda conn, large, server: conn.compute.suspend_server(server),
    "RESCUE": lambda conn, large, server: conn.compute.rescue_server(server),
    "VERIFY_RESIZE": lambda conn, large, server: conn.compute.resize_server(server, large.id),
    "SHELVED_OFFLOADED": lambda conn, large, server: conn.compute.shelve_server(server),
}
#: those that leave it where it rests already, beside the ones that lead to a rest
PASSING: dict[str, Step] = {
    "soft reboot": lambda conn, large, server: conn.compute.reboot_server(server, "SOFT"),
    "hard reboot": lambda conn, large, server: conn.compute.reboot_server(server, "HARD"),
    "rebuild": lambda conn, large, server: conn.compute.rebuild_server(server, conn.image.find_image("img").id),
    "cold migration": lambda conn, large, server: conn.compute.migrate_server(server),
    "live migration": lambda conn, large, server: conn.compute.live_migrate_server(server, block_migration="auto"),
    "snapshot": lambda conn, large, server: conn.compute.create_server_image(server, "kept"),
}
DURING = {name: step for name, step in (RESTS | PASSING).items() if name != "ACTIVE"}


@pytest.fixture
def cloud(launch: Launch) -> Cloud:
    return launch(host("host1", gpu(A, "mdev")), host("host2", gpu(A, "vfio")))


def held(cloud: Cloud, conn: Any) -> int:
    return cloud.counts(conn, "host1") + cloud.counts(conn, "host2")


def gone(cloud: Cloud, conn: Any) -> None:
    eventually(lambda: [s.id for s in conn.compute.servers(details=False)], lambda left: left == [])
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda left: left == [])
    assert held(cloud, conn) == 0


@pytest.mark.parametrize("force", [False, True], ids=["delete", "force-delete"])
def test_in_every_state(cloud: Cloud, force: bool) -> None:
    conn = cloud.connect()
    small, large = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.flavor(conn, "v1-large", resources__VGPU="1")
    for status, ask in RESTS.items():
        server = cloud.server(conn, status, small)
        assert held(cloud, conn) == 1
        ask(conn, large, server.id)
        cloud.settled(conn, server.id, status)
        assert held(cloud, conn) == {"VERIFY_RESIZE": 2, "SHELVED_OFFLOADED": 0}.get(status, 1), status
        conn.compute.delete_server(server.id, force=force)
        gone(cloud, conn)
    refused = cloud.server(conn, "ERROR", cloud.flavor(conn, "much", resources__VGPU="99"))
    assert refused.status == "ERROR"
    conn.compute.delete_server(refused.id, force=force)
    gone(cloud, conn)


def test_during_every_operation(cloud: Cloud) -> None:
    """Asked for as soon as the operation is, so that it comes before, between or after any of its steps."""
    conn = cloud.connect()
    small, large = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.flavor(conn, "v1-large", resources__VGPU="1")
    unfinished = cloud.server(conn, "create", small, wait=False)
    conn.compute.delete_server(unfinished.id)
    gone(cloud, conn)
    for name, ask in DURING.items():
        server = cloud.server(conn, name, small)
        assert held(cloud, conn) == 1, name
        ask(conn, large, server.id)
        conn.compute.delete_server(server.id)
        gone(cloud, conn)
