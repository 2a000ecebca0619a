"""An agent's line: it brings changes, gets its next certificate by itself, and ends cleanly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.hosts import certificates, dialing, joining
from lamina.hosts.authority import authority
from lamina.model.errors import HostUnreachable
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.store import enrolments
from tests.contract.dialled import WAIT, control_plane, dialled, joined
from tests.contract.machines import call, switched_on


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane(tmp_path / "control") as plane:
        yield plane


class Slow:
    """A compute service whose work takes until it is let go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def method(*_given: Any) -> None:
            self.begun.set()
            assert self.go_on.wait(WAIT)
            self.done.append(name)

        return method


def in_thread(what: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """What it returned or raised is in the list once the thread has ended."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(what())
        except HostUnreachable as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def test_a_change_outside_is_told_at_once(plane: ControlPlane, tmp_path: Path) -> None:
    told, heard = list[str](), threading.Event()

    def listen(name: str) -> None:
        told.append(name)
        if len(told) == 2:
            heard.set()

    plane.hosts.on_change(listen)
    member = joined(plane, "host", tmp_path / "host")
    host = switched_on("mdev", tmp_path / "host")
    with dialled(plane, member, host.compute, watch=host.compute.on_change):
        host.machine.reboot()
        assert heard.wait(WAIT)
    # for its coming, and for its change
    assert set(told) == {"host"}


def test_a_certificate_that_grows_old_is_renewed_while_the_line_stays(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = joined(plane, "host", tmp_path / "host")
    now = plane.clock.now()
    ca = authority(plane.settings.state, now)
    old = certificates.host(ca, "host", certificates.request(member.key(), "host"), now - 0.9 * certificates.HOST_LIFE)
    member.renewed(old)
    renewed, renew = threading.Event(), joining.renew

    def watched(*given: Any) -> None:
        renew(*given)
        renewed.set()

    monkeypatch.setattr(joining, "renew", watched)
    host = switched_on("vfio", tmp_path / "host")
    with dialled(plane, member, host.compute) as remote:
        assert renewed.wait(WAIT)
        assert remote.report().host == "host"
        facts = member.certificate()
    assert facts.not_after > certificates.facts(old).not_after
    with plane.db.read() as tx:
        recorded = enrolments.find(tx, "host")
    assert recorded is not None
    assert recorded.serial == facts.serial


def test_an_agent_that_is_told_to_stop_finishes_what_it_has_begun(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, leave = Slow(), dialing.Line._leave

    async def going(line: dialing.Line, client: Any) -> None:
        slow.go_on.set()
        await leave(line, client)

    monkeypatch.setattr(dialing.Line, "_leave", going)
    with dialled(plane, joined(plane, "host", tmp_path / "host"), slow) as remote:
        thread, ended = in_thread(lambda: remote.remove_domain(call(), "s"))
        assert slow.begun.wait(WAIT)
    thread.join(WAIT)
    assert (ended, slow.done) == ([None], ["remove_domain"])
    with pytest.raises(HostUnreachable):
        remote.report()


def test_an_agent_dials_every_control_plane_that_it_is_told_of(plane: ControlPlane, tmp_path: Path) -> None:
    member = joined(plane, "host", tmp_path / "host")
    host = switched_on("mdev", tmp_path / "host")
    first = plane.settings.agents_url
    assert first is not None

    def kept() -> list[str]:
        found: list[str] = json.loads((tmp_path / "host" / "membership" / "joined.json").read_text())["control_planes"]
        return found

    with dialled(plane, member, host.compute) as remote:
        with control_plane(tmp_path / "second", shared=tmp_path / "control") as other:
            second = other.settings.agents_url
            assert second is not None
            tell(plane, first, second)
            until(lambda: other.hosts.names() == ["host"] and other.hosts.of("host").report().host == "host")
            assert kept() == [first, second]
            tell(other, first, second)
        # it is gone; its line breaks, and is not dialled for ever
        tell(plane, first)
        until(lambda: kept() == [first])
        assert remote.report().host == "host"
    assert member.control_planes == (first,)


def tell(plane: ControlPlane, *control_planes: str) -> None:
    plane.hosts.control_planes = control_planes
    enrolment.tell_all(plane)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while True:
        try:
            if holds():
                return
        except HostUnreachable:
            pass
        assert time.monotonic() < end
        time.sleep(0.01)
