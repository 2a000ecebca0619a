"""Evacuations from silent hosts, and the return of such a host: a server runs in one place, and nothing is left in the other."""

from __future__ import annotations

from typing import Any

import pytest

from lamina.agent.simulated.machine import MachineDomain
from lamina.model.errors import BadRequest, Conflict, HostUnreachable, HypervisorError, InvalidState, StaleFence
from lamina.model.hosts import Call, Fence, PowerAction, PowerState
from lamina.model.servers import Migration, MigrationStatus, VmState
from lamina.operations import delete, enrolment, evacuate, power, reconcile, resize
from lamina.saga.log import State
from lamina.store import hosts, servers
from tests.faults.desk import Desk
from tests.faults.test_every_step import failing
from tests.faults.world import CALLER, FRAMEWORKS, ONE, TWO, At, World, replaced


class Dead:
    """A host that answers nothing at all."""

    def __getattr__(self, name: str) -> Any:
        def call(*_given: Any) -> Any:
            raise HostUnreachable("The host does not answer.")

        return call


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


def dies(world: World, name: str) -> None:
    """The host answers no more, and has not for longer than is waited for; the others have."""
    world.plane.hosts.join(name, Dead())
    world.clock.sleep(world.plane.settings.service_down + 1)
    for other in world.hosts:
        if other != name:
            reconcile.host(world.plane, other)


def returns(world: World, name: str) -> None:
    """The host answers again, and is looked at."""
    world.plane.hosts.join(name, world.hosts[name].compute)
    reconcile.host(world.plane, name)


def call_down(world: World, name: str) -> None:
    with world.plane.db.write() as tx:
        hosts.update_host(tx, name, forced_down=True)


def domain(world: World, name: str, server_id: str) -> MachineDomain | None:
    return world.hosts[name].machine.state.domains.get(server_id)


def migration(world: World) -> Migration:
    with world.plane.db.read() as tx:
        return servers.migrations_page(tx)[0]


def evacuated(world: World, **more: Any) -> tuple[str, str, str]:
    """A server that has left a host which is dead: its id, that host, and where it is now."""
    server = world.created(TWO)
    assert server.host is not None
    dies(world, server.host)
    evacuate.request(world.plane, CALLER, server.id, **more)
    world.settle()
    moved = world.server(server.id)
    assert moved.host is not None
    assert moved.host != server.host
    return server.id, server.host, moved.host


def paid_on(world: World, name: str) -> int:
    with world.plane.db.read() as tx:
        return len([v for v in hosts.select_vgpus(tx) if v.host == name])


def test_what_a_dead_host_may_still_have_is_paid_for(world: World) -> None:
    server_id, source, target = evacuated(world)
    server = world.server(server_id)
    assert (server.vm_state, server.task_state, server.power_state, server.fault) == (VmState.ACTIVE, None, PowerState.RUNNING, None)
    assert (paid_on(world, source), paid_on(world, target)) == (2, 2)
    assert len(world.hosts[target].compute.report().domains) == 1
    told = migration(world)
    assert (told.type, told.status, told.source_host, told.dest_host) == ("evacuation", MigrationStatus.DONE, source, target)


@pytest.mark.parametrize("how", ["rebooted", "cut off"])
@pytest.mark.weakness(459)
def test_a_host_that_returns_has_nothing_of_the_server_any_more(world: World, how: str) -> None:
    other = world.created(ONE)
    server_id, source, _ = evacuated(world)
    if how == "rebooted":
        world.hosts[source].machine.reboot()
    returns(world, source)
    while world.step():
        there = domain(world, source, server_id)
        assert there is None or how == "cut off" or there.power_state.is_off, "it was started again"
    world.check()
    assert domain(world, source, server_id) is None
    assert server_id not in world.hosts[source].machine.state.disks
    assert paid_on(world, source) == (1 if other.host == source else 0)
    assert migration(world).status is MigrationStatus.COMPLETED
    assert world.server(server_id).vm_state is VmState.ACTIVE
    assert world.server(other.id).vm_state is VmState.ACTIVE, "only what was left is removed"


def test_a_host_that_returns_in_the_middle_keeps_its_server(world: World) -> None:
    """It answers before the server is started elsewhere, so what was made there is taken back."""
    server = world.created(TWO)
    assert server.host is not None
    source = server.host
    back = At("logged", "target_defined", lambda: returns(world, source))
    world.begin(probe=back)
    dies(world, source)
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    world.check()
    assert back.fired
    kept = world.server(server.id)
    assert (kept.host, kept.vm_state) == (source, VmState.ACTIVE)
    assert kept.fault is not None
    assert "has come back" in kept.fault.message
    assert migration(world).status is MigrationStatus.FAILED


def test_a_host_that_was_called_down_and_answers_is_made_to_stop(world: World) -> None:
    """Its domain is off before the other one starts, and calls from before it are refused from then on."""
    server = world.created(TWO)
    assert server.host is not None
    source, seen = server.host, []

    def look() -> None:
        there = domain(world, source, server.id)
        assert there is not None
        seen.append(there.power_state)

    world.begin(probe=At("before-do", "target_running", look))
    call_down(world, source)
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    world.check()
    assert seen == [PowerState.SHUTDOWN]
    with pytest.raises(StaleFence):
        world.hosts[source].compute.set_power(Call("before", "power_set", Fence(0, 1)), server.id, PowerAction.ON)


def test_a_domain_that_cannot_be_switched_off_stays_the_only_one(world: World) -> None:
    server = world.created(TWO)
    assert server.host is not None
    call_down(world, server.host)
    refused: list[str] = []

    def refuse(server_id: str, action: PowerAction) -> Any:
        refused.append(server_id)
        raise HypervisorError("The domain does not stop.")

    world.hosts[server.host].compute._hypervisor.set_power = refuse  # type: ignore[method-assign]
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    world.check()
    assert refused
    assert (world.server(server.id).host, world.server(server.id).vm_state) == (server.host, VmState.ACTIVE)


def test_a_failure_after_the_source_was_switched_off_brings_it_back_once_it_answers(world: World) -> None:
    server = world.created(TWO)
    assert server.host is not None
    call_down(world, server.host)
    world.begin(
        replaced(failing(evacuate.KIND, "target_running", "before")),
        probe=At("before-do", "target_running", lambda: world.plane.hosts.join(str(server.host), Dead())),
    )
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    (stuck,) = world.operations()
    assert (stuck.state, (stuck.error or {}).get("host")) == (State.STUCK, server.host)
    returns(world, server.host)
    world.settle()
    world.check()
    assert (world.server(server.id).host, world.server(server.id).power_state) == (server.host, PowerState.RUNNING)


def test_only_a_host_that_is_down_is_left(world: World) -> None:
    server = world.created(ONE)
    assert server.host is not None
    with pytest.raises(BadRequest, match=f"Compute service of {server.host} is still in use"):
        evacuate.request(world.plane, CALLER, server.id)
    dies(world, server.host)
    with pytest.raises(BadRequest, match="can't be the same"):
        evacuate.request(world.plane, CALLER, server.id, host=server.host)
    evacuate.request(world.plane, CALLER, server.id)
    with pytest.raises(InvalidState, match="rebuilding"):
        evacuate.request(world.plane, CALLER, server.id)


def test_a_server_whose_image_is_gone_is_not_made_blank(world: World) -> None:
    server = world.created(ONE)
    with world.plane.db.write() as tx:
        servers.update(tx, server.id, world.clock.now(), image_id="deleted")
    assert server.host is not None
    dies(world, server.host)
    with pytest.raises(Conflict, match="its disk cannot be made anew"):
        evacuate.request(world.plane, CALLER, server.id)
    assert world.server(server.id).task_state is None


def test_where_no_host_has_room_the_server_waits_for_its_own(world: World) -> None:
    server = world.created(TWO)
    assert server.host is not None
    (other,) = world.hosts.keys() - {server.host}
    dies(world, server.host)
    with world.plane.db.write() as tx:
        hosts.update_host(tx, other, enabled=False)
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    kept = world.server(server.id)
    assert (kept.host, kept.vm_state, kept.task_state) == (server.host, VmState.ACTIVE, None)
    assert kept.fault is not None
    assert "its compute service is disabled" in kept.fault.message
    assert migration(world).status is MigrationStatus.ERROR
    returns(world, server.host)
    world.settle()
    world.check()


@pytest.mark.parametrize(("stopped_before", "stopped"), [(False, True), (True, False)])
def test_a_server_arrives_stopped(world: World, stopped_before: bool, stopped: bool) -> None:
    server = world.created(TWO)
    assert server.host is not None
    if stopped_before:
        with world.plane.db.write() as tx:
            servers.update(tx, server.id, world.clock.now(), vm_state=VmState.STOPPED)
    dies(world, server.host)
    evacuate.request(world.plane, CALLER, server.id, stopped=stopped)
    world.settle()
    arrived = world.server(server.id)
    assert (arrived.vm_state, arrived.power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)
    returns(world, server.host)
    world.settle()
    world.check()


def test_it_does_not_go_back_before_what_it_left_is_cleared(world: World) -> None:
    server_id, source, target = evacuated(world)
    with world.plane.db.write() as tx:
        hosts.update_host(tx, source, last_seen_at=world.clock.now())  # it is up again, and nobody has cleared it yet
    resize.request_migration(world.plane, CALLER, server_id)
    world.settle()
    kept = world.server(server_id)
    assert (kept.host, kept.vm_state) == (target, VmState.ACTIVE)
    assert kept.fault is not None
    assert f"{source}: excluded: tried already, or to be left" in kept.fault.message
    returns(world, source)
    world.settle()
    resize.request_migration(world.plane, CALLER, server_id)
    world.settle()
    world.check()
    assert world.server(server_id).host == source


@pytest.mark.parametrize("how", ["rebooted", "cut off"])
def test_a_deletion_does_not_wait_for_the_host_that_was_left(world: World, how: str) -> None:
    server_id, source, target = evacuated(world)
    delete.request(world.plane, CALLER, server_id)
    world.settle()
    assert world.server(server_id).vm_state is VmState.DELETED
    assert (paid_on(world, source), paid_on(world, target)) == (2, 0)
    if how == "rebooted":
        world.hosts[source].machine.reboot()
    returns(world, source)
    world.settle()
    world.check()
    assert world.free() == {}
    assert domain(world, source, server_id) is None


def test_a_host_that_never_returns_can_be_removed(world: World) -> None:
    """Whoever removes it says that it is gone, and that nothing need be paid for there any more; should it join again, it is cleared."""
    server_id, source, target = evacuated(world)
    world.plane.hosts.leave(source)
    enrolment.remove(world.plane, source)
    assert (paid_on(world, source), paid_on(world, target)) == (0, 2)
    with world.plane.db.read() as tx:
        assert [host.name for host in hosts.all_hosts(tx)] == [target]
    assert world.server(server_id).vm_state is VmState.ACTIVE
    returns(world, source)
    world.settle()
    world.check()
    assert domain(world, source, server_id) is None
    assert migration(world).status is MigrationStatus.COMPLETED


def test_a_reboot_of_its_new_host_is_not_missed_while_its_old_one_is_cleared(world: World) -> None:
    """The clearing gives way to the restoration, and begins again."""
    server_id, source, target = evacuated(world)
    returns(world, source)
    assert [row.kind for row in world.operations()] == ["clear_evacuated"]
    world.hosts[target].machine.reboot()
    reconcile.host(world.plane, target)
    world.settle()
    reconcile.host(world.plane, source)
    world.settle()
    world.check()
    assert world.server(server_id).power_state is PowerState.RUNNING
    assert migration(world).status is MigrationStatus.COMPLETED


@pytest.mark.parametrize("wanted", [PowerAction.HARD_REBOOT, PowerAction.OFF])
def test_what_is_stuck_for_the_silence_of_the_host_is_given_up(world: World, wanted: PowerAction) -> None:
    server = world.created(TWO)
    assert server.host is not None
    dies(world, server.host)
    power.request(world.plane, CALLER, server.id, wanted)
    world.settle()
    assert [(row.kind, row.state) for row in world.operations()] == [("power", State.STUCK)]
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    moved = world.server(server.id)
    assert (moved.vm_state, moved.task_state) == (VmState.ACTIVE, None)
    assert moved.host != server.host
    returns(world, server.host)
    world.settle()
    world.check()


def test_a_move_that_is_stuck_is_not_given_up(world: World) -> None:
    """It holds something on two hosts; a person has to say what becomes of it."""
    server = world.created(TWO)
    assert server.host is not None
    source = server.host
    world.begin(probe=At("before-do", "source_stopped", lambda: dies(world, source)))
    resize.request(world.plane, CALLER, server.id, ONE)
    world.settle()
    assert [(row.kind, row.state) for row in world.operations()] == [("resize", State.STUCK)]
    with pytest.raises(InvalidState, match="task_state resize"):
        evacuate.request(world.plane, CALLER, server.id)
