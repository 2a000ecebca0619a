"""Listening: the public port, and the one where hosts dial in.

The second one has a thread and an event loop of its own and is closed last: while the steps under way are being
finished, hosts must still be able to say what became of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import uvicorn

from lamina.api import agents
from lamina.api.application import CERTIFICATE, application
from lamina.api.rooms import rooms_of
from lamina.cli.connections import BoundedConnection
from lamina.cli.draining import DrainingServer
from lamina.cli.tls import Tls
from lamina.hosts import authority
from lamina.model.errors import BadRequest, Unavailable
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane

#: seconds that requests under way may take at the end, within what a service's supervisor waits before it kills (90)
GRACE = 20
#: seconds in which a listener answers once it was started
START = 5
#: seconds that a connection of a host may be idle; hosts end theirs sooner, so that none is used while it is being ended here
KEEP_ALIVE = 60
#: connections at once where hosts dial in, each of which has one parked
MOST_HOSTS = 20_000
#: seconds between looks at how long the listener's certificate is still good
CERTIFICATE_LOOK = 3600


def bind(option: str, listen: str) -> socket.socket:
    """A listening socket. Raises `BadRequest` for an address that is malformed, in use or not ours."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise BadRequest(f"{option}: {listen!r} is not HOST:PORT, as in 127.0.0.1:8774")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        door = socket.socket(family, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, int(port)))
    except socket.gaierror as error:
        raise BadRequest(f"{option}: {host!r} is not an address of this machine") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadRequest(f"{option}: {listen} is in use by another process; choose another port") from error
        raise BadRequest(f"{option}: {listen} cannot be listened on: {error.strerror}") from error
    return door


def url_of(scheme: str, door: socket.socket, host: str | None = None) -> str:
    """The base URL of what is served there, under another host name if one is given."""
    address, port = door.getsockname()[:2]
    host = host or address
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def names_of(door: socket.socket, advertised: Sequence[str]) -> tuple[str, ...]:
    """Names and addresses under which hosts may reach a listener, the one to tell them first."""
    address = door.getsockname()[0]
    everywhere = address in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    own = (socket.gethostname(), "localhost", "127.0.0.1", "::1") if everywhere else (address,)
    return tuple(dict.fromkeys((*advertised, *own)))


# ------------------------------------------------------------------------------------------------ the public port


class _PublicServer(DrainingServer):
    """Says when it answers, and leaves the rest of the clean stop to its caller."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but without raising the signal again: it has been answered."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


#: seconds after which a thread that works lets another one: an answer is often ready behind a request that has just come
_SWITCH = 0.0005


def answer(plane: ControlPlane, door: socket.socket, ready: Callable[[str], None], tls: Tls | None = None) -> None:
    """Serve every API until SIGTERM or SIGINT; `ready` is called with the base URL once requests are answered."""
    sys.setswitchinterval(_SWITCH)
    server = _PublicServer(public(plane, tls), lambda: ready(plane.settings.public_url))
    server.run(sockets=[door])
    if not server.started:
        raise Unavailable("The server could not be started; its log tells more.")


def public(plane: ControlPlane, tls: Tls | None) -> uvicorn.Config:
    """What the public port is served with."""
    rooms, limits = rooms_of(plane.settings), plane.settings.limits
    bounded: dict[str, Any] = {"http": partial(BoundedConnection, limits), "timeout_keep_alive": limits.keep_alive}
    if tls is None:
        return _config(plane, rooms, **bounded)
    context = tls.context
    return _config(
        plane,
        rooms,
        **bounded,
        ssl_context_factory=lambda _config, _default: context,
        callback_notify=tls.look,
        timeout_notify=tls.every,
    )


def _config(plane: ControlPlane, rooms: Sequence[Any], **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        application(plane, rooms),
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE,
        **more,
    )


# ------------------------------------------------------------------------------------------------ where hosts dial in


class _MutualTls(BoundedConnection):
    """Tells the application whose certificate TLS has verified."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        session = self.transport.get_extra_info("ssl_object")
        cast(dict[str, Any], self.scope)[CERTIFICATE] = session.getpeercert(binary_form=True)


class _AgentsServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, closing: Callable[[], None]) -> None:
        super().__init__(config)
        self._closing = closing
        self.answers = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        await super().shutdown(sockets)


@contextlib.contextmanager
def listening_for_agents(plane: ControlPlane, door: socket.socket, names: Sequence[str]) -> Iterator[None]:
    """Let hosts dial in at `door`, whose certificate is for `names`, until the block ends. Raises `Conflict`."""
    common, state = plane.settings.common, plane.settings.state
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # asked for, not demanded: who joins has none yet
    context.verify_mode = ssl.CERT_OPTIONAL

    def certify() -> None:
        """Connections that come later see the new certificate."""
        context.load_cert_chain(*authority.for_listener(common, state, names, plane.clock.now()))

    async def look() -> None:
        certify()

    certify()
    context.load_verify_locations(authority.authority_file(common))
    config = _config(
        plane,
        (agents.ROOM,),
        http=partial(_MutualTls, dataclasses.replace(plane.settings.limits, connections=MOST_HOSTS)),
        timeout_keep_alive=KEEP_ALIVE,
        ssl_context_factory=lambda _config, _default: context,
        callback_notify=look,
        timeout_notify=CERTIFICATE_LOOK,
    )
    server = _AgentsServer(config, closing=lambda: enrolment.let_go(plane))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="agents", daemon=True)
    thread.start()
    server.answers.wait(START)
    if not server.started:
        raise Unavailable("The listener for agents could not be started; the log tells more.")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
