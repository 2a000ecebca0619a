"""Where the audit trail goes beside its table: lines of JSON in a file, or syslog. One that fails holds nothing up."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from logging.handlers import SysLogHandler
from pathlib import Path

import structlog
from prometheus_client import Counter

from lamina.model.audit import Event, line
from lamina.model.clock import Clock
from lamina.model.errors import BadRequest

log = structlog.get_logger()

NOT_PASSED_ON = Counter("lamina_audit_events_not_passed_on", "Audit events that the file or syslog did not take; the table has them.")

#: seconds between two words in the log about a sink that fails
_TELL_EVERY = 60.0
#: seconds that the system's log is waited for, and for which it is left alone where it did not listen
_PATIENCE, _REST = 0.5, 5.0
SYSLOG = Path("/dev/log")
_PRIORITY = SysLogHandler.LOG_AUTHPRIV << 3 | SysLogHandler.LOG_INFO


class Sink:
    """Takes events, in the thread that has committed them. ``write`` takes one line and raises OSError."""

    def __init__(self, name: str, write: Callable[[str], None], clock: Clock) -> None:
        self._name, self._write, self._clock = name, write, clock
        #: events that were not passed on; the table has them
        self.failures = 0
        self._told_at = float("-inf")

    def __call__(self, event: Event) -> None:
        try:
            self._write(line(event))
        except OSError as error:
            self.failures += 1
            NOT_PASSED_ON.inc()
            now = self._clock.now()
            if now - self._told_at >= _TELL_EVERY:
                self._told_at = now
                log.error("audit events are not passed on", to=self._name, events=self.failures, why=error.strerror or str(error))


class AppendedFile:
    """A file that lines are appended to, each whole; one that was moved away is begun anew. Safe for threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._broken = False

    def write(self, text: str) -> None:
        """Raises OSError."""
        with self._lock:
            handle = self.open()
            # what a full disk has cut off is ended first
            content = ("\n" if self._broken else "") + text + "\n"
            written = os.write(handle, content.encode())
            self._broken = written < len(content)
            if self._broken:
                raise OSError(f"{self._path} took {written} of {len(content)} bytes")

    def open(self) -> int:
        """The file that is there now. Raises OSError."""
        if self._handle is not None and self._is_in_place(self._handle):
            return self._handle
        self.close()
        # without waiting: a pipe that nobody reads from is no file
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            os.close(handle)
            raise OSError(f"{self._path} is no file that only its owner may read; say chmod 600 {self._path}")
        self._handle, self._broken = handle, False
        return handle

    def _is_in_place(self, handle: int) -> bool:
        try:
            there, ours = self._path.lstat(), os.fstat(handle)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Syslog:
    """The system's log, facility authpriv (RFC 3164). Safe for threads."""

    def __init__(self, clock: Clock, address: Path) -> None:
        self._clock, self._address = clock, address
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._rests_until = float("-inf")

    def write(self, text: str) -> None:
        """Raises OSError, for a while at once."""
        message = f"<{_PRIORITY}>lamina[{os.getpid()}]: {text}".encode()
        with self._lock:
            if self._clock.now() < self._rests_until:
                raise OSError(f"{self._address} did not listen")
            try:
                self._connected().send(message)
            except OSError:
                self.close()
                try:  # it was begun anew since
                    self._connected().send(message)
                except OSError:
                    self.close()
                    self._rests_until = self._clock.now() + _REST
                    raise

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(_PATIENCE)
            self._socket.connect(str(self._address))
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_sink(said: str, clock: Clock) -> Sink:
    """Raises `BadRequest` where nothing can be passed on there."""
    try:
        if said == "syslog":
            syslog = Syslog(clock, SYSLOG)
            syslog.write("audit events are passed on here from now on")
            return Sink(said, syslog.write, clock)
        file = AppendedFile(Path(said))
        file.open()
        return Sink(said, file.write, clock)
    except OSError as error:
        raise BadRequest(f"--audit: {said} cannot be written: {error.strerror or error}") from error
