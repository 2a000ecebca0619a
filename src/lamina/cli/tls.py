"""TLS at the public port: what is spoken there, and how the next certificate comes in without a restart."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from lamina.hosts import certificates
from lamina.hosts.private_files import is_private
from lamina.model.clock import Clock, moment
from lamina.model.errors import BadRequest, LaminaError

log = structlog.get_logger()

#: for TLS 1.2, those alone with which a key that is stolen later opens nothing that was said before (RFC 9325, 4.2)
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

Files = tuple[Path, Path]


class Tls:
    """A certificate and its key in two files, read again when they change. Used by the event loop's thread alone.

    What is new is taken whole or not at all: every connection is handed to the context of the files that were good last.
    """

    def __init__(self, files: Callable[[], Files], clock: Clock, every: float) -> None:
        """`files` says where certificate and key are, and is asked again every so many seconds. Raises as it and `load` do."""
        self._files, self._clock, self.every = files, clock, every
        found = files()
        self._seen = _state_of(found)
        self._current, self.names = load(*found, clock.now())
        self.context = _context()
        self.context.load_cert_chain(*found)  # a context without any certificate greets nobody
        self.context.sni_callback = self._hand_over

    def _hand_over(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _before: ssl.SSLContext) -> None:
        """Called for every connection, whether it names anybody or not."""
        connection.context = self._current

    async def look(self) -> None:
        """Take the files if they have changed. What is wrong with them is in the log, and the ones before go on."""
        try:
            found = self._files()
            state = _state_of(found)
            if state == self._seen:
                return
            self._seen = state
            self._current, self.names = load(*found, self._clock.now())
        except LaminaError as error:
            log.error("the new certificate is not taken; the one before goes on", why=error.message)
            return
        log.info("a new certificate is taken", names=", ".join(self.names))


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """A certificate (PEM, with those in between) and its key, from whoever certifies the operator's machines."""

    certificate: Path
    key: Path

    def __call__(self) -> Files:
        return self.certificate, self.key


def load(certificate: Path, key: Path, now: float) -> tuple[ssl.SSLContext, tuple[str, ...]]:
    """A context that shows the certificate, and the names and addresses that are in it.

    Raises `BadRequest` for files that cannot be read, do not belong together or are out of their time, and a key that others may read.
    """
    context = _context()
    try:
        if not is_private(key):
            raise BadRequest(f"--tls-key: {key} can be read by others, and must not be; say chmod 600 {key}")
        said = certificates.validity(certificate.read_bytes())
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise BadRequest(f"--tls-cert: {certificate} and {key} are no certificate and its key ({error})") from error
    except OSError as error:
        raise BadRequest(f"--tls-cert, --tls-key: {error.filename or certificate} cannot be read: {error.strerror}") from error
    if not said.not_before <= now < said.not_after:
        good = f"good from {moment(said.not_before)} to {moment(said.not_after)}"
        raise BadRequest(f"--tls-cert: {certificate} is {good}, and it is {moment(now)} here")
    return context, said.names


def _no_password() -> str:
    raise BadRequest("--tls-key: the key is locked by a password; give one that is not, readable by its owner alone")


def _context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(_CIPHERS)
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return made


def _state_of(files: Files) -> tuple[tuple[int, int, int], ...] | None:
    """What changes with the files; None while one of them is away."""
    try:
        found = [path.stat() for path in files]
    except OSError:
        return None
    return tuple((one.st_ino, one.st_size, one.st_ctime_ns) for one in found)
