"""Events of the audit trail that may be written a moment later, many in one commit.

A commit for each would cost a small request as much as the request itself. What may wait is how a request ended whose change is
recorded already, and what was refused: a process that dies takes with it no change that nobody recorded.
"""

from __future__ import annotations

import threading

import structlog

from lamina.model.audit import Event
from lamina.model.errors import LaminaError
from lamina.store import audit
from lamina.store.database import Database

log = structlog.get_logger()

#: most events that wait
MOST = 10_000
#: seconds in which events gather that are written together
GATHER = 0.05
#: seconds until it is tried again where the database does not take them
PAUSE = 1.0


class Ledger:
    """One of a process. Safe for threads. Not started, it lets nothing wait."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[Event] = []
        self._lock = threading.Lock()
        self._news, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and let nothing wait any more."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._stopping.set()
        self._news.set()
        if thread is not None:
            thread.join()

    def later(self, event: Event) -> bool:
        """Whether the event will be written; False where it has to be written now."""
        with self._lock:
            if self._thread is None or len(self._waiting) >= MOST:
                return False
            self._waiting.append(event)
        self._news.set()
        return True

    def now(self, *events: Event) -> None:
        """Raises `Unavailable`."""
        with self._db.write() as tx:
            audit.record(tx, *events)

    def _write_all(self) -> None:
        while not self._stopping.is_set():
            self._news.wait()
            self._stopping.wait(GATHER)
            self._news.clear()
            if not self._write():
                self._news.set()
                self._stopping.wait(PAUSE)
        self._write()

    def _write(self) -> bool:
        """Write what waits, all of it or none."""
        with self._lock:
            events, self._waiting = self._waiting, []
        try:
            if events:
                self.now(*events)
        except LaminaError as error:
            log.error("events wait to be written to the audit trail", events=len(events), why=error.message, **error.context)
            with self._lock:
                self._waiting = events + self._waiting
            return False
        return True
