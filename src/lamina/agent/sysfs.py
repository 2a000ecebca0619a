"""The `Sysfs` port: the few file operations with which Linux makes vGPUs. The simulated kernel stands under it.

Paths are absolute, beginning with ``/sys``. Every failure is an OSError with the kernel's own errno.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol


class Sysfs(Protocol):
    """sysfs(5), as far as it is needed."""

    def read(self, path: str) -> str:
        """A file's text. Raises OSError."""
        ...

    def write(self, path: str, text: str) -> None:
        """Write `text` in one call, as sysfs attributes want it. Raises OSError."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted. Raises OSError."""
        ...

    def exists(self, path: str) -> bool: ...

    def link(self, path: str) -> str:
        """The last component of what a symbolic link points to. Raises OSError."""
        ...


def join(*parts: str) -> str:
    """A path below its first part. What comes after is one component each, so that a name read from anywhere can't lead out.

    Raises OSError (EINVAL) for a component that is empty, ``.``, ``..``, or has a slash or a NUL in it.
    """
    for part in parts[1:]:
        if part in ("", ".", "..") or "/" in part or "\0" in part:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), part)
    return "/".join(parts)


class LocalSysfs:
    """The kernel's own files. `root` is there for tests on a prepared tree.

    The kernel's links lead from one place of sysfs to another and are followed; one that leads anywhere else is refused
    with EACCES, and for reading and writing the last component is never a link any more.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._below = Path(os.path.realpath(root / "sys"))

    def _at(self, path: str) -> Path:
        """Where the path leads. Raises OSError where that is not below ``/sys``."""
        at = Path(os.path.realpath(self._root / path.removeprefix("/")))
        if not at.is_relative_to(self._below):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return at

    def read(self, path: str) -> str:
        handle = os.open(self._at(path), os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
            return file.read()

    def write(self, path: str, text: str) -> None:
        content = text.encode()
        handle = os.open(self._at(path), os.O_WRONLY | os.O_NOFOLLOW)
        try:
            if os.write(handle, content) != len(content):
                raise OSError(errno.EIO, "short write", path)
        finally:
            os.close(handle)

    def list(self, path: str) -> list[str]:
        return sorted(entry.name for entry in self._at(path).iterdir())

    def exists(self, path: str) -> bool:
        try:
            return self._at(path).exists()
        except PermissionError:
            return False

    def link(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        return (self._at(folder) / name).readlink().name
