"""Running other programs of the host: an argument list, never a shell, and no longer than it may take."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence

from lamina.model.errors import HostError

#: a program and its arguments -> what it printed. Raises `HostError` with what it complained of
Command = Callable[[Sequence[str]], str]

#: seconds; mdevctl and sriov-manage wait for drivers
PATIENCE = 60.0


def run(argv: Sequence[str], patience: float = PATIENCE) -> str:
    """What the program printed within `patience` seconds. Raises `HostError` where it is not there, fails or takes too long."""
    name = argv[0].rsplit("/", 1)[-1]
    # C.UTF-8, so that its words are the same everywhere
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C.UTF-8"}
    try:
        # what varies in the argument list are addresses, uuids and ids that were parsed
        done = subprocess.run(  # noqa: S603
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, env=environment, check=False
        )
    except FileNotFoundError as error:
        raise HostError(f"{name} is not installed on this host.") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{name} did not end within {patience:.0f} s.") from error
    except OSError as error:
        raise HostError(f"{name} cannot be run: {error.strerror}.") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise HostError(f"{name} failed: {said[-1][:500] if said else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
