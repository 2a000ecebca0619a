"""The end of a listener: whoever has connected by then is answered, and who comes later is refused, not cut off.

uvicorn closes its listener over the connections that the kernel has completed and nobody has accepted, which resets them: a
client, or the load balancer before it, cannot know then whether its request was carried out. Here the listener takes no new
ones for a moment, those that wait are accepted, and only then is it closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
from collections.abc import Iterator

import uvicorn

#: seconds that a handshake under way has to be completed, and that one of TLS after it has
_HANDSHAKE, TLS_HANDSHAKE = 0.05, 5.0

#: asm-generic/socket.h
_SO_ATTACH_FILTER = 26


class _Instruction(ctypes.Structure):
    """One of classic BPF (linux/filter.h, ``sock_filter``)."""

    _fields_ = (("code", ctypes.c_uint16), ("if_true", ctypes.c_uint8), ("if_false", ctypes.c_uint8), ("operand", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """``sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


#: Sees a segment from its TCP header on and lets those pass that acknowledge or reset. A first SYN does neither and is dropped: its
#: sender repeats it after a second.
_NOBODY_NEW = (_Instruction * 4)(
    _Instruction(0x30, 0, 0, 13),  # load the byte of flags
    _Instruction(0x45, 0, 1, 0x14),  # is ACK or RST among them?
    _Instruction(0x06, 0, 0, 0xFFFF_FFFF),  # pass
    _Instruction(0x06, 0, 0, 0),  # drop
)


class DrainingServer(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        doors = [door.dup() for door in sockets or ()]  # which keep the kernel's queue when uvicorn's are closed
        for server in self.servers:
            server.close()
        for door in doors:
            _take_nobody_new(door)
        await asyncio.sleep(_HANDSHAKE)
        waiting = [connection for door in doors for connection in _accepted(door)]
        for door in (*doors, *(sockets or ())):
            door.close()
        await asyncio.gather(*(self._serve_one(connection) for connection in waiting), return_exceptions=True)
        await super().shutdown()

    async def _serve_one(self, connection: socket.socket) -> None:
        def protocol() -> asyncio.Protocol:
            # uvicorn declares it a plain asyncio.Protocol, and calls it so all the same
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        patience = TLS_HANDSHAKE if self.config.ssl else None  # asyncio's own would hold the end up for a minute
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(protocol, connection, ssl=self.config.ssl, ssl_handshake_timeout=patience)


def _take_nobody_new(door: socket.socket) -> None:
    """Where the kernel has no such filters, who connects in the moment before the end is cut off."""
    with contextlib.suppress(OSError):
        door.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(_Program(len(_NOBODY_NEW), _NOBODY_NEW)))


def _accepted(door: socket.socket) -> Iterator[socket.socket]:
    door.setblocking(False)
    while True:
        try:
            connection, _ = door.accept()
        except ConnectionAbortedError:  # has gone while it waited
            continue
        except OSError:  # none waits any more, or there are no descriptors left
            return
        yield connection
