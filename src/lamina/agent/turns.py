"""Turns: calls about one server one after another, calls about different servers side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class _Turn:
    lock: threading.Lock
    #: how many hold it or wait for it
    count: int = 0


class Turns:
    """Remembers a server only while somebody has or wants its turn."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def of(self, server_id: str) -> Iterator[None]:
        with self._lock:
            turn = self._turns.setdefault(server_id, _Turn(threading.Lock()))
            turn.count += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.count -= 1
                if not turn.count:
                    del self._turns[server_id]
