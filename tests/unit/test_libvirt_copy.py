"""The copy of a running domain's disk, on a libvirt that is made up: how it ended is known, whenever it ends."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamina.model.errors import HypervisorError
from tests.vulnerabilities.libvirt_stand_in import Asked, on_made_up_libvirt


class Domain:
    """A domain whose copy ends after it has been asked about so many times."""

    def __init__(self, constants: Any, questions: int, end: int) -> None:
        self._constants = constants
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
        return [self._constants.VIR_DOMAIN_JOB_NONE if self._has_ended() else self._constants.VIR_DOMAIN_JOB_UNBOUNDED]

    def jobStats(self, flags: int) -> dict[str, int]:  # noqa: N802
        return {"type": self._end} if self._has_ended() else {}


@pytest.fixture
def libvirt() -> Iterator[types.SimpleNamespace]:
    with on_made_up_libvirt() as stood_in, mock.patch.object(stood_in.hypervisor, "LOOK", 0.0):
        yield stood_in


def copy(libvirt: types.SimpleNamespace, questions: int, end: int) -> None:
    domain, connected = Domain(libvirt.constants, questions, end), types.SimpleNamespace(_connection=Asked())
    libvirt.hypervisor.LibvirtHypervisor._copy_disk(connected, domain, Path("/copied"))


@pytest.mark.parametrize("questions", range(5))
def test_one_that_ends_between_two_questions_has_come_to_its_end(libvirt: types.SimpleNamespace, questions: int) -> None:
    copy(libvirt, questions, libvirt.constants.VIR_DOMAIN_JOB_COMPLETED)


@pytest.mark.parametrize("questions", range(5))
def test_and_one_that_failed_has_failed(libvirt: types.SimpleNamespace, questions: int) -> None:
    with pytest.raises(HypervisorError, match="to its end"):
        copy(libvirt, questions, libvirt.constants.VIR_DOMAIN_JOB_FAILED)
