"""Several control planes on one PostgreSQL database: hosts know of all of them, and one that dies is not missed."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from openstack.connection import Connection

from tests.empty_database import Postgres
from tests.scenario.agents import ControlPlane
from tests.scenario.cloud import eventually, gpu, host, running

HOSTS = ("one", "two", "three")
FITS = 16
#: seconds in which another one takes up what a dead one was doing, and does it
TAKEN_OVER = 30.0


class Fleet:
    """Two control planes, of which the second may still be started, and hosts that joined by the first."""

    def __init__(self, folder: Path, url: str, stack: ExitStack) -> None:
        hosts = [host(name, gpu("0000:81:00.0", "mdev")) for name in HOSTS]
        options = ("--database", url, "--shared", str(folder / "shared"))
        self._stack = stack
        self.first, self.second = (ControlPlane(folder / name, hosts, *options) for name in ("first", "second"))
        stack.enter_context(running(self.first))
        for name in HOSTS:
            stack.enter_context(self.first.host(name))
        self.first.until(self.first.connect(), **dict.fromkeys(HOSTS, "up"))

    def start_second(self) -> Connection:
        self._stack.enter_context(running(self.second))
        return self.second.connect()

    def created(self, cloud: ControlPlane, conn: Connection, count: int) -> list[str]:
        """Servers that are being made, with a vGPU each."""
        flavor = conn.compute.find_flavor("small") or cloud.flavor(conn, "small", resources__VGPU="1")
        image = cloud.image(conn)
        made = [conn.compute.create_server(name="s", flavor_id=flavor.id, image_id=image.id, networks="none") for _ in range(count)]
        return [server.id for server in made]

    def must_be_whole(self, cloud: ControlPlane, conn: Connection, servers: list[str]) -> None:
        """All are there, on a vGPU each, and nothing else is on any host."""
        states = Counter(cloud.settled(conn, server_id).status for server_id in servers)
        assert states == {"ACTIVE": len(servers)}
        assert sum(cloud.counts(conn, name) for name in HOSTS) == len(servers)


@pytest.fixture
def fleet(tmp_path: Path, postgres: Postgres) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, stack.enter_context(postgres.database()), stack)


def test_a_second_control_plane_serves_at_once_and_its_hosts_find_it(fleet: Fleet) -> None:
    first = fleet.first.connect()
    conn = fleet.start_second()
    servers = fleet.created(fleet.second, conn, 6)
    fleet.must_be_whole(fleet.second, conn, servers)
    fleet.must_be_whole(fleet.first, first, servers)
    for cloud in (fleet.first, fleet.second):
        known = cloud.fleet(cloud.connect(), "/replicas")["replicas"]
        assert {one["url"]: one["state"] for one in known} == {fleet.first.url: "up", fleet.second.url: "up"}
        assert [one["url"] for one in known if one["this"]] == [cloud.url]
    for server_id in servers[:3]:
        fleet.first.delete(first, server_id)
    fleet.must_be_whole(fleet.second, conn, servers[3:])


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.4])
def test_what_a_dead_one_was_doing_another_takes_up(fleet: Fleet, moment: float) -> None:
    """Killed with creations under way: those that were accepted are all made, once."""
    conn = fleet.start_second()
    eventually(lambda: fleet.second.services(conn), lambda seen: set(seen.values()) == {"up"}, 60.0)
    servers = fleet.created(fleet.first, fleet.first.connect(), 24)
    threading.Event().wait(moment)
    fleet.first.stop(signal.SIGKILL)
    fleet.second.patience = TAKEN_OVER
    fleet.must_be_whole(fleet.second, conn, servers)
    known = eventually(
        lambda: fleet.second.fleet(conn, "/replicas")["replicas"], lambda seen: "down" in [one["state"] for one in seen], TAKEN_OVER
    )
    assert {one["url"]: one["state"] for one in known} == {fleet.first.url: "down", fleet.second.url: "up"}


def test_each_is_restarted_in_turn_and_no_request_fails(fleet: Fleet) -> None:
    fleet.start_second()
    servers: list[str] = []
    for stopped, serving in ((fleet.first, fleet.second), (fleet.second, fleet.first)):
        servers += fleet.created(stopped, stopped.connect(), 4)
        assert stopped.stop() == 0
        servers += fleet.created(serving, serving.connect(), 4)
        stopped.start()
        servers += fleet.created(stopped, stopped.connect(), 4)
    fleet.first.patience = TAKEN_OVER
    fleet.must_be_whole(fleet.first, fleet.first.connect(), servers)
