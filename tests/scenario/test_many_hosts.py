"""Hosts that dial in: servers on several, one that falls silent in every way, and nothing lost when it is heard again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from openstack.connection import Connection

from tests.scenario.agents import Agent, ControlPlane, lamina
from tests.scenario.cloud import eventually, gpu, host, running

HOSTS = ("one", "two")
Many = tuple[ControlPlane, Connection, dict[str, Agent]]


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Many]:
    """A control plane, a user, and two hosts that have joined, one of each framework."""
    hosts = [host(name, gpu("0000:81:00.0", framework)) for name, framework in zip(HOSTS, ("mdev", "vfio"), strict=True)]
    with ExitStack() as stack:
        cloud = ControlPlane(tmp_path, hosts)
        stack.enter_context(running(cloud))
        agents = {name: stack.enter_context(cloud.host(name)) for name in HOSTS}
        conn = cloud.connect()
        cloud.until(conn, one="up", two="up")
        yield cloud, conn, agents


def on_both(cloud: ControlPlane, conn: Connection) -> dict[str, str]:
    """A server with a vGPU on each host: host -> its id."""
    flavor = cloud.flavor(conn, "small", resources__VGPU="1")
    made = [cloud.server(conn, f"s-{name}", flavor, availability_zone=f"nova:{name}") for name in HOSTS]
    assert [(s.status, s.compute_host) for s in made] == [("ACTIVE", name) for name in HOSTS]
    return dict(zip(HOSTS, [str(s.id) for s in made], strict=True))


def silence(agent: Agent, how: str) -> None:
    if how == "killed":
        agent.stop(signal.SIGKILL)
    elif how == "stopped":
        assert agent.stop(signal.SIGTERM) == 0
    else:
        agent.pause()


def end_silence(agent: Agent, how: str) -> None:
    if how == "paused":
        agent.go_on()
    else:
        agent.start()


@pytest.mark.parametrize("how", ["paused", "killed", "stopped"])
def test_a_host_falls_silent_and_comes_back(many: Many, how: str) -> None:
    cloud, conn, agents = many
    servers = on_both(cloud, conn)
    before = {name: cloud.devices(conn, name) for name in HOSTS}
    silence(agents["two"], how)
    cloud.until(conn, one="up", two="down")

    # its servers stay known and paid for, and no new one goes there
    assert {s.id: s.compute_host for s in conn.compute.servers()} == {server_id: name for name, server_id in servers.items()}
    assert cloud.usage(conn, "two") == 1
    assert cloud.server(conn, "elsewhere", conn.compute.find_flavor("small")).compute_host == "one"
    conn.compute.stop_server(servers["one"])
    cloud.settled(conn, servers["one"], "SHUTOFF")
    conn.compute.delete_server(servers["two"])

    end_silence(agents["two"], how)
    cloud.until(conn, one="up", two="up")
    eventually(lambda: [s.id for s in conn.compute.servers(details=False)], lambda ids: servers["two"] not in ids, 60.0)
    assert cloud.counts(conn, "two") == 0
    assert cloud.counts(conn, "one") == 2
    assert before["one"][0]["uuid"] in {d["uuid"] for d in cloud.devices(conn, "one")}
    assert cloud.server(conn, "again", conn.compute.find_flavor("small"), availability_zone="nova:two").status == "ACTIVE"
    assert cloud.counts(conn, "two") == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_control_plane_comes_back_and_finds_its_hosts(many: Many, how: signal.Signals) -> None:
    cloud, conn, _ = many
    servers = on_both(cloud, conn)
    before = {name: cloud.devices(conn, name) for name in HOSTS}
    cloud.restart(how)
    conn = cloud.connect()
    cloud.until(conn, one="up", two="up")
    eventually(lambda: {name: cloud.devices(conn, name) for name in HOSTS}, lambda seen: seen == before, 60.0)
    for server_id in servers.values():
        conn.compute.reboot_server(server_id, "HARD")
        assert cloud.settled(conn, server_id).status == "ACTIVE"


def test_agents_that_are_killed_at_their_work_leave_nothing_behind(many: Many) -> None:
    """Again and again, while servers are made and deleted; in the end devices, records and allocations are the same."""
    cloud, conn, agents = many
    flavor = cloud.flavor(conn, "small", resources__VGPU="1")
    cloud.image(conn)
    for turn in range(3):
        made = [cloud.server(conn, f"s-{turn}-{number}", flavor, wait=False).id for number in range(4)]
        victim = agents[HOSTS[turn % 2]]
        victim.stop(signal.SIGKILL)
        conn.compute.delete_server(made[0])
        victim.start()
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda pending: pending == [], 90.0)
    servers = list(conn.compute.servers())
    assert {s.status for s in servers} <= {"ACTIVE", "ERROR"}
    for name in HOSTS:
        assert cloud.counts(conn, name) == len([s for s in servers if s.compute_host == name and s.status == "ACTIVE"])
    for server in servers:
        conn.compute.delete_server(server.id)
    eventually(lambda: list(conn.compute.servers(details=False)), lambda left: left == [], 60.0)
    assert [cloud.counts(conn, name) for name in HOSTS] == [0, 0]


def test_a_server_moves_between_hosts_that_dial_in(many: Many) -> None:
    cloud, conn, _ = many
    servers = on_both(cloud, conn)
    conn.compute.delete_server(servers["two"])
    conn.compute.migrate_server(servers["one"])
    assert cloud.settled(conn, servers["one"], "VERIFY_RESIZE").compute_host == "two"
    conn.compute.confirm_server_resize(servers["one"])
    assert cloud.settled(conn, servers["one"], "ACTIVE").compute_host == "two"
    eventually(lambda: cloud.counts(conn, "one"), lambda count: count == 0)
    assert cloud.counts(conn, "two") == 1


def test_a_host_is_removed_and_joins_again(many: Many, tmp_path: Path) -> None:
    cloud, conn, agents = many
    servers = on_both(cloud, conn)
    refused = lamina("fleet", "remove", "two", "--state", str(cloud.state))
    assert (refused.returncode, refused.stderr) == (1, "lamina: Host two has servers; move or delete them first.\n")
    cloud.delete(conn, servers["two"])
    removed = lamina("fleet", "remove", "two", "--state", str(cloud.state))
    assert removed.returncode == 0, removed.stderr
    assert "two" not in cloud.services(conn)
    eventually(lambda: "was removed" in agents["two"].log.read_text(), bool, 60.0)
    agents["two"].stop(signal.SIGTERM)
    with cloud.host("two"):
        cloud.until(conn, one="up", two="up")
        flavor = conn.compute.find_flavor("small")
        assert cloud.server(conn, "again", flavor, availability_zone="nova:two").status == "ACTIVE"
        assert cloud.counts(conn, "two") == 1


def test_a_lamina_with_hosts_of_its_own_takes_others_in(tmp_path: Path) -> None:
    class Mixed(ControlPlane):
        def verb(self) -> list[str]:
            own = tmp_path / "own.yaml"
            own.write_text(yaml.safe_dump({"hosts": [host("own", gpu("0000:81:00.0", "vfio"))]}))
            return ["up", "--fleet", str(own), *super().verb()[1:]]

    cloud = Mixed(tmp_path, [host("far", gpu("0000:81:00.0", "mdev"))])
    with running(cloud), cloud.host("far"):
        conn = cloud.connect()
        cloud.until(conn, own="up", far="up")
        taken = lamina("join", cloud.agents_url, "--name", "own", "--state", str(tmp_path / "no"), stdin=cloud.token("own"))
        assert (taken.returncode, taken.stderr) == (1, "lamina: Host own is run by this Lamina itself; join under another name.\n")
        flavor = cloud.flavor(conn, "small", resources__VGPU="1")
        for name in ("own", "far"):
            assert cloud.server(conn, name, flavor, availability_zone=f"nova:{name}").compute_host == name
            assert cloud.counts(conn, name) == 1
