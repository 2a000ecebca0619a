"""Plans of defragmentation on the records of a whole Lamina: who may be moved, that moves land where they were planned, and
that one which the kernel refuses leaves all well.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from lamina.model.errors import BadRequest
from lamina.model.hosts import PowerAction
from lamina.model.resources import type_trait
from lamina.model.server_groups import GroupPolicy, ServerGroup
from lamina.model.servers import VmState
from lamina.operations import confirm, defragmentation, power, resize
from lamina.scheduling.defragmentation import Plan
from lamina.store import aggregates, flavors, hosts, server_groups, servers
from tests.faults.desk import Desk
from tests.faults.world import CALLER, CARDS, ONE, World, flavor

#: how many small ones leave no room for a large one on either host, though the pieces together would be enough
ENOUGH = {"mdev": 10, "vfio": 10, "mig": 26}


@pytest.fixture(params=CARDS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    made = World.on(desk, request.param)
    made.create(ONE, ENOUGH[request.param])
    made.settle()
    large = f"trait__{type_trait(CARDS[request.param][2])}"
    with made.plane.db.write() as tx:
        flavors.create(tx, ONE)
        flavors.create(tx, flavor("large", resources__VGPU="1", **{large: "required"}))
    return made


def plan(world: World, *, only_stopped: bool = False, most_moves: int = 20) -> Plan:
    with world.plane.db.read() as tx:
        large = flavors.get(tx, "large")
    return defragmentation.plan(world.plane, (large, 1), most_moves=most_moves, only_stopped=only_stopped)


def carry_out(world: World, made: Plan) -> None:
    for move in made.moves:
        resize.request_migration(world.plane, CALLER, move.server_id, host=move.to_host)
        world.settle()
        confirm.request(world.plane, CALLER, move.server_id)
        world.settle()
        with world.plane.db.read() as tx:
            there = hosts.vgpus_of_server(tx, move.server_id)
        assert [(v.host, str(v.address), v.type) for v in there] == [
            (move.to_host, gpu, name) for gpu, name in zip(move.to_gpus, move.types, strict=True)
        ]


def place_large(world: World) -> VmState:
    with world.plane.db.read() as tx:
        large = flavors.get(tx, "large")
    return world.created(large).vm_state


def test_moves_land_where_they_were_planned_and_the_large_one_fits(world: World) -> None:
    made = plan(world)
    assert (len(made.moves), made.before.fits, made.after.fits) == (1, 0, 1)
    carry_out(world, made)
    world.check()
    again = plan(world)
    assert (again.moves, again.before) == ((), made.after)
    assert place_large(world) is VmState.ACTIVE
    world.check()


def test_who_is_tied_by_a_group_stays(world: World) -> None:
    with world.plane.db.write() as tx:
        everybody = [server.id for server in servers.page(tx)]
        for policy, some in ((GroupPolicy.ANTI_AFFINITY, everybody[1:]), (GroupPolicy.SOFT_ANTI_AFFINITY, everybody[:1])):
            server_groups.add(tx, ServerGroup(str(policy), "g", CALLER.project_id, CALLER.user_id, policy))
            server_groups.join(tx, str(policy), some)
    assert {move.server_id for move in plan(world).moves} <= {everybody[0]}
    with world.plane.db.write() as tx:
        server_groups.delete(tx, str(GroupPolicy.ANTI_AFFINITY))
    assert len(plan(world).moves) == 1


def test_room_is_made_in_the_aggregate_that_the_flavor_asks_for(world: World) -> None:
    asked = {"aggregate_instance_extra_specs:rack": "2"}
    with world.plane.db.write() as tx:
        flavors.set_extra_specs(tx, "large", asked)
    assert plan(world).moves == ()
    with world.plane.db.write() as tx:
        made = aggregates.add(tx, "rack", None, 0.0)
        aggregates.update(tx, made.id, 0.0, name=None, metadata={"rack": "2"})
        aggregates.add_host(tx, made.id, "host2", 0.0)
    found = plan(world)
    assert {move.from_host for move in found.moves} == {"host2"}
    carry_out(world, found)
    assert place_large(world) is VmState.ACTIVE
    world.check()


def test_without_the_moves_it_does_not_fit(world: World) -> None:
    assert place_large(world) is VmState.ERROR


def test_fragmentation_is_lowered_as_far_as_was_told(world: World) -> None:
    """Where only large ones are expected, as no other flavor is left."""
    with world.plane.db.write() as tx:
        flavors.delete(tx, ONE.id)
    made = defragmentation.plan(world.plane, None, most_moves=20, only_stopped=False)
    assert made.after.useless_mb < made.before.useless_mb
    carry_out(world, made)
    world.check()
    assert defragmentation.plan(world.plane, None, most_moves=20, only_stopped=False).before == made.after


def test_a_move_that_the_kernel_refuses_leaves_all_well(world: World) -> None:
    (move,) = plan(world).moves

    def refuse(path: str, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    world.hosts[move.to_host].kernel.before_write = refuse
    resize.request_migration(world.plane, CALLER, move.server_id, host=move.to_host)
    world.settle()
    del world.hosts[move.to_host].kernel.before_write
    server = world.server(move.server_id)
    assert (server.vm_state, server.host, server.task_state) == (VmState.ACTIVE, move.from_host, None)
    world.check()


def lock(world: World, server_id: str) -> None:
    with world.plane.db.write() as tx:
        servers.update(tx, server_id, world.clock.now(), locked=True)


def await_confirmation(world: World, server_id: str) -> None:
    """A resize on its own host, so that nothing is free that was not before."""
    resize.request(world.plane, CALLER, server_id, flavor("none"))
    world.settle()


def begin_something(world: World, server_id: str) -> None:
    power.request(world.plane, CALLER, server_id, PowerAction.OFF)


def spoil_flavor(world: World, server_id: str) -> None:
    nonsense = flavor("nonsense", resources__VGPU="many")
    with pytest.raises(BadRequest):
        _ = nonsense.request
    with world.plane.db.write() as tx:
        servers.update(tx, server_id, world.clock.now(), flavor=nonsense)


@pytest.mark.parametrize("fix", [lock, await_confirmation, begin_something, spoil_flavor])
def test_who_may_not_be_moved_stays(world: World, fix: Callable[[World, str], None]) -> None:
    with world.plane.db.read() as tx:
        everybody = [server.id for server in servers.page(tx)]
    for server_id in everybody:
        fix(world, server_id)
    assert plan(world).moves == ()


def test_only_servers_that_are_shut_off_are_moved_where_that_was_asked(world: World) -> None:
    assert plan(world, only_stopped=True).moves == ()
    (move,) = plan(world).moves
    power.request(world.plane, CALLER, move.server_id, PowerAction.OFF)
    world.settle()
    assert [m.server_id for m in plan(world, only_stopped=True).moves] == [move.server_id]


def test_a_host_that_does_not_answer_is_left_alone(world: World) -> None:
    assert len(plan(world).moves) == 1
    with world.plane.db.write() as tx:
        hosts.update_host(tx, sorted(world.hosts)[0], forced_down=True)
    assert plan(world).moves == ()
