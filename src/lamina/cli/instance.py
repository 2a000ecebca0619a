"""A Lamina of one's own for as long as it is needed: a process on a free port, its state in a temporary directory."""

from __future__ import annotations

import contextlib
import dataclasses
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lamina.model.errors import Unavailable

#: seconds until a start that has not said `ready` counts as failed, and until a stop is made to be one
START_SECONDS = 30
STOP_SECONDS = 15

#: what is served: simulated hosts, or none at all
DEMO_FLEET = ("up", "--fleet", "demo")
NO_HOSTS = ("api", "--agents", "127.0.0.1:0")
#: and for whom: for nobody but who started it, and that as fast as it goes
ALONE = ("--listen", "127.0.0.1:0", "--rate-limit", "off")


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """A running process; ``seconds`` is what it took from start to `ready`."""

    state: Path
    url: str
    pid: int
    seconds: float


@contextlib.contextmanager
def temporary_instance(verb: Sequence[str] = DEMO_FLEET) -> Iterator[Instance]:
    """Serve until the block ends; nothing is left behind. Raises `Unavailable` where it does not start."""
    with tempfile.TemporaryDirectory(prefix="lamina-") as folder:
        state, log = Path(folder) / "state", Path(folder) / "log"
        command = [sys.executable, "-m", "lamina.cli.main", *verb, "--state", str(state), *ALONE]
        started = time.monotonic()
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
        try:
            url = _ready(process)
            if url is None:
                process.kill()
                raise Unavailable(f"A temporary Lamina did not start: {_last_line(log)}")
            yield Instance(state, url, process.pid, time.monotonic() - started)
        finally:
            _stop(process)


def _ready(process: subprocess.Popen[bytes]) -> str | None:
    """The URL of the line that begins with `ready`, or None where none comes in time."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    if not select.select([process.stdout], [], [], START_SECONDS)[0]:
        return None
    word, _, url = process.stdout.readline().decode().strip().partition(" ")
    return url if word == "ready" and url else None


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing."


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
