"""The kernel says no: with each errno the device is not there, the error carries the number, and the next attempt is as the first."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.model import ids
from lamina.model.errors import DeviceRefused
from lamina.model.gpus import GpuSettings
from tests.contract.machines import KINDS, StillClock, TestMachine, any_machine, framework_on
from tests.contract.test_frameworks import SAID

ERRNOS = (
    *(errno.EINVAL, errno.EBUSY, errno.ENOSPC, errno.ENODEV),
    *(errno.EIO, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.ETIMEDOUT),
)


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestMachine]:
    with any_machine(request.param, tmp_path, StillClock()) as one:
        yield one


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
def test_a_creation_that_is_refused(machine: TestMachine, number: int) -> None:
    framework = framework_on(machine.kind, machine.sysfs, StillClock())
    found = framework.read(GpuSettings(machine.first, types=SAID))
    assert found is not None
    wanted = found.gpu.type_named("nvidia-11")
    uuid = ids.new_uuid()
    machine.refuse_next(number)
    with pytest.raises(DeviceRefused, match=os.strerror(number)) as caught:
        framework.create(uuid, found.parents[0], wanted)
    assert caught.value.errno == number
    assert machine.standing() == {}
    assert framework.read(GpuSettings(machine.first, types=SAID)) == found, "nothing of it is left"
    framework.create(uuid, found.parents[0], wanted)
    assert len(machine.standing()) == 1
