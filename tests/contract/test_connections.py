"""What a connection may cost, over real sockets: slow ones, large ones, too many, and those that do not read."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from lamina.model.settings import Limits
from lamina.operations.control_plane import ControlPlane
from lamina.store import identity, images, tokens
from lamina.store.bootstrap import bootstrap
from tests.contract.public import served
from tests.scenario.cloud import eventually

pytestmark = pytest.mark.weakness(400)

LIMITS = Limits(connections=8, url=300, head=2000, head_time=0.4, body_time=0.4, idle_time=0.4, keep_alive=0.4)
#: seconds after which what is to end in a fraction of one is taken to hang
HANGS = 10.0
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def limited(plane: ControlPlane) -> ControlPlane:
    return dataclasses.replace(plane, settings=dataclasses.replace(plane.settings, limits=LIMITS))


@pytest.fixture
def port(limited: ControlPlane) -> Iterator[int]:
    with served(limited) as port:
        yield port


@pytest.fixture
def token(plane: ControlPlane) -> str:
    now = plane.clock.now()
    with plane.db.write() as tx:
        bootstrap(tx, "a", "d", now)
        user, _ = identity.password_of(tx, name="admin")
        assert user is not None
        return tokens.add_token(tx, user.id, user.default_project_id, ["password"], now, now + 3600)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=HANGS)


def heard(line: socket.socket) -> bytes:
    """All that comes until the other end closes. Raises TimeoutError where it does not."""
    said = b""
    try:
        while piece := line.recv(65536):
            said += piece
    except ConnectionError:
        pass
    return said


def dripped(line: socket.socket, piece: bytes) -> bytes:
    """What is answered to who goes on sending a piece every tenth of a second, until the other end closes."""
    line.settimeout(0.1)
    deadline, said = time.monotonic() + HANGS, b""
    while time.monotonic() < deadline:
        try:
            line.sendall(piece)
            got = line.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return said
        if not got:
            return said
        said += got
    raise AssertionError("the connection was let go on")


def status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


def is_well(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200


@pytest.mark.parametrize("begun", [b"", b"GE", GET, GET + b"X-Header: "])
def test_a_head_that_drips_in_is_ended(port: int, begun: bytes) -> None:
    with connected(port) as line:
        line.sendall(begun)
        said = dripped(line, b"x")
    assert status(said) in (400, 408)
    assert is_well(port)


@pytest.mark.parametrize("begun", [b"", b"GE", GET])
def test_a_head_that_does_not_come_is_ended(port: int, begun: bytes) -> None:
    with connected(port) as line:
        line.sendall(begun)
        said = heard(line)
    assert said == b"" if not begun else status(said) == 408
    assert is_well(port)


@pytest.mark.parametrize("first", [b"", GET + b"\r\n"])
def test_empty_lines_before_a_request_are_ended(port: int, first: bytes) -> None:
    with connected(port) as line:
        line.sendall(first)
        dripped(line, b"\r\n")


def test_a_connection_that_rests_between_two_requests_is_closed(port: int) -> None:
    with connected(port) as line:
        line.sendall(GET + b"\r\n")
        assert status(heard(line)) == 200


@pytest.mark.parametrize("kind", [b"Content-Length: 50000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_that_drips_in_is_answered_408_and_ended(port: int, kind: bytes) -> None:
    with connected(port) as line:
        line.sendall(POST + kind)
        said = dripped(line, b"1\r\n{\r\n" if b"chunked" in kind else b"{")
    head, _, body = said.partition(b"\r\n\r\n")
    assert (status(head), b"connection: close" in head.lower()) == (408, True)
    assert b"The body did not come within 0.4 seconds" in body
    assert is_well(port)


def test_who_goes_on_sending_after_the_answer_is_ended(port: int) -> None:
    """Refused for its size at once, the rest comes drop by drop."""
    with connected(port) as line:
        line.sendall(POST + b"Content-Length: 9000000\r\n\r\n")
        assert status(dripped(line, b"x")) == 413


def test_an_upload_may_take_its_time_but_not_stand_still(limited: ControlPlane, token: str) -> None:
    now = limited.clock.now()
    with limited.db.write() as tx:
        for name in ("slow", "still"):
            user, _ = identity.password_of(tx, name="admin")
            assert user is not None
            owner = user.default_project_id or ""
            images.add(tx, images.Image(name, owner, now, now, disk_format="raw", container_format="bare"))

    def put(name: str) -> bytes:
        words = f"PUT /image/v2/images/{name}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n"
        return (words + "Content-Type: application/octet-stream\r\nContent-Length: 10\r\n\r\n").encode()

    with served(limited) as port:
        with connected(port) as line:
            line.sendall(put("slow"))
            for _ in range(10):  # a second in all, more than twice what a JSON body may take
                time.sleep(0.1)
                line.sendall(b"\0")
            assert status(line.recv(65536)) == 204
        with connected(port) as line:
            line.sendall(put("still") + b"\0")
            assert status(heard(line)) == 408
    assert not [file for file in limited.settings.images.iterdir() if file.name.startswith("upload-")]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET /" + b"a" * 400 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /?" + b"a" * 100_000, 414),
        (GET + b"A: " + b"a" * 3000 + b"\r\n\r\n", 431),
        (GET + b"a: b\r\n" * 600 + b"\r\n", 431),
        (GET + b"A: " + b"a" * 500_000, 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
def test_a_head_of_any_size_is_not_taken(port: int, request_: bytes, code: int) -> None:
    with connected(port) as line:
        line.sendall(request_)
        said = heard(line)
    assert status(said) == code
    assert b"x-content-type-options: nosniff" in said
    assert is_well(port)


def test_one_connection_too_many_is_told_when_to_come_again(port: int) -> None:
    lines = [connected(port) for _ in range(LIMITS.connections)]
    try:
        with connected(port) as line:
            line.sendall(GET + b"\r\n")
            said = heard(line)
        assert status(said) == 503
        assert b"retry-after: 1" in said.lower()
        assert b"x-content-type-options: nosniff" in said
    finally:
        for line in lines:
            line.close()
    assert eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code, lambda seen: seen == 200)


def test_beyond_twice_as_many_there_is_not_even_a_word(port: int) -> None:
    lines = [connected(port) for _ in range(2 * LIMITS.connections)]
    try:
        with connected(port) as line:
            assert heard(line) == b""
    finally:
        for line in lines:
            line.close()


def test_who_does_not_read_what_was_asked_for_is_ended(limited: ControlPlane, token: str) -> None:
    now, size = limited.clock.now(), 64 << 20
    with limited.db.write() as tx:
        images.add(tx, images.Image("large", "", now, now, visibility="public", disk_format="raw", container_format="bare"))
        images.activate(tx, "large", size=size, virtual_size=size, checksum="", sha512="ab", now=now)
    with (limited.settings.images / "large").open("wb") as file:
        file.truncate(size)
    with served(limited) as port, connected(port) as line:
        line.sendall(f"GET /image/v2/images/large/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n".encode())
        time.sleep(1.0)
        assert 0 < len(heard(line)) < size


def test_nobody_is_handed_over_to_another_protocol(port: int) -> None:
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n"
    )
    with connected(port) as line:
        line.sendall(GET + upgrade)
        assert status(line.recv(65536)) == 200
