"""The public port on a real loopback address, served from a thread of this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from lamina.cli.draining import DrainingServer
from lamina.cli.listening import bind, public
from lamina.cli.tls import Tls
from lamina.operations.control_plane import ControlPlane
from tests.scenario.cloud import eventually


@contextlib.contextmanager
def listening(plane: ControlPlane, tls: Tls | None = None) -> Iterator[tuple[DrainingServer, int]]:
    """A server that answers until it is told to exit, which it is at the end of the block; and the number of its port."""
    with contextlib.closing(bind("--listen", "127.0.0.1:0")) as door:
        port = door.getsockname()[1]
        server = DrainingServer(public(plane, tls))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        eventually(lambda: server.started, bool)
        try:
            yield server, port
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def served(plane: ControlPlane, tls: Tls | None = None) -> Iterator[int]:
    """The public port while the block lasts: its number."""
    with listening(plane, tls) as (_, port):
        yield port
