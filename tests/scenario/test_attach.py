"""One vGPU more, and one less, for a server that goes on meanwhile; vGPUs are counted before, during and after."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from openstack.connection import Connection

from tests.scenario.cloud import Cloud, eventually, gpu, host
from tests.scenario.conftest import Launch

A = "0000:81:00.0"


@pytest.fixture
def cloud(launch: Launch, framework: str) -> Cloud:
    return launch(*(host(name, gpu(A, framework)) for name in ("host1", "host2")))


def vgpus(cloud: Cloud, conn: Connection, server_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = conn.compute.get(f"/servers/{server_id}/lamina-vgpus").json()["vgpus"]
    return found


def done(cloud: Cloud, conn: Connection, server_id: str, action: str) -> dict[str, str]:
    """The events of the newest action, which is this one, once it has ended."""

    def look() -> Any:
        newest = next(iter(conn.compute.server_actions(server_id)))
        return conn.compute.get_server_action(newest.request_id, server_id)

    ended = eventually(look, lambda one: one.action == action and bool(one.events) and all(e["result"] for e in one.events))
    # the last event of an operation is written before the operation lets go of its server
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda left: left == [])
    return {event["event"]: event["result"] for event in ended.events}


def counts(cloud: Cloud, conn: Connection) -> list[int]:
    return [cloud.counts(conn, name) for name in ("host1", "host2")]


def test_a_server_is_given_a_vgpu_and_gives_it_back(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v1", resources__VGPU="1"))
    here = ("host1", "host2").index(server.compute_host)
    (own,) = vgpus(cloud, conn, server.id)
    assert (own["state"], own["attached"]) == ("attached", False)
    path = f"/servers/{server.id}/lamina-vgpus"

    assert conn.compute.post(path, json={"vgpu": {"type": own["type"]}}).status_code == 202
    events = done(cloud, conn, server.id, "attach_vgpu")
    assert set(events.values()) == {"Success"}
    assert counts(cloud, conn)[here] == 2
    held = vgpus(cloud, conn, server.id)
    assert [(one["type"], one["state"], one["attached"]) for one in held] == [
        (own["type"], "attached", False),
        (own["type"], "attached", True),
    ]
    assert conn.compute.get_server(server.id).status == "ACTIVE"

    # what was attached survives Lamina and goes with the server
    cloud.restart(signal.SIGKILL)
    conn = cloud.connect("lamina")
    conn.compute.migrate_server(server.id)
    cloud.settled(conn, server.id, "VERIFY_RESIZE")
    assert counts(cloud, conn) == [2, 2]
    conn.compute.confirm_server_resize(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    eventually(lambda: counts(cloud, conn)[here], lambda count: count == 0)
    held = vgpus(cloud, conn, server.id)
    assert [one["attached"] for one in held] == [False, True]

    assert conn.compute.delete(f"{path}/{held[1]['id']}").status_code == 202
    assert set(done(cloud, conn, server.id, "detach_vgpu").values()) == {"Success"}
    assert counts(cloud, conn)[1 - here] == 1
    assert [one["attached"] for one in vgpus(cloud, conn, server.id)] == [False]
    cloud.delete(conn, server.id)
    assert counts(cloud, conn) == [0, 0]


def test_a_resize_ends_what_was_attached(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    one, two = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.flavor(conn, "v2", resources__VGPU="2")
    server = cloud.server(conn, "s1", one)
    (own,) = vgpus(cloud, conn, server.id)
    conn.compute.post(f"/servers/{server.id}/lamina-vgpus", json={"vgpu": {"type": own["type"]}})
    done(cloud, conn, server.id, "attach_vgpu")
    cloud.resize(conn, server.id, two)
    assert sum(counts(cloud, conn)) == 4
    conn.compute.revert_server_resize(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    eventually(lambda: sum(counts(cloud, conn)), lambda count: count == 2)
    assert [held["attached"] for held in vgpus(cloud, conn, server.id)] == [False, True]
    cloud.resize(conn, server.id, two)
    conn.compute.confirm_server_resize(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    eventually(lambda: sum(counts(cloud, conn)), lambda count: count == 2)
    assert [held["attached"] for held in vgpus(cloud, conn, server.id)] == [False, False]


def test_what_cannot_be_is_refused_and_changes_nothing(cloud: Cloud) -> None:
    conn, member = cloud.connect("lamina"), cloud.connect("lamina-demo")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v1", resources__VGPU="1"))
    (own,) = vgpus(cloud, conn, server.id)
    path = f"/servers/{server.id}/lamina-vgpus"

    def refused(answer: Any, status: int, words: str) -> None:
        assert (answer.status_code, words in answer.text) == (status, True), answer.text

    refused(conn.compute.post(path, json={"vgpu": {"type": "NVIDIA X-1Q"}}), 400, "no GPU of the server's host")
    refused(conn.compute.post(path, json={"vgpu": {}}), 400, "type")
    refused(conn.compute.delete(f"{path}/{own['id']}"), 409, "flavor gives it this vGPU")
    refused(conn.compute.delete(f"{path}/{server.id}"), 404, "has no vGPU")
    refused(member.compute.get(path), 404, "could not be found")
    refused(member.compute.post(path, json={"vgpu": {"type": own["type"]}}), 404, "could not be found")
    conn.compute.suspend_server(server.id)
    cloud.settled(conn, server.id, "SUSPENDED")
    refused(conn.compute.post(path, json={"vgpu": {"type": own["type"]}}), 409, "suspended")
    conn.compute.resume_server(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    # a full host: the attempt is undone, and its event says why
    for _ in range(40):
        conn.compute.post(path, json={"vgpu": {"type": own["type"]}})
        events = done(cloud, conn, server.id, "attach_vgpu")
        if "Error" in events.values():
            break
    assert "Error" in events.values()
    assert sum(counts(cloud, conn)) == len(vgpus(cloud, conn, server.id))
    assert conn.compute.get_server(server.id).status == "ACTIVE"
    cloud.delete(conn, server.id)
    assert counts(cloud, conn) == [0, 0]
