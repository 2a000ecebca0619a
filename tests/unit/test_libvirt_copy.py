"""The copy of a running domain's disk, on a libvirt that is made up: how it ended is known, whenever it ends."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamina.model.errors import HypervisorError
from tests.vulnerabilities.libvirt_stand_in import Constants

LIBVIRT = Constants("libvirt")
for _name in ("virDomain", "virConnect"):
    setattr(LIBVIRT, _name, object)


class Domain:
    """A domain whose copy ends after it has been asked about so many times."""

    def __init__(self, questions: int, end: int) -> None:
        self._left = questions
        self._end = end

    def XMLDesc(self) -> str:  # noqa: N802 - libvirt's name
        return "<domain><devices><disk><target dev='vda'/></disk></devices></domain>"

    def backupBegin(self, xml: str, checkpoint: None) -> None:  # noqa: N802
        assert "vda" in xml

    def _has_ended(self) -> bool:
        self._left -= 1
        return self._left < 0

    def jobInfo(self) -> list[int]:  # noqa: N802
        return [LIBVIRT.VIR_DOMAIN_JOB_NONE if self._has_ended() else LIBVIRT.VIR_DOMAIN_JOB_UNBOUNDED]

    def jobStats(self, flags: int) -> dict[str, int]:  # noqa: N802
        return {"type": self._end} if self._has_ended() else {}


class Asked:
    """A connection that asks at once."""

    def ask(self, what: str, question: Callable[[Any], Any]) -> Any:
        return question(self)


def copy(domain: Domain) -> None:
    with mock.patch.dict(sys.modules, {"libvirt": LIBVIRT}):
        for name in ("libvirt", "libvirt_connection", "libvirt_moves"):
            sys.modules.pop(f"lamina.agent.hypervisors.{name}", None)
        hypervisors = importlib.import_module("lamina.agent.hypervisors.libvirt")
        with mock.patch.object(hypervisors, "LOOK", 0.0):
            hypervisors.LibvirtHypervisor._copy_disk(types.SimpleNamespace(_connection=Asked()), domain, Path("/copied"))


@pytest.mark.parametrize("questions", range(5))
def test_one_that_ends_between_two_questions_has_come_to_its_end(questions: int) -> None:
    copy(Domain(questions, LIBVIRT.VIR_DOMAIN_JOB_COMPLETED))


@pytest.mark.parametrize("questions", range(5))
def test_and_one_that_failed_has_failed(questions: int) -> None:
    with pytest.raises(HypervisorError, match="to its end"):
        copy(Domain(questions, LIBVIRT.VIR_DOMAIN_JOB_FAILED))
