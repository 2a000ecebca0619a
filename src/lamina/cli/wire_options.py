"""The options that say how the public port speaks, and how often one project may ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lamina.model.errors import BadRequest
from lamina.model.rates import Rate
from lamina.model.settings import ADDRESS_FAILURES, ADDRESS_WINDOW, RATE_LIMIT

if TYPE_CHECKING:
    from lamina.cli.public_port import PublicPort

F = TypeVar("F", bound=Callable[..., Any])

#: seconds of its rate that a project may ask for at once
_BURST = RATE_LIMIT.burst // RATE_LIMIT.per_second

TLS_CERT = "Certificate, PEM, with those in between; read again when it changes.  [needed beyond this machine]"
TLS_KEY = "Its key, PEM, mode 0600."
TLS_CA = "Who certified it, PEM, where clients do not know them anyway; named in clouds.yaml."
OWN = "Have the authority that certifies hosts certify the port, too."
PLAIN = "Let passwords and tokens travel in clear beyond this machine: only behind a proxy that speaks TLS."
PUBLIC_URL = "What clients are told to use: a load balancer, say.  [default: where it listens]"
METRICS = "Who may read /metrics: an administrator, or whoever reaches the port."
FAILED = f"Logins from one address that may fail in {ADDRESS_WINDOW // 60} minutes. Off behind a proxy, which has one address for all."
RATE = "Reads a second that each project may make of this process; a call that changes something counts as 5."

_file = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--listen", default="127.0.0.1:8774", show_default=True, metavar="HOST:PORT"),
    click.option("--tls-cert", type=_file, metavar="FILE", help=TLS_CERT),
    click.option("--tls-key", type=_file, metavar="FILE", help=TLS_KEY),
    click.option("--tls-ca", type=_file, metavar="FILE", help=TLS_CA),
    click.option("--own-certificate", is_flag=True, help=OWN),
    click.option("--plain-http", is_flag=True, help=PLAIN),
    click.option("--public-url", metavar="URL", help=PUBLIC_URL),
    click.option("--metrics", default="admin", show_default=True, type=click.Choice(["admin", "open"]), help=METRICS),
    click.option("--failed-logins", default=str(ADDRESS_FAILURES), show_default=True, metavar="N|off", help=FAILED),
    click.option("--rate-limit", default=str(RATE_LIMIT.per_second), show_default=True, metavar="N|off", help=RATE),
)


def wire_options(command: F) -> F:
    """All of them; the command gets them as they were typed, all but ``failed_logins``, ``rate_limit`` and ``metrics`` for `read_port`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_port(
    *,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    own_certificate: bool,
    plain_http: bool,
    public_url: str | None,
) -> PublicPort:
    """Raises `BadRequest` for options that contradict each other."""
    from lamina.cli.public_port import PublicPort
    from lamina.cli.tls import Given

    if [tls_cert is not None or tls_key is not None, own_certificate, plain_http].count(True) > 1:
        raise BadRequest("--tls-cert, --own-certificate, --plain-http: the port speaks in one way; choose one")
    if tls_ca is not None and (tls_cert is None or not tls_ca.is_file()):
        raise BadRequest("--tls-ca: this is the file with who certified --tls-cert")
    if tls_cert is None and tls_key is None:
        return PublicPort(listen, own=own_certificate, plain=plain_http, public_url=public_url)
    if tls_cert is None or tls_key is None:
        raise BadRequest("--tls-cert, --tls-key: a certificate and its key go together")
    return PublicPort(listen, Given(tls_cert, tls_key), tls_ca, public_url=public_url)


def read_failures(text: str) -> int | None:
    """Raises `BadRequest` for what is neither a number nor ``off``."""
    if text == "off":
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= ADDRESS_WINDOW):
        raise BadRequest(f"--failed-logins: {text!r} is neither a number of logins from 1 to {ADDRESS_WINDOW} nor 'off'")
    return int(text)


def read_rate(text: str) -> Rate | None:
    """Raises `BadRequest` for what is neither a number nor ``off``."""
    if text == "off":
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 10**6):
        raise BadRequest(f"--rate-limit: {text!r} is neither a number of reads a second from 1 to 1000000 nor 'off'")
    return Rate(int(text), int(text) * _BURST)
