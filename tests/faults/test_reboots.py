"""A host that reboots in the middle of an operation: after every step, on either side, the operation comes to an end."""

from __future__ import annotations

import pytest

from lamina.operations import reconcile
from lamina.saga.log import State
from tests.faults.desk import Desk
from tests.faults.stories import Story
from tests.faults.test_every_step import BY_NAME, cases, failing, mend, run, the_server
from tests.faults.world import FRAMEWORKS, At, World, replaced

MOVED_BY = ("resize", "resize on one host", "revert", "revert on one host", "evacuate")
MOVES = [case for case in cases() if str(case.values[0]) in MOVED_BY]


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


def reboot_all(world: World) -> None:
    for host in world.hosts.values():
        host.machine.reboot()


def come_to_rest(world: World, story: Story, server_id: str) -> None:
    """Two looks at every host, and an operator who lets what is stuck go on."""
    for _ in range(2):
        for host in world.hosts:
            reconcile.host(world.plane, host)
        world.settle()
        for row in world.operations():
            assert row.state == State.STUCK
            world.plane.runner.resume(row.id)
        world.settle()
    mend(world, story, server_id)
    world.check()


@pytest.mark.parametrize(("story", "step"), MOVES)
def test_rebooted_after_a_step(world: World, story: Story, step: str) -> None:
    server_id = story.prepared(world)
    world.begin(probe=At("logged", step, lambda: reboot_all(world)))
    server_id = the_server(world, run(world, story, server_id))
    come_to_rest(world, story, server_id)


@pytest.mark.parametrize(("story", "step"), [case for case in MOVES if case.values[0].kind in ("resize", "evacuate")])
def test_rebooted_on_the_way_back(world: World, story: Story, step: str) -> None:
    """The way back brings the source's domain up again, and for that its vGPUs."""
    server_id = story.prepared(world)
    world.begin(replaced(failing(BY_NAME[story.kind], step, "after")), probe=At("logged", step, lambda: reboot_all(world)))
    server_id = the_server(world, run(world, story, server_id))
    come_to_rest(world, story, server_id)
