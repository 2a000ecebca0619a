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
    "attach": lambda conn, large, server: attach(conn, server),
    "snapshot": lambda conn, large, server: conn.compute.create_server_image(server, "kept"),
}
#: those of a server that rests otherwise -> where it rests first, and what is asked for then
RETURNING: dict[str, tuple[str, Step]] = {
    "start": ("SHUTOFF", lambda conn, large, server: conn.compute.start_server(server)),
    "unpause": ("PAUSED", lambda conn, large, server: conn.compute.unpause_server(server)),
    "resume": ("SUSPENDED", lambda conn, large, server: conn.compute.resume_server(server)),
    "unrescue": ("RESCUE", lambda conn, large, server: conn.compute.unrescue_server(server)),
    "confirm": ("VERIFY_RESIZE", lambda conn, large, server: conn.compute.confirm_server_resize(server)),
    "revert": ("VERIFY_RESIZE", lambda conn, large, server: conn.compute.revert_server_resize(server)),
    "unshelve": ("SHELVED_OFFLOADED", lambda conn, large, server: conn.compute.unshelve_server(server)),
    "detach": ("ACTIVE", lambda conn, large, server: detach(conn, server)),
}
DURING = {name: step for name, step in (RESTS | PASSING).items() if name != "ACTIVE"}


def vgpus(conn: Any, server: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = conn.compute.get(f"/servers/{server}/lamina-vgpus").json()["vgpus"]
    return found


def attach(conn: Any, server: str) -> None:
    asked = {"vgpu": {"type": vgpus(conn, server)[0]["type"]}}
    assert conn.compute.post(f"/servers/{server}/lamina-vgpus", json=asked).status_code == 202


def detach(conn: Any, server: str) -> None:
    """What was attached before."""
    attach(conn, server)
    ours = eventually(lambda: vgpus(conn, server), lambda held: [one["state"] for one in held] == ["attached"] * 2)
    eventually(lambda: conn.compute.get_server(server), lambda found: found.task_state is None)
    (given,) = (one["id"] for one in ours if one["attached"])
    assert eventually(lambda: conn.compute.delete(f"/servers/{server}/lamina-vgpus/{given}"), lambda told: told.status_code == 202)


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


def test_during_every_return_from_a_rest(cloud: Cloud) -> None:
    conn = cloud.connect()
    small, large = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.flavor(conn, "v1-large", resources__VGPU="1")
    for name, (rest, ask) in RETURNING.items():
        server = cloud.server(conn, name, small)
        RESTS[rest](conn, large, server.id)
        cloud.settled(conn, server.id, rest)
        ask(conn, large, server.id)
        conn.compute.delete_server(server.id)
        gone(cloud, conn)


def test_during_an_evacuation(cloud: Cloud) -> None:
    """What it has left on the host that was called down goes when that host is up again."""
    conn = cloud.connect()
    server = cloud.server(conn, "s", cloud.flavor(conn, "v1", resources__VGPU="1"))
    service = next(s for s in conn.compute.services() if s.host == server.compute_host)
    conn.compute.update_service_forced_down(service, forced=True)
    conn.compute.evacuate_server(server.id)
    conn.compute.delete_server(server.id)
    conn.compute.update_service_forced_down(service, forced=False)
    gone(cloud, conn)
