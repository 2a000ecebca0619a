"""Races: who gets the last vGPU, and what a claim may not do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lamina.model.errors import LaminaError
from lamina.model.servers import VmState
from lamina.operations import delete
from tests.faults.world import CALLER, FRAMEWORKS, World, flavor


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


def test_sixteen_at_the_last_vgpu(world: World) -> None:
    """Everything but one vGPU is taken; of sixteen that run at once exactly one gets it, round after round."""
    filler = flavor("three", resources__VGPU="3", trait__CUSTOM_NVIDIA_11="required")
    one = flavor("one", resources__VGPU="1")
    small = flavor("pair", resources__VGPU="2", trait__CUSTOM_NVIDIA_12="required")
    # per host: a GPU of four nvidia-11, and one that takes four nvidia-11 or two nvidia-12
    for wanted, count in ((small, 2), (filler, 2), (one, 1)):
        world.create(wanted, count=count)
        world.settle()
    for _round in range(3):
        made = world.create(one, count=16)
        threads = [threading.Thread(target=_drive, args=(world, offset)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.settle()
        world.check()
        winners = [s.id for s in made if world.server(s.id).vm_state is VmState.ACTIVE]
        assert len(winners) == 1
        for server in made:
            delete.request(world.plane, CALLER, server.id)
        world.settle()
        world.check()


def _drive(world: World, offset: int) -> None:
    """Advance the operations in another order than the others do; what another thread has moved meanwhile is passed over."""
    pending = [row.id for row in world.operations()]
    for saga_id in pending[offset * 4 :] + pending[: offset * 4]:
        try:
            while world.plane.runner.advance(saga_id):
                pass
        except LaminaError:
            continue
