"""What a host keeps of having joined: its key, its certificate, whom to trust, and where to dial. On disk, for its owner only.

Joining is safe to repeat: the key is made once and stays until the host has joined, so that whoever asks again after a
lost answer is known by it. That the host has joined is written last.
"""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path

import msgspec

from lamina.hosts import certificates
from lamina.hosts.private_files import write_private
from lamina.model import decoding
from lamina.model.clock import moment
from lamina.model.errors import Conflict

FOLDER = "membership"


class _Joined(msgspec.Struct, frozen=True):
    host: str
    control_planes: list[str]


@dataclasses.dataclass(slots=True)
class Membership:
    """Of one host. ``control_planes`` are base URLs; they come and go."""

    folder: Path
    host: str
    control_planes: tuple[str, ...]

    @classmethod
    def read(cls, state: Path) -> Membership:
        """Raises `Conflict` where this host has not joined, or its files are damaged."""
        folder = state / FOLDER
        try:
            joined = decoding.from_json((folder / "joined.json").read_bytes(), _Joined)
        except FileNotFoundError as error:
            raise Conflict(f"This host has not joined a Lamina ({folder} has nothing of it): 'lamina join URL' does that.") from error
        except (OSError, msgspec.DecodeError) as error:
            raise Conflict(f"{folder / 'joined.json'} cannot be read: {error}; join anew.") from error
        return cls(folder, joined.host, tuple(joined.control_planes))

    @classmethod
    def write(cls, state: Path, host: str, control_planes: tuple[str, ...], authority: bytes, certificate: bytes) -> Membership:
        """What joining has brought. Raises OSError."""
        folder = state / FOLDER
        write_private(folder / "authority.pem", authority)
        write_private(folder / "certificate.pem", certificate)
        write_private(folder / "joined.json", msgspec.json.encode(_Joined(host, list(control_planes))))
        return cls(folder, host, control_planes)

    def certificate(self) -> certificates.Facts:
        """Raises `Conflict` where it cannot be read."""
        return certificates.facts(self._read("certificate.pem"))

    def must_be_valid(self, now: float) -> None:
        """Raises `Conflict` for a certificate out of its time: the control plane would hang up without a word."""
        facts = self.certificate()
        if now >= facts.not_after:
            raise Conflict(f"This host's certificate ran out at {moment(facts.not_after)}: join anew, with a new join token.")
        if now < facts.not_before:
            begins = moment(facts.not_before)
            raise Conflict(f"This host's certificate is valid from {begins} only, and it is {moment(now)} by the clock here: set it right.")

    def key(self) -> bytes:
        """Raises `Conflict` where it cannot be read."""
        return self._read("key.pem")

    def renewed(self, certificate: bytes) -> None:
        """Use this certificate from now on. Raises OSError."""
        write_private(self.folder / "certificate.pem", certificate)

    def reached_at(self, control_planes: tuple[str, ...]) -> None:
        """Dial these from now on. Raises OSError."""
        write_private(self.folder / "joined.json", msgspec.json.encode(_Joined(self.host, list(control_planes))))
        self.control_planes = control_planes

    def tls(self) -> ssl.SSLContext:
        """For connections that show who this host is, to whom it has joined and to nobody else. Raises `Conflict`."""
        try:
            context = trusting(self._read("authority.pem"))
            context.load_cert_chain(self.folder / "certificate.pem", self.folder / "key.pem")
        except (OSError, ssl.SSLError) as error:
            raise Conflict(f"The files in {self.folder} cannot be used: {error}; join anew.") from error
        return context

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise Conflict(f"{self.folder / name} cannot be read: {error.strerror}; join anew.") from error


def key_of(state: Path) -> bytes:
    """The key to join with, made if there is none yet. Raises OSError."""
    folder = state / FOLDER
    for closed in (state, folder):  # of directories above, which are made by the way, the mode is another one
        closed.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "key.pem"
    if not path.exists():
        write_private(path, certificates.new_key())
    return path.read_bytes()


def trusting(authority: bytes) -> ssl.SSLContext:
    """For connections to servers that this authority (PEM) has signed for, and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority.decode("ascii"))
    return context
