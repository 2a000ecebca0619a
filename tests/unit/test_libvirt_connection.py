"""The connection to libvirt on a libvirt that is made up: it comes back, gives up in time, and tells what went wrong.

The real one is met in the lab. Here is what it seldom does: to hang, to lose a connection in the middle, to refuse.
"""

from __future__ import annotations

import importlib
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lamina.model.errors import HostUnreachable, HypervisorError

CONSTANTS = (
    *("VIR_ERR_NO_CONNECT", "VIR_ERR_INVALID_CONN", "VIR_ERR_SYSTEM_ERROR", "VIR_ERR_RPC", "VIR_ERR_AUTH_FAILED", "VIR_ERR_AUTH_CANCELLED"),
    *("VIR_ERR_OPERATION_INVALID", "VIR_FROM_RPC", "VIR_FROM_NONE", "VIR_FROM_REMOTE", "VIR_FROM_QEMU", "VIR_DOMAIN_EVENT_ID_LIFECYCLE"),
)


class LibvirtError(Exception):
    def __init__(self, message: str, code: int, domain: int) -> None:
        super().__init__(message)
        self.code, self.domain = code, domain

    def get_error_code(self) -> int:
        return self.code

    def get_error_domain(self) -> int:
        return self.domain

    def get_error_message(self) -> str:
        return str(self)


class Daemon:
    """libvirtd: may be off, and closes every connection when it goes."""

    def __init__(self) -> None:
        self.on = True
        self.connections: list[FakeConnection] = []

    def open(self, uri: str) -> FakeConnection:
        if not self.on:
            raise LibvirtError(f"Failed to connect\n to {uri}", fake.VIR_ERR_SYSTEM_ERROR, fake.VIR_FROM_RPC)
        self.connections.append(FakeConnection(self))
        return self.connections[-1]

    def restart(self) -> None:
        for connection in self.connections:
            connection.alive = False


class FakeConnection:
    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.alive = True
        self.closed: Callable[..., None] = lambda *_: None
        self.happened: Callable[..., None] = lambda *_: None

    def setKeepAlive(self, interval: int, count: int) -> None:  # noqa: N802
        raise LibvirtError("not supported", fake.VIR_ERR_OPERATION_INVALID, fake.VIR_FROM_QEMU)

    def registerCloseCallback(self, callback: Callable[..., None], opaque: object) -> None:  # noqa: N802
        self.closed = callback

    def domainEventRegisterAny(self, domain: object, event: int, callback: Callable[..., None], opaque: object) -> None:  # noqa: N802
        self.happened = callback

    def isAlive(self) -> bool:  # noqa: N802
        return self.alive

    def answer(self) -> str:
        if not self.alive:
            raise LibvirtError("client socket is closed", fake.VIR_ERR_RPC, fake.VIR_FROM_RPC)
        return "answer"


fake: Any = types.ModuleType("libvirt")
for _number, _name in enumerate(CONSTANTS, 1):
    setattr(fake, _name, _number)
fake.libvirtError = LibvirtError
fake.virConnect = FakeConnection


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    one = Daemon()
    fake.open = one.open
    fake.virEventRegisterDefaultImpl = lambda: None
    fake.virEventRunDefaultImpl = lambda: threading.Event().wait()
    fake.registerErrorHandler = lambda handler, context: None
    name = "lamina.agent.hypervisors.libvirt_connection"
    monkeypatch.setitem(sys.modules, "libvirt", fake)
    monkeypatch.delitem(sys.modules, name, raising=False)
    one.module = importlib.import_module(name)  # type: ignore[attr-defined]
    yield one
    sys.modules.pop(name, None)


@pytest.fixture
def connection(daemon: Daemon) -> Any:
    return daemon.module.Connection("qemu:///system")  # type: ignore[attr-defined]


def test_one_connection_serves_all_questions(daemon: Daemon, connection: Any) -> None:
    assert daemon.connections == []
    for _ in range(3):
        assert connection.ask("answer", lambda c: c.answer()) == "answer"
    assert len(daemon.connections) == 1


def test_a_question_is_asked_again_after_the_daemon_was_restarted(daemon: Daemon, connection: Any) -> None:
    connection.ask("answer", lambda c: c.answer())
    daemon.restart()
    assert connection.ask("answer", lambda c: c.answer()) == "answer"
    assert len(daemon.connections) == 2


def test_a_daemon_that_is_off_is_told_on_one_line(daemon: Daemon, connection: Any) -> None:
    daemon.on = False
    with pytest.raises(HostUnreachable) as caught:
        connection.ask("answer", lambda c: c.answer())
    assert caught.value.message == "libvirt at qemu:///system does not answer: Failed to connect to qemu:///system"
    daemon.on = True
    assert connection.ask("answer", lambda c: c.answer()) == "answer"


def test_a_refusal_is_not_asked_again(daemon: Daemon, connection: Any) -> None:
    asked = []

    def refuse(_: object) -> None:
        asked.append(1)
        raise LibvirtError("domain is not running", fake.VIR_ERR_OPERATION_INVALID, fake.VIR_FROM_QEMU)

    with pytest.raises(HypervisorError, match="libvirt could not stop it: domain is not running"):
        connection.ask("stop it", refuse)
    assert asked == [1]
    assert len(daemon.connections) == 1


def test_a_daemon_that_hangs_is_given_up_and_others_go_on(daemon: Daemon, connection: Any) -> None:
    let_go = threading.Event()
    with pytest.raises(HostUnreachable, match="did not answer within 0 s"):
        connection.ask("answer", lambda _: let_go.wait(), patience=0.01)
    assert connection.ask("answer", lambda c: c.answer()) == "answer"
    assert len(daemon.connections) == 2, "what hung is not trusted again"
    let_go.set()


def test_changes_and_losses_are_told(daemon: Daemon, connection: Any) -> None:
    told: list[str] = []
    connection.watch(lambda: told.append("changed"))
    connection.ask("answer", lambda c: c.answer())
    (first,) = daemon.connections
    first.happened(first, object(), 5, 0, None)
    assert told == ["changed"]
    first.closed(first, 1, None)
    assert told == ["changed", "changed"]
    connection.ask("answer", lambda c: c.answer())
    assert len(daemon.connections) == 2


def test_other_errors_are_their_own(daemon: Daemon, connection: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        connection.ask("divide", lambda _: 1 / 0)
