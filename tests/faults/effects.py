"""What an operation does to hosts, effect by effect: kernel writes, journal writes, domain operations, disks handed over.

They are counted while a story is told, so that whatever an operation comes to do is among them, and one of them can be
made to fail in a second telling.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lamina.agent import journal
from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.agent.simulated.kernel import SimulatedKernel
from lamina.model.errors import HypervisorError

#: what a hypervisor does to a domain or its disk, and what it lets others do to the disk meanwhile
DOMAIN = ("ensure", "set_power", "suspend", "resume", "fit", "remove", "renew_disk", "expect", "send", "stop_transfer", "_hand_over")
DISK = ("pack_disk", "place_disk")
#: what is written to a file may be written in part
WRITTEN_IN_PART = frozenset({"journal", "depot"})


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """The n-th effect (from 0) fails: ``before`` or ``after`` it was had, or when a part of it was (``short``)."""

    nth: int
    when: str
    number: int


class Effects:
    """Of all hosts of this process, in order: ``kernel``, ``journal``, ``depot``, or the name of what the hypervisor does."""

    def __init__(self, patch: pytest.MonkeyPatch, fault: Fault | None = None) -> None:
        self.seen: list[str] = []
        self._fault = fault
        patch.setattr(SimulatedKernel, "write", self._each("kernel", SimulatedKernel.write, self._errno))
        for name in DOMAIN:
            patch.setattr(SimulatedHypervisor, name, self._each(name, getattr(SimulatedHypervisor, name), self._refusal))
        for name in DISK:
            patch.setattr(SimulatedHypervisor, name, self._during(name, getattr(SimulatedHypervisor, name)))
        patch.setattr(journal, "replace_durably", self._each("journal", journal.replace_durably, self._errno, self._half_a_draft))
        patch.setattr(shutil, "copyfile", self._each("depot", shutil.copyfile, self._errno, self._half_a_copy))

    def _errno(self) -> OSError:
        assert self._fault is not None
        return OSError(self._fault.number, os.strerror(self._fault.number))

    def _refusal(self) -> HypervisorError:
        return HypervisorError(f"injected: {self._errno().strerror}")

    @contextmanager
    def _effect(self, name: str, error: Callable[[], Exception]) -> Iterator[str]:
        """What is said of this one: ``before``, ``after``, ``short``, or nothing."""
        fault, mine = self._fault, len(self.seen)
        self.seen.append(name)
        when = fault.when if fault is not None and fault.nth == mine else ""
        if when == "before":
            raise error()
        yield when
        if when == "after":
            raise error()

    def _each(
        self,
        name: str,
        real: Callable[..., Any],
        error: Callable[[], Exception],
        short: Callable[..., None] | None = None,
    ) -> Callable[..., Any]:
        def effect(*given: Any, **named: Any) -> Any:
            with self._effect(name, error) as when:
                if when == "short" and short is not None:
                    return short(*given)
                return real(*given, **named)

        return effect

    def _during(self, name: str, real: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[Any]]:
        @contextmanager
        def effect(*given: Any) -> Iterator[Any]:
            with self._effect(name, self._refusal), real(*given) as path:
                yield path

        return effect

    def _half_a_draft(self, path: Path, content: bytes) -> None:
        """What a write that took less than it was given leaves: the next one is told why."""
        path.with_suffix(".new").write_bytes(content[: len(content) // 2])
        raise self._errno()

    @staticmethod
    def _half_a_copy(source: Path, target: Path) -> None:
        """Nobody tells of this one."""
        content = source.read_bytes()
        target.write_bytes(content[: len(content) // 2])
