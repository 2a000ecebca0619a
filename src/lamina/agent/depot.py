"""The depot: where a server's disk waits at the control plane on its way from one host to another.

Hosts have no port open, so that one cannot fetch from the other; each speaks to the control plane alone.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Protocol

from lamina.model import ids
from lamina.model.errors import HostError
from lamina.model.hosts import DiskContent

_CHUNK = 1 << 20


class Depot(Protocol):
    """Raises `HostError`, and `HostUnreachable` where the control plane does not answer."""

    def bring(self, server_id: str, disk: Path) -> None: ...

    def fetch(self, server_id: str, into: Path) -> None: ...


class LocalDepot:
    """A folder of the control plane's own machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bring(self, server_id: str, disk: Path) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(disk, self._folder / ids.parse_uuid(server_id))
        except OSError as error:
            raise HostError(f"The disk of server {server_id} cannot be handed over: {error.strerror}.") from error

    def fetch(self, server_id: str, into: Path) -> None:
        try:
            shutil.copyfile(self._folder / ids.parse_uuid(server_id), into)
        except OSError as error:
            raise HostError(f"The disk of server {server_id} cannot be fetched: {error.strerror}.") from error


def content_of(path: Path) -> DiskContent:
    """Size and digest of a file. Raises OSError."""
    digest, size = hashlib.sha512(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return DiskContent(digest.hexdigest(), size)


def digested(server_id: str, disk: Path) -> DiskContent:
    """`content_of` a server's disk. Raises `HostError`."""
    try:
        return content_of(disk)
    except OSError as error:
        raise HostError(f"The disk of server {server_id} cannot be read: {error.strerror}.") from error
