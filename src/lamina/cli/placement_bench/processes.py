"""What a server costs its machine, with every process that it has started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory in MiB; what processes share is counted once, divided among them."""
    total = 0
    for one in _family(pid):
        for line in _read(one, "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def seconds_burnt(pid: int) -> float:
    """Processor time since its start, in seconds."""
    total = 0
    for one in _family(pid):
        fields = _fields(_read(one, "stat"))
        total += int(fields[11]) + int(fields[12]) if fields else 0
    return total / _TICKS


def _family(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for one in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        fields = _fields(_read(one, "stat"))
        if fields:
            children.setdefault(int(fields[1]), []).append(one)
    todo = [pid]
    while todo:
        one = todo.pop()
        yield one
        todo.extend(children.get(one, ()))


def _fields(stat: str) -> list[str]:
    """What follows the name of the command, which may have spaces and parentheses (proc(5), `/proc/PID/stat`)."""
    return stat.rpartition(")")[2].split()


def _read(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8")
    return ""
