"""An agent's line: it brings changes, gets its next certificate by itself, and ends cleanly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.hosts import certificates, dialing, joining
from lamina.hosts.authority import authority
from lamina.model.errors import HostUnreachable
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
