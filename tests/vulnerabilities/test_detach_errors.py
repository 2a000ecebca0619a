"""Nova and Cinder took a volume for detached though the host had answered with an error; the device was given to the next tenant while
the first guest still held it.

Here a vGPU that the kernel does not remove, or that a guest does not let go, stays the server's: recorded, paid for, and in the way
of everybody else, until the host confirms that it is gone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.agent.compute import ComputeService
from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.model.errors import DeviceRefused, HypervisorError
from lamina.model.servers import VmState
from lamina.operations import attach, delete, detach
from lamina.saga.log import State
from tests.faults.world import CALLER, ONE, World
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import ONE_VGPU, Stage

_REMOVE = ComputeService._remove


def refuse_removals(world: World, number: int) -> None:
    def refuse(path: str, text: str) -> None:
        if path.endswith("/remove") or (path.endswith("/current_vgpu_type") and text.strip() == "0"):
            raise OSError(number, os.strerror(number), path)

    for host in world.hosts.values():
        host.kernel.before_write = refuse


def the_kernel_removes_nothing(world: World, number: int) -> None:
    server = world.created(ONE)
    (vgpu,) = world.vgpus(server.id)
    refuse_removals(world, number)
    delete.request(world.plane, CALLER, server.id)
    world.settle()
    assert [v.uuid for v in world.vgpus(server.id)] == [vgpu.uuid], "it is recorded for as long as it stands"
    (stuck,) = world.operations()
    assert stuck.state == State.STUCK
    assert world.free(), "and paid for"
    assert world.created(ONE).vm_state is VmState.ERROR, "nobody else is given it"
    for host in world.hosts.values():
        host.kernel.before_write = lambda path, text: None
    world.plane.runner.resume(stuck.id)
    world.settle()
    assert world.vgpus(server.id) == []
    assert world.created(ONE).vm_state is VmState.ACTIVE
    world.check()


def the_guest_lets_nothing_go(world: World) -> None:
    server = world.created(ONE)
    attach.request(world.plane, CALLER, server.id, world.small)
    world.settle()
    held = {v.uuid for v in world.vgpus(server.id)}
    assert len(held) == 2

    def stays(*_given: Any) -> Any:
        raise HypervisorError("The guest does not let its vGPU go.")

    with mock.patch.object(SimulatedHypervisor, "fit", stays):
        detach.request(world.plane, CALLER, server.id, min(held))
        world.settle()
    assert {v.uuid for v in world.vgpus(server.id)} == held
    for row in world.operations():
        world.plane.runner.resume(row.id)
    world.settle()
    world.check()


def check(stage: Stage) -> None:
    for framework in ("mdev", "vfio"):
        for number in (errno.EBUSY, errno.EIO, errno.EACCES):
            the_kernel_removes_nothing(stage.world(framework, ONE_VGPU), number)
        the_guest_lets_nothing_go(stage.world(framework))


def broken() -> AbstractContextManager[Any]:
    """what the kernel refuses to remove is taken for removed"""

    def careless(self: ComputeService, record: Any) -> None:
        try:
            _REMOVE(self, record)
        except DeviceRefused:
            return

    return mock.patch.object(ComputeService, "_remove", careless)


ROW = Row(7, ("CVE-2023-2088",), 664, "a detach that failed is taken for done", check, broken)


@pytest.mark.weakness(672)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
