"""The end of the public port, over real sockets: nobody who was let in is cut off."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamina.cli import draining
from lamina.cli.connections import LAST_CALL
from lamina.cli.draining import DrainingServer
from lamina.cli.tls import Tls
from lamina.model.clock import SystemClock
from lamina.operations.control_plane import ControlPlane
from tests.contract.public import listening
from tests.contract.test_tls import for_loopback, made

pytestmark = pytest.mark.weakness(404)

HANGS = 10.0
CLOSE = b"\r\nConnection: close\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=HANGS)


def heard(line: socket.socket) -> bytes:
    """All that comes until the other end closes; raises ConnectionError where it cuts off."""
    said = b""
    while piece := line.recv(65536):
        said += piece
    return said


def answered(said: bytes) -> bool:
    return said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"}")


def held(server: DrainingServer) -> threading.Event:
    """Have a server accept nobody until this is set."""
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        go_on.wait(HANGS)

    server.servers[0].get_loop().call_soon_threadsafe(hold)
    assert busy.wait(HANGS)
    return go_on


@pytest.mark.parametrize("asked", [True, False], ids=["has asked", "has only connected"])
def test_who_waits_to_be_accepted_is_answered(plane: ControlPlane, asked: bool) -> None:
    with listening(plane) as (server, port):
        go_on = held(server)
        lines = [connected(port) for _ in range(20)]
        for line in lines:
            if asked:
                line.sendall(GET)
        server.should_exit = True
        time.sleep(0.2)  # its next look at the signal is due before it accepts again
        go_on.set()
        for line in lines:
            if not asked:
                line.sendall(GET)
        said = [heard(line) for line in lines]
    assert [answered(one) for one in said] == [True] * len(lines)
    with pytest.raises(ConnectionRefusedError):
        connected(port)


def test_who_was_answered_and_rests_is_closed_at_once(plane: ControlPlane) -> None:
    with listening(plane) as (server, port):
        line = connected(port)
        line.sendall(GET)
        assert line.recv(65536).startswith(b"HTTP/1.1 200 ")
        server.should_exit = True
        assert heard(line) == b""


def test_half_a_head_may_be_ended(plane: ControlPlane) -> None:
    with listening(plane) as (server, port):
        line = connected(port)
        line.sendall(GET[:20])
        time.sleep(0.1)
        server.should_exit = True
        time.sleep(0.3)
        line.sendall(GET[20:])
        said = heard(line)
    assert answered(said)
    assert b"connection: close\r\n" in said


def test_who_connects_and_asks_nothing_does_not_keep_it(plane: ControlPlane) -> None:
    with listening(plane) as (server, port):
        line = connected(port)
        server.should_exit = True
        begin = time.monotonic()
        assert heard(line) == b""
        assert time.monotonic() - begin < LAST_CALL + HANGS / 2


def test_who_waits_and_speaks_no_tls_does_not_keep_it(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "TLS_HANDSHAKE", 0.5)
    with listening(plane, Tls(made(tmp_path, for_loopback()), SystemClock(), 60.0)) as (server, port):
        go_on = held(server)
        lines = [connected(port) for _ in range(5)]  # the loop may still accept the first by itself
        server.should_exit = True
        time.sleep(0.2)
        go_on.set()
        begin = time.monotonic()
        assert [heard(line) for line in lines] == [b""] * len(lines)
    assert time.monotonic() - begin < HANGS


def test_under_a_storm_of_connections_each_is_answered_or_refused(plane: ControlPlane) -> None:
    seen: Counter[str] = Counter()

    def storm(port: int) -> None:
        while True:
            try:
                line = connected(port)
            except ConnectionRefusedError:
                seen["refused"] += 1
                return
            with line:
                try:
                    line.sendall(GET.replace(b"\r\n\r\n", CLOSE))
                    seen["answered" if answered(heard(line)) else "broken"] += 1
                except ConnectionError:
                    seen["broken"] += 1

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            with listening(plane) as (_, port):
                storms = [pool.submit(storm, port) for _ in range(4)]
                time.sleep(0.2)
            for one in storms:
                one.result()
    assert seen["broken"] == 0
    assert seen["refused"] == 12
    assert seen["answered"] > 20
