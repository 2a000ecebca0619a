"""A process that lost its saga does no harm: the database drops its line, the hosts refuse its calls."""

from __future__ import annotations

import pytest

from lamina.model.errors import StaleFence
from lamina.model.hosts import Call, Fence, PowerAction
from lamina.operations import power
from lamina.store import sagas
from tests.faults.desk import Desk
from tests.faults.world import CALLER, FRAMEWORKS, ONE, At, World


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


@pytest.mark.weakness(362)
def test_a_slow_process_finds_its_saga_taken_over(world: World) -> None:
    """It makes the vGPU, and only then learns that another process has carried the operation to its end."""
    slow = world.plane

    def another_takes_over() -> None:
        world.clock.sleep(slow.settings.lease + 1)
        world.begin(alone=False)
        world.settle()

    world.begin(probe=At("after-do", "vgpus_present", another_takes_over))
    slow = world.plane
    (server,) = world.create(ONE)
    (row,) = world.operations()
    assert slow.runner.advance(row.id), "the claim"
    with pytest.raises(sagas.LostLease):
        slow.runner.advance(row.id)
    assert world.plane is not slow
    world.check()
    assert world.server(server.id).status == "ACTIVE"


@pytest.mark.weakness(362)
def test_a_host_refuses_a_call_from_before_a_newer_operation(world: World) -> None:
    server = world.created(ONE)
    assert server.host is not None
    compute = world.plane.hosts.of(server.host)
    power.request(world.plane, CALLER, server.id, PowerAction.HARD_REBOOT)
    world.settle()
    late = Call("an operation of long ago", "domain_gone", Fence(1, 1))
    with pytest.raises(StaleFence):
        compute.remove_domain(late, server.id)
    with pytest.raises(StaleFence):
        compute.release_vgpus(late, server.id, [v.uuid for g in compute.report().gpus for v in g.vgpus])
    world.check()
