"""What has to be closed to other users of a host before anything begins there: libvirt's sockets, and the agent's own files.

Whoever may write to libvirt's socket is root by it (Debian and Ubuntu had it open to all for a time: CVE-2020-15708), whoever may
write to the journal says which devices are Lamina's, and whoever reads the key is this host.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from lamina.model.errors import Conflict

#: where libvirt listens: its one daemon, or the one for QEMU alone
SOCKETS = ("run/libvirt/virtqemud-sock", "run/libvirt/libvirt-sock")

_WRITTEN_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OPEN_TO_OTHERS = 0o077


def must_be_closed(state: Path, key: Path | None = None) -> None:
    """The agent's state directory with its journals, and its key. Raises `Conflict` with the command that mends it."""
    for path, forbidden, what in _of_the_agent(state, key):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Conflict(f"{path} cannot be looked at: {error.strerror}.") from error
        if mode & forbidden:
            raise Conflict(f"{path} can be {what} by other users of this machine: chmod {_closed(mode, forbidden):o} {path}")


def _of_the_agent(state: Path, key: Path | None) -> Iterator[tuple[Path, int, str]]:
    yield state, _WRITTEN_BY_OTHERS, "written"
    yield state / "agents", _WRITTEN_BY_OTHERS, "written"
    for journal in sorted((state / "agents").glob("*.json")):
        yield journal, _WRITTEN_BY_OTHERS, "written"
    if key is not None:
        yield key.parent, _WRITTEN_BY_OTHERS, "written"
        yield key, _OPEN_TO_OTHERS, "read"


def _closed(mode: int, forbidden: int) -> int:
    return mode & ~forbidden


def must_not_be_open_to_all(root: Path = Path("/")) -> None:
    """libvirt's sockets. Raises `Conflict`."""
    for name in SOCKETS:
        socket = root / name
        if is_open_to_all(socket):
            told = f"Every user of this machine may write to libvirt's socket {socket}, and is root by it"
            instead = "or say open_libvirt_socket = true in agent.toml, where polkit asks who it is"
            raise Conflict(f"{told}: set unix_sock_rw_perms (or SocketMode of its unit) to 0770 and unix_sock_group to libvirt, {instead}.")


def is_open_to_all(socket: Path) -> bool:
    """False where there is none."""
    try:
        return bool(socket.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False
