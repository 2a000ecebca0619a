"""The control plane's own keys, in a folder of its state directory: the authority that signs for hosts, and the listener's.

Several control planes of one fleet have one authority, in the folder that they share, for hosts trust the one that they
joined; each has a listener of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lamina.hosts import certificates
from lamina.hosts.certificates import Pair
from lamina.hosts.private_files import alone, write_private
from lamina.model.errors import Conflict

FOLDER = "authority"


def authority(common: Path, now: float) -> Pair:
    """The authority, made if there is none yet. Raises `Conflict` where what is there cannot be read."""
    folder = common / FOLDER
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with alone(folder / "lock"):  # two control planes of one fleet may start at once
            if not certificate.exists():
                made = certificates.authority(now)
                write_private(key, made.key)
                write_private(certificate, made.certificate)  # last: where it is, the key is too
        return Pair(key.read_bytes(), certificate.read_bytes())
    except OSError as error:
        raise Conflict(f"The authority's files in {folder} cannot be used: {error.strerror}.") from error


def for_listener(common: Path, state: Path, names: Iterable[str], now: float, called: str = "listener") -> tuple[Path, Path]:
    """Files with a listener's certificate and key, made anew for other names or when two thirds of its life are over.

    Raises `Conflict` where the folder cannot be used.
    """
    ca = authority(common, now)
    folder, wanted = state / FOLDER, tuple(dict.fromkeys(names))
    key, certificate = folder / f"{called}-key.pem", folder / f"{called}.pem"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not (key.exists() and certificate.exists() and _serves(certificate.read_bytes(), wanted, ca, now)):
            made = certificates.server(ca, wanted, now)
            certificate.unlink(missing_ok=True)
            write_private(key, made.key)
            write_private(certificate, made.certificate)
    except OSError as error:
        raise Conflict(f"The listener's files in {folder} cannot be used: {error.strerror}.") from error
    return certificate, key


def authority_file(common: Path) -> Path:
    """The authority's certificate."""
    return common / FOLDER / "certificate.pem"


def _serves(pem: bytes, names: tuple[str, ...], ca: Pair, now: float) -> bool:
    found = certificates.facts(pem)
    return found.names == names and found.not_before <= now < found.renew_at and certificates.signed_by(pem, ca.certificate)
