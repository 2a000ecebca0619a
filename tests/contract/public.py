"""The public port on a real loopback address, served from a thread of this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import uvicorn

from lamina.cli.listening import bind, public
from lamina.cli.tls import Tls
from lamina.operations.control_plane import ControlPlane
from tests.scenario.cloud import eventually


@contextlib.contextmanager
def served(plane: ControlPlane, tls: Tls | None = None) -> Iterator[int]:
    """The public port while the block lasts: its number."""
    with contextlib.closing(bind("--listen", "127.0.0.1:0")) as door:
        server = uvicorn.Server(public(plane, tls))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        eventually(lambda: server.started, bool)
        try:
            yield door.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
