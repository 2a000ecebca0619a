"""Going round: a slow or silent host holds up nobody else, and one that has something to tell is visited at once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.agent.simulated.host import simulated_host
from lamina.hosts.mailbox import Mailbox
from lamina.hosts.remote import RemoteCompute
from lamina.model.errors import HostUnreachable
from lamina.model.hosts import HostReport
from lamina.operations.control_plane import ControlPlane
from lamina.operations.rounds import Reconciler
from lamina.store import hosts
from lamina.store.database import Database
from tests.contract.machines import described

pytestmark = pytest.mark.databases

WAIT = 20.0


class Watched:
    """A host whose report may be held back; counts how often it was asked."""

    def __init__(self, plane: ControlPlane, name: str, state: Path) -> None:
        state.mkdir()
        self._host = simulated_host(dataclasses.replace(described("mdev"), name=name), state, plane.clock)
        self.asked = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def report(self) -> HostReport:
        self.asked += 1
        self.begun.set()
        assert self.go_on.wait(WAIT)
        return self._host.compute.report()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host.compute, name)


def seen(plane: ControlPlane) -> list[str]:
    with plane.db.read() as tx:
        return [host.name for host in hosts.all_hosts(tx)]


@pytest.fixture
def watched(plane: ControlPlane, tmp_path: Path) -> dict[str, Watched]:
    """Two hosts."""
    found = {name: Watched(plane, name, tmp_path / name) for name in ("one", "two")}
    for name, host in found.items():
        plane.hosts.join(name, host)
    return found


@pytest.fixture
def reconciler(plane: ControlPlane, watched: dict[str, Watched]) -> Iterator[Reconciler]:
    """One that has made its first round, and makes no other by itself."""
    slow = dataclasses.replace(plane, settings=dataclasses.replace(plane.settings, report_interval=3600.0))
    reconciler = Reconciler(slow)
    reconciler.start()
    yield reconciler
    for host in watched.values():
        host.go_on.set()
    reconciler.stop()


def test_a_silent_host_is_passed_over(plane: ControlPlane, watched: dict[str, Watched]) -> None:
    plane.hosts.join("silent", RemoteCompute(Mailbox("silent", plane.clock)))
    with pytest.raises(HostUnreachable):
        plane.hosts.of("silent").report()
    reconciler = Reconciler(plane)
    reconciler.all_hosts()
    reconciler.stop()
    assert seen(plane) == ["one", "two"]


def test_a_host_with_news_is_visited_at_once_and_alone(plane: ControlPlane, reconciler: Reconciler, watched: dict[str, Watched]) -> None:
    assert [host.asked for host in watched.values()] == [1, 1]
    watched["two"].begun.clear()
    plane.hosts.changed("two")
    assert watched["two"].begun.wait(WAIT)
    reconciler.stop()
    assert [host.asked for host in watched.values()] == [1, 2]


def test_a_slow_host_holds_up_nobody_else(plane: ControlPlane, reconciler: Reconciler, watched: dict[str, Watched]) -> None:
    for host in watched.values():
        host.begun.clear()
    watched["one"].go_on.clear()
    plane.hosts.changed("one")
    assert watched["one"].begun.wait(WAIT)
    plane.hosts.changed("two")
    assert watched["two"].begun.wait(WAIT)


def test_what_changes_while_a_host_is_asked_has_it_asked_again(
    plane: ControlPlane, reconciler: Reconciler, watched: dict[str, Watched]
) -> None:
    host = watched["one"]
    host.begun.clear()
    host.go_on.clear()
    plane.hosts.changed("one")
    assert host.begun.wait(WAIT)
    host.begun.clear()
    plane.hosts.changed("one")
    host.go_on.set()
    assert host.begun.wait(WAIT)
    reconciler.stop()
    assert host.asked == 3


def test_what_another_control_plane_has_heard_lately_is_not_asked_again(
    plane: ControlPlane, watched: dict[str, Watched], database: Database
) -> None:
    """On SQLite there is no other."""
    slow = dataclasses.replace(plane, settings=dataclasses.replace(plane.settings, report_interval=3600.0))
    reconciler = Reconciler(slow)
    reconciler.all_hosts()
    with database.write() as tx:
        hosts.update_host(tx, "one", heard_by="another")
    reconciler.all_hosts()
    again = 2 if database.is_sqlite else 1
    assert {name: host.asked for name, host in watched.items()} == {"one": again, "two": 2}
    with database.write() as tx:
        hosts.update_host(tx, "one", heard_by="another", last_seen_at=plane.clock.now() - 3600.0)
    reconciler.all_hosts()
    reconciler.stop()
    assert {name: host.asked for name, host in watched.items()} == {"one": again + 1, "two": 3}
