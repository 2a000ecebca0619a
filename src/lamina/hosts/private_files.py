"""Files that only their owner may read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def make_private() -> None:
    """Whatever this process makes from now on is for its owner alone, by whichever library it is made."""
    os.umask(0o077)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all; it is on disk when this returns. Raises OSError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def is_private(path: Path) -> bool:
    """Whether nobody but its owner, who runs this or is root, may read or write the file or enter the directory. Raises OSError."""
    found = path.stat()
    return not found.st_mode & 0o077 and found.st_uid in (0, os.geteuid())


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this lock file; the kernel lets go of it however a process ends.

    Raises OSError.
    """
    with os.fdopen(os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
