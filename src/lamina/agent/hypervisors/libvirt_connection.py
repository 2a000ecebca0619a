"""A connection to libvirt that comes back by itself, answers in time or not at all, and tells of changes.

libvirt's calls block and may do so for ever, so each runs in a thread of its own kind and is waited for no longer than it may take.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import Any, TypeVar

import libvirt
import structlog

from lamina.model.errors import HostUnreachable, HypervisorError

log = structlog.get_logger()

#: seconds that an answer may take; starting a domain pins all of its memory first
PATIENCE = 30.0
#: seconds between two signs of life, and how many may be missing
_KEEPALIVE = (5, 3)
#: what libvirt says when it is not the call that is at fault but the connection
_GONE = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
    }
)
_TRANSPORT = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_NONE, libvirt.VIR_FROM_REMOTE})

T = TypeVar("T")


class Connection:
    """To one URI. Thread-safe."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._open: libvirt.virConnect | None = None
        self._workers = _workers()
        self._changed: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` from now on whenever a domain changes, and whenever the connection was lost and is there again."""
        self._changed = changed

    def ask(self, what: str, question: Callable[[libvirt.virConnect], T], patience: float = PATIENCE) -> T:
        """The answer of libvirt to `question`, which may be repeated where the connection was lost meanwhile.

        Raises `HypervisorError` where libvirt refuses, `HostUnreachable` where it does not answer.
        """
        for attempt in (1, 2):
            try:
                return self._once(what, question, patience)
            except libvirt.libvirtError as error:
                if not self._lost(error):
                    raise HypervisorError(f"libvirt could not {what}: {said(error)}") from error
                self._drop()
                if attempt == 2:
                    raise HostUnreachable(f"libvirt at {self._uri} does not answer: {said(error)}") from error
        raise AssertionError

    def _once(self, what: str, question: Callable[[libvirt.virConnect], T], patience: float) -> T:
        workers = self._workers
        try:
            return workers.submit(lambda: question(self._connection())).result(timeout=patience)
        except TooLate as error:
            self._drop()
            with self._lock:
                if workers is self._workers:  # the thread is lost until libvirt lets go of it
                    self._workers = _workers()
                    workers.shutdown(wait=False)
            raise HostUnreachable(f"libvirt at {self._uri} did not {what} within {patience:.0f} s.") from error
        except RuntimeError as error:  # another call has just given these workers up
            raise HostUnreachable(f"libvirt at {self._uri} does not answer.") from error

    def _lost(self, error: libvirt.libvirtError) -> bool:
        if error.get_error_code() in _GONE and error.get_error_domain() in _TRANSPORT:
            return True
        with self._lock:
            connection = self._open
        try:
            return connection is None or not connection.isAlive()
        except libvirt.libvirtError:
            return True

    def _connection(self) -> libvirt.virConnect:
        with self._lock:
            if self._open is None:
                _start_events()
                connection = libvirt.open(self._uri)
                try:
                    connection.setKeepAlive(*_KEEPALIVE)
                except libvirt.libvirtError:
                    log.debug("libvirt keeps no connection alive", uri=self._uri)  # a driver without a daemon
                connection.registerCloseCallback(self._closed, None)
                connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._happened, None)
                self._open = connection
            return self._open

    def _drop(self) -> None:
        with self._lock:
            self._open = None

    def _closed(self, _connection: Any, reason: int, _opaque: Any) -> None:
        log.warning("the connection to libvirt was lost", uri=self._uri, reason=reason)
        self._drop()
        self._changed()

    def _happened(self, _connection: Any, _domain: Any, event: int, detail: int, _opaque: Any) -> None:
        self._changed()


def said(error: libvirt.libvirtError) -> str:
    """libvirt's own words, on one line."""
    return " ".join((error.get_error_message() or str(error)).split())[:500]


def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=16, thread_name_prefix="libvirt")


_events = threading.Lock()
_events_run = False


def _start_events() -> None:
    """libvirt has one event loop for a process, and wants it before the first connection."""
    global _events_run
    with _events:
        if _events_run:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # errors are raised; nobody needs them on standard error too
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run_events, name="libvirt-events", daemon=True).start()
        _events_run = True


def _run_events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            log.exception("libvirt's event loop")


def unless_off(act: Callable[[], object]) -> None:
    """What a domain that is off by now refuses is no failure."""
    _tolerating(act, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)


def unless_gone(act: Callable[[], object]) -> None:
    """What a domain refuses that is not there any more is no failure."""
    _tolerating(act, libvirt.VIR_ERR_NO_DOMAIN)


def _tolerating(act: Callable[[], object], *codes: int) -> None:
    try:
        act()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in codes:
            raise
