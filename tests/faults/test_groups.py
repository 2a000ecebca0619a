"""Server groups under races, refusals and moves: a hard policy holds at every moment that anybody could look."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lamina.model.errors import LaminaError
from lamina.model.server_groups import GroupPolicy, ServerGroup
from lamina.model.servers import Server, VmState
from lamina.operations import confirm, delete, resize, revert
from lamina.saga.runner import Caller
from lamina.store import aggregates, server_groups, servers
from tests.faults import world as worlds
from tests.faults.world import CALLER, ONE, PLAIN, TWO, World, flavor

HOSTS = 4
ADMIN = Caller("root", "administrators", "req-2")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Four hosts alike."""
    monkeypatch.setattr(worlds, "FLEET", worlds.FLEET.replace("count: 2", f"count: {HOSTS}"))
    return World(tmp_path, "mdev")


def group(world: World, policy: GroupPolicy, most: int | None = None) -> str:
    with world.plane.db.write() as tx:
        server_groups.add(tx, ServerGroup(f"group-{policy}", "g", CALLER.project_id, CALLER.user_id, policy, most))
    return f"group-{policy}"


def now(world: World, made: list[Server]) -> list[Server]:
    return [world.server(server.id) for server in made]


def drive(world: World, threads: int = 4) -> None:
    """Advance all operations by several threads at once, each in an order of its own."""

    def run(offset: int) -> None:
        pending = [row.id for row in world.operations()]
        for saga_id in pending[offset:] + pending[:offset]:
            try:
                while world.plane.runner.advance(saga_id):
                    pass
            except LaminaError:  # another thread has moved it meanwhile
                continue

    running = [threading.Thread(target=run, args=(offset,)) for offset in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    world.settle()


@pytest.mark.parametrize("extra", [0, 1, 3])
def test_servers_made_at_once_are_kept_apart(world: World, extra: int) -> None:
    """As many as there are hosts get one each; every one above that is refused, with a reason for each host."""
    apart = group(world, GroupPolicy.ANTI_AFFINITY)
    made = world.create(ONE, count=HOSTS + extra, group_id=apart)
    drive(world)
    world.check()
    active = [s for s in now(world, made) if s.vm_state is VmState.ACTIVE]
    refused = [s for s in now(world, made) if s.vm_state is VmState.ERROR]
    assert Counter(s.host for s in active) == {f"host{n}": 1 for n in range(1, HOSTS + 1)}
    assert len(refused) == extra
    for server in refused:
        assert server.host is None
        assert server.fault is not None
        assert server.fault.message.startswith("No valid host was found. host1: has 1 of at most 1 servers of anti-affinity group")
        assert server.fault.message.count(f"anti-affinity group {apart}") == HOSTS


def test_a_host_may_have_as_many_as_the_rule_says(world: World) -> None:
    made = world.create(PLAIN, count=2 * HOSTS + 1, group_id=group(world, GroupPolicy.ANTI_AFFINITY, 2))
    drive(world)
    placed = Counter(s.host for s in now(world, made) if s.host is not None)
    assert set(placed.values()) == {2}
    assert len(placed) == HOSTS


def test_servers_made_at_once_are_kept_together_until_their_host_is_full(world: World) -> None:
    """A host has eight of the small vGPUs; the ninth server has nowhere to go, whatever is free elsewhere."""
    small = flavor("small", resources__VGPU="1", trait__CUSTOM_NVIDIA_11="required")
    made = world.create(small, count=9, group_id=group(world, GroupPolicy.AFFINITY))
    drive(world)
    world.check()
    assert sorted(Counter(s.host for s in now(world, made) if s.host is not None).values()) == [8]
    (refused,) = [s for s in now(world, made) if s.vm_state is VmState.ERROR]
    assert refused.fault is not None
    assert "affinity group group-affinity has a server on another host" in refused.fault.message


def test_a_place_in_a_group_is_free_again_once_its_server_is_deleted(world: World) -> None:
    apart = group(world, GroupPolicy.ANTI_AFFINITY)
    made = world.create(PLAIN, count=HOSTS, group_id=apart)
    world.settle()
    gone = world.server(made[0].id)
    delete.request(world.plane, CALLER, gone.id)
    world.settle()
    assert world.created(PLAIN, group_id=apart).host == gone.host


@pytest.mark.parametrize("ending", [confirm, revert])
def test_a_server_between_two_hosts_counts_on_both(world: World, ending: Any) -> None:
    """Whichever way a move ends, nobody of the group stands there already."""
    apart = group(world, GroupPolicy.ANTI_AFFINITY)
    made = world.create(ONE, count=HOSTS - 1, group_id=apart)
    world.settle()
    mover = world.server(made[0].id)
    resize.request_migration(world.plane, ADMIN, mover.id)
    world.settle()
    assert world.server(mover.id).vm_state is VmState.RESIZED
    early = world.created(ONE, group_id=apart)
    assert early.vm_state is VmState.ERROR
    ending.request(world.plane, CALLER, mover.id)
    world.settle()
    late = world.created(ONE, group_id=apart)
    assert late.vm_state is VmState.ACTIVE
    assert len({s.host for s in (*now(world, made), late)}) == HOSTS
    delete.request(world.plane, CALLER, early.id)
    world.settle()
    world.check()


def test_a_migration_keeps_to_the_group_and_a_resize_may_stay(world: World) -> None:
    apart = group(world, GroupPolicy.ANTI_AFFINITY)
    made = world.create(ONE, count=HOSTS, group_id=apart)
    world.settle()
    before = world.server(made[0].id)
    resize.request_migration(world.plane, ADMIN, before.id)
    world.settle()
    after = world.server(before.id)
    assert (after.vm_state, after.host) == (VmState.ACTIVE, before.host)
    assert after.fault is not None
    assert f"anti-affinity group {apart}" in after.fault.message
    resize.request(world.plane, CALLER, before.id, TWO)
    world.settle()
    resized = world.server(before.id)
    assert (resized.vm_state, resized.host) == (VmState.RESIZED, before.host)
    world.check()


def test_an_affinity_group_cannot_be_torn_apart_by_a_migration(world: World) -> None:
    together = group(world, GroupPolicy.AFFINITY)
    made = world.create(ONE, count=2, group_id=together)
    world.settle()
    for server in now(world, made):
        resize.request_migration(world.plane, ADMIN, server.id)
    drive(world, threads=2)
    assert len({s.host for s in now(world, made)}) == 1
    assert {s.vm_state for s in now(world, made)} == {VmState.ACTIVE}
    delete.request(world.plane, CALLER, made[0].id)
    world.settle()
    alone = world.server(made[1].id)
    resize.request_migration(world.plane, ADMIN, alone.id)
    world.settle()
    assert world.server(alone.id).vm_state is VmState.RESIZED
    assert world.created(ONE, group_id=together).vm_state is VmState.ERROR, "it could be torn apart by a revert"


@pytest.mark.parametrize(("policy", "hosts"), [(GroupPolicy.SOFT_ANTI_AFFINITY, HOSTS), (GroupPolicy.SOFT_AFFINITY, 1)])
def test_soft_policies_do_what_they_can(world: World, policy: GroupPolicy, hosts: int) -> None:
    made = world.create(PLAIN, count=HOSTS + 2, group_id=group(world, policy))
    drive(world)
    assert {s.vm_state for s in now(world, made)} == {VmState.ACTIVE}
    placed = Counter(s.host for s in now(world, made))
    assert len(placed) == hosts
    assert max(placed.values()) - min(placed.values()) <= 1


def test_a_flavor_goes_to_the_aggregate_that_has_what_it_asks_also_when_it_moves(world: World) -> None:
    clock = world.clock
    with world.plane.db.write() as tx:
        made = aggregates.add(tx, "fast", None, clock.now())
        aggregates.update(tx, made.id, clock.now(), name=None, metadata={"disk": "ssd"})
        for name in ("host2", "host3"):
            aggregates.add_host(tx, made.id, name, clock.now())
    fast = dataclasses.replace(PLAIN, id="fast", extra_specs={"aggregate_instance_extra_specs:disk": "ssd"})
    placed = [world.created(fast) for _ in range(3)]
    assert {s.host for s in placed} == {"host2", "host3"}
    resize.request_migration(world.plane, ADMIN, placed[0].id)
    world.settle()
    moved = world.server(placed[0].id)
    assert {placed[0].host, moved.host} == {"host2", "host3"}
    lost = world.created(dataclasses.replace(fast, extra_specs={"aggregate_instance_extra_specs:disk": "tape"}))
    assert lost.fault is not None
    assert "host1: in no aggregate whose metadata has disk=tape" in lost.fault.message


def test_a_deleted_group_has_no_say_any_more(world: World) -> None:
    apart = group(world, GroupPolicy.ANTI_AFFINITY)
    made = world.create(PLAIN, count=HOSTS, group_id=apart)
    world.settle()
    late = world.create(PLAIN, group_id=apart)
    with world.plane.db.write() as tx:
        server_groups.delete(tx, apart)
    world.settle()
    assert [s.vm_state for s in now(world, late)] == [VmState.ACTIVE]
    with world.plane.db.read() as tx:
        assert server_groups.groups_of(tx, [s.id for s in made]) == {}
        assert len(servers.page(tx)) == HOSTS + 1
