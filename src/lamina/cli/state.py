"""Where a Lamina keeps its state when nobody says otherwise: the XDG state directory of the user who runs it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from lamina.model.errors import BadRequest


def default_state() -> Path:
    """`$XDG_STATE_HOME/lamina`, or `~/.local/state/lamina`; a relative XDG_STATE_HOME is ignored, as the XDG rules say."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".local" / "state"
    return base / "lamina"


def agent_state() -> Path:
    """An agent's: what hosts have is root's, elsewhere (tests, simulated hosts) it lies beside the control plane's."""
    return Path("/var/lib/lamina") if os.geteuid() == 0 else default_state().with_name("lamina-agent")


@contextlib.contextmanager
def held(lock: Path, otherwise: str) -> Iterator[None]:
    """Keep other processes away; the kernel lets go of the file however this process ends. Raises `BadRequest` with `otherwise`."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadRequest(otherwise) from error
        yield
