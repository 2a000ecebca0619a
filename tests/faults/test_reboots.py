"""A host that reboots in the middle of an operation: after every step, on either side, the operation comes to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from lamina.hosts.directory import Compute
from lamina.model.gpus import VgpuState
from lamina.model.hosts import PowerAction, PowerState
from lamina.model.servers import VmState
from lamina.operations import attach, confirm, detach, live_migrate, power, reconcile, resize
from lamina.saga.log import State
from tests.faults.desk import Desk
from tests.faults.stories import Story, look_twice
from tests.faults.test_every_step import BY_NAME, cases, failing, mend, run, the_server
from tests.faults.world import CALLER, FRAMEWORKS, ONE, PLAIN, TWO, At, World, replaced


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


def reboot_all(world: World) -> None:
    for host in world.hosts.values():
        host.machine.reboot()


def come_to_rest(world: World, story: Story, server_id: str) -> None:
    """Two looks at every host, and operators who let what is stuck go on, and start what lies in error."""
    world.begin()
    for _ in range(2):
        for host in world.hosts:
            reconcile.host(world.plane, host)
        world.settle()
        for row in world.operations():
            assert row.state == State.STUCK
            world.plane.runner.resume(row.id)
        world.settle()
    mend(world, story, server_id)
    if world.server(server_id).vm_state is VmState.ERROR and world.server(server_id).host is not None:
        power.request(world.plane, CALLER, server_id, PowerAction.HARD_REBOOT)
        world.settle()
    world.check()


@pytest.mark.parametrize(("story", "step"), cases())
def test_rebooted_after_a_step(world: World, story: Story, step: str) -> None:
    server_id = story.prepared(world)
    world.begin(probe=At("logged", step, lambda: reboot_all(world)))
    server_id = the_server(world, run(world, story, server_id))
    come_to_rest(world, story, server_id)


@pytest.mark.parametrize(("story", "step"), cases())
def test_rebooted_on_the_way_back(world: World, story: Story, step: str) -> None:
    """The way back brings the source's domain up again, and for that its vGPUs."""
    server_id = story.prepared(world)
    world.begin(replaced(failing(BY_NAME[story.kind], step, "after")), probe=At("logged", step, lambda: reboot_all(world)))
    server_id = the_server(world, run(world, story, server_id))
    come_to_rest(world, story, server_id)


@pytest.mark.parametrize("asked", ["attach", "detach"])
def test_a_vgpu_more_or_less_where_the_host_has_lost_and_forgotten_all(world: World, asked: str) -> None:
    """It cannot be given to the domain; nor is that in the way of the way back, and of the next look that brings them all again."""
    server = world.created(ONE)
    own = {vgpu.uuid for vgpu in world.vgpus(server.id)}
    attach.request(world.plane, CALLER, server.id, world.small)
    world.settle()
    before = {vgpu.uuid for vgpu in world.vgpus(server.id)}
    host = world.hosts[str(server.host)]
    host.machine.reboot()
    host.compute._journal.forget(before)
    if asked == "attach":
        attach.request(world.plane, CALLER, server.id, world.small)
    else:
        detach.request(world.plane, CALLER, server.id, (before - own).pop())
    world.settle()
    assert world.operations() == [], "it is stuck"
    assert world.server(server.id).fault is not None
    look_twice(world)
    world.settle()
    world.check()
    assert {vgpu.uuid for vgpu in world.vgpus(server.id)} == before


def test_what_a_boot_brings_back_after_it_was_given_up_is_said_to_be_there(world: World) -> None:
    """A server that waits for its confirmation is not started by hand; its record must not go on telling that its vGPUs are to be made."""
    server = world.created(TWO)
    resize.request(world.plane, CALLER, server.id, ONE)
    world.settle()
    name = str(world.server(server.id).host)
    world.hosts[name].machine.reboot()
    world.begin(probe=At("logged", "vgpus_present", lambda: world.hosts[name].machine.reboot()))
    world.settle()
    assert VgpuState.PLANNED in {vgpu.state for vgpu in world.vgpus(server.id)}
    assert world.server(server.id).vm_state is VmState.RESIZED
    world.hosts[name].machine.reboot()
    assert world.hosts[name].compute.restore() == []
    reconcile.host(world.plane, name)
    world.settle()
    assert {vgpu.state for vgpu in world.vgpus(server.id)} == {VgpuState.PRESENT}
    world.check()


@pytest.mark.parametrize("step", ["vgpus_present", "domain_restored"])
def test_a_server_runs_on_whatever_becomes_of_what_its_resize_holds_beside_it(world: World, step: str) -> None:
    """Its own host went down before the resize brought it up there; what waits for a revert is missing, and the host refuses to make it."""
    server = world.created(ONE)
    name = str(server.host)
    world.hosts[name].machine.reboot()
    resize.request(world.plane, CALLER, server.id, PLAIN, host=name)
    world.settle()
    running = world.server(server.id)
    assert (running.host, running.vm_state, running.power_state) == (name, VmState.RESIZED, PowerState.RUNNING)
    world.begin(replaced(failing(BY_NAME["restore"], step, "after")))
    world.settle()
    left = world.server(server.id)
    assert left.fault is not None, "nothing failed"
    assert (left.vm_state, left.power_state) == (VmState.RESIZED, PowerState.RUNNING)
    assert world.hosts[name].machine.state.domains[server.id].power_state is PowerState.RUNNING
    world.begin()
    confirm.request(world.plane, CALLER, server.id)
    world.settle()
    assert world.server(server.id).vm_state is VmState.ACTIVE
    world.check()


def somebody_is_faster(world: World, name: str) -> None:
    """The host reboots, and on the VFs that it had given there stand vGPUs of somebody else."""
    state = world.hosts[name].machine.state
    before = dict(state.vf_types)
    world.hosts[name].machine.reboot()
    state.vf_types.update(before)


@pytest.mark.parametrize("action", [PowerAction.ON, PowerAction.SOFT_REBOOT, PowerAction.HARD_REBOOT])
def test_nobody_is_started_on_what_somebody_else_has_made_where_its_own_was(desk: Desk, action: PowerAction) -> None:
    world = World.on(desk, "vfio")
    server = world.created(ONE)
    name = str(server.host)
    if action is PowerAction.ON:
        power.request(world.plane, CALLER, server.id, PowerAction.OFF)
        world.settle()
    foreign = set(world.hosts[name].machine.state.vf_types)
    somebody_is_faster(world, name)
    power.request(world.plane, CALLER, server.id, action)
    world.settle()
    if action is PowerAction.SOFT_REBOOT:  # no devices are made for it
        assert world.server(server.id).vm_state is VmState.ERROR
        assert "not Lamina's" in str(world.server(server.id).fault)
        power.request(world.plane, CALLER, server.id, PowerAction.HARD_REBOOT)
        world.settle()
    domain = world.hosts[name].machine.state.domains[server.id]
    assert (world.server(server.id).vm_state, domain.power_state) == (VmState.ACTIVE, PowerState.RUNNING)
    assert foreign.isdisjoint(domain.devices.values())


def test_nor_where_the_host_reboots_between_its_vgpus_and_its_start(desk: Desk) -> None:
    world = World.on(desk, "vfio")
    server = world.created(ONE)
    name = str(server.host)
    foreign = set(world.hosts[name].machine.state.vf_types)
    world.hosts[name].machine.reboot()
    world.begin(probe=At("logged", "vgpus_present", lambda: somebody_is_faster(world, name)))
    world.settle()
    assert world.server(server.id).vm_state is VmState.ERROR
    assert world.hosts[name].machine.state.domains[server.id].power_state is PowerState.SHUTDOWN
    power.request(world.plane, CALLER, server.id, PowerAction.HARD_REBOOT)
    world.settle()
    domain = world.hosts[name].machine.state.domains[server.id]
    assert domain.power_state is PowerState.RUNNING
    assert foreign.isdisjoint(domain.devices.values())


class Sending:
    """A host that does something as soon as it sends a domain away."""

    def __init__(self, compute: Compute, then: Callable[[], None]) -> None:
        self._compute = compute
        self._then = then

    def send_domain(self, *signed: Any) -> None:
        self._compute.send_domain(*signed)
        self._then()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compute, name)


@pytest.mark.parametrize(("moment", "why"), [("before", "is gone, and another, not Lamina's"), ("after", "broke")])
def test_nor_sent_to_a_host_that_reboots_before_or_after_it_is_asked_to_go(desk: Desk, moment: str, why: str) -> None:
    world = World.on(desk, "vfio")
    server = world.created(ONE)
    source, target = sorted(world.hosts, key=lambda name: name != server.host)
    if moment == "before":
        world.begin(probe=At("logged", "awaited", lambda: somebody_is_faster(world, target)))
    else:
        world.begin(wrap=lambda compute: cast(Compute, Sending(compute, lambda: somebody_is_faster(world, target))))
    live_migrate.request(world.plane, CALLER, server.id)
    world.settle()
    stayed = world.server(server.id)
    assert (stayed.host, stayed.vm_state) == (source, VmState.ACTIVE)
    assert why in str(stayed.fault)
    assert world.hosts[source].machine.state.domains[server.id].power_state is PowerState.RUNNING
    assert len(world.hosts[target].machine.state.vf_types) == 1, "what somebody else has made stands"
    world.check()
