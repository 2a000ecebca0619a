"""The port where every API is served: how safe it has to be, and under which URL clients find it."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from pathlib import Path
from urllib.parse import urlsplit

from lamina.cli.listening import names_of, url_of
from lamina.cli.tls import Given, Tls, load
from lamina.hosts import authority
from lamina.model.clock import Clock
from lamina.model.errors import BadRequest

#: seconds between looks at files that an operator may replace, and at how long our own certificate is still good
LOOK, OWN_LOOK = 1.0, 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class PublicPort:
    """What was said about it on the command line."""

    listen: str
    #: certificate and key, and who certified them, if it is nobody whom clients know anyway
    given: Given | None = None
    ca: Path | None = None
    #: whether Lamina's own authority certifies it
    own: bool = False
    #: whether passwords may travel in clear
    plain: bool = False
    public_url: str | None = None

    def must_be_safe(self, door: socket.socket, now: float) -> None:
        """Raises `BadRequest` where others could read along, and for a certificate or a URL with which nobody could get in."""
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise BadRequest(f"--public-url: {self.public_url!r} is not an address like https://cloud.example.org")
        if not (self.given or self.own or self.plain or is_loopback(door)):
            raise BadRequest(
                f"--listen: {self.listen} can be reached from other machines, and passwords would travel there in clear. Give "
                "--tls-cert and --tls-key, or --own-certificate; or --plain-http, where nobody but a proxy that speaks TLS can reach it"
            )
        if self.given:
            load(*self.given(), now)

    def tls(self, door: socket.socket, advertise: tuple[str, ...], common: Path, state: Path, clock: Clock) -> Tls | None:
        """None for plain HTTP. Raises `BadRequest` for a certificate that cannot be served with, `Conflict` for an unusable authority."""
        if self.given:
            return Tls(self.given, clock, LOOK)
        if not self.own:
            return None
        told = urlsplit(self.public_url).hostname if self.public_url else None
        names = names_of(door, (told, *advertise) if told else advertise)
        return Tls(lambda: authority.for_listener(common, state, names, clock.now(), "public"), clock, OWN_LOOK)

    def url(self, door: socket.socket, tls: Tls | None) -> str:
        """What clients are told to use, without a trailing slash."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        if tls is None:
            return url_of("http", door)
        address = door.getsockname()[0]
        # a name that is in the certificate, for any other is refused
        named = next((name for name in tls.names if not name.startswith("*")), address)
        return url_of("https", door, address if address in tls.names else named)

    def ca_file(self, common: Path) -> Path | None:
        """Whom clients have to trust beside those whom they trust anyway."""
        return authority.authority_file(common) if self.own else self.ca and self.ca.resolve()


def is_loopback(door: socket.socket) -> bool:
    """Whether nobody but this machine can reach a socket that is bound, whatever name it was given."""
    address = ipaddress.ip_address(door.getsockname()[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
