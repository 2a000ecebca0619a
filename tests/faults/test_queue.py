"""Servers that wait for room: in turn, without a leak, and whatever happens to them meanwhile."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lamina.model.servers import TaskState, VmState
from lamina.operations import create, delete, queueing
from lamina.saga.runner import Caller
from lamina.store import queue, sagas
from lamina.store.database import Database
from tests.faults.world import CALLER, World, flavor

pytestmark = pytest.mark.databases

ONE = flavor("one", resources__VGPU="1")
ALL = flavor("all", resources__VGPU="4", trait__CUSTOM_NVIDIA_11="required")
OTHER = Caller(user_id="u2", project_id="p2", request_id="req-other")


@pytest.fixture
def world(tmp_path: Path, database: Database) -> World:
    """Full: each of the two hosts has a GPU of four small vGPUs and one of four small or two large ones."""
    world = World(tmp_path, "mdev", url=database.engine.url.render_as_string(hide_password=False))
    world.fillers = [s.id for s in world.create(ALL, count=4)]  # type: ignore[attr-defined]
    world.settle()
    assert {world.server(s).vm_state for s in world.fillers} == {VmState.ACTIVE}  # type: ignore[attr-defined]
    return world


def asked(world: World, wait: float, caller: Caller = CALLER, count: int = 1) -> list[str]:
    made = create.request(world.plane, caller, create.NewServer("w", ONE, None, count=count, wait=wait))
    world.settle()
    return [server.id for server in made]


def free(world: World) -> None:
    """Room for four."""
    delete.request(world.plane, CALLER, world.fillers.pop())  # type: ignore[attr-defined]
    world.settle()


def looked(world: World) -> list[str]:
    """Who was begun, one after the other, until nobody fitted any more."""
    begun = []
    while (one := queueing.look(world.plane)) is not None:
        begun.append(one)
        world.settle()
    return begun


def state(world: World, server_id: str) -> tuple[VmState, TaskState | None]:
    server = world.server(server_id)
    return server.vm_state, server.task_state


def waits(world: World) -> list[str]:
    with world.plane.db.read() as tx:
        return [s for s, _ in sorted(queueing.places(tx).items(), key=lambda found: found[1][0])]


QUEUED = (VmState.BUILDING, TaskState.QUEUED)
ACTIVE = (VmState.ACTIVE, None)


def test_one_that_asks_to_waits_until_there_is_room(world: World) -> None:
    (server_id,) = asked(world, 600)
    assert state(world, server_id) == QUEUED
    with world.plane.db.read() as tx:
        (one,) = queue.all_waiting(tx)
    assert "No valid host was found" in one.reason
    assert looked(world) == []
    assert state(world, server_id) == QUEUED
    world.check()
    free(world)
    assert looked(world) == [server_id]
    assert state(world, server_id) == ACTIVE
    assert waits(world) == []
    world.check()


def test_it_goes_on_under_the_name_it_was_asked_for_by(world: World) -> None:
    caller = dataclasses.replace(CALLER, request_id="req-asked", global_request_id="req-of-another-service")
    (server_id,) = asked(world, 600, caller)
    free(world)
    assert looked(world) == [server_id]
    with world.plane.db.read() as tx:
        attempts = sagas.of_subject(tx, server_id)
    assert [(one.state, one.request_id, one.global_request_id) for one in attempts] == [
        ("undone", "req-asked", "req-of-another-service"),
        ("done", "req-asked", "req-of-another-service"),
    ]


def test_one_that_does_not_ask_does_not_wait(world: World) -> None:
    (server,) = create.request(world.plane, CALLER, create.NewServer("w", ONE, None))
    world.settle()
    assert state(world, server.id) == (VmState.ERROR, None)


def test_its_flavor_may_ask_for_it(world: World) -> None:
    patient = dataclasses.replace(ONE, extra_specs={**ONE.extra_specs, "lamina:wait": "60"})
    (server,) = create.request(world.plane, CALLER, create.NewServer("w", patient, None))
    world.settle()
    assert state(world, server.id) == QUEUED


def test_it_waits_no_longer_than_it_asked_to(world: World) -> None:
    (server_id,) = asked(world, 60)
    world.clock.sleep(61)
    assert looked(world) == []
    assert state(world, server_id) == (VmState.ERROR, None)
    fault = world.server(server_id).fault
    assert fault is not None
    assert "It has waited 60 seconds for room." in fault.message
    assert waits(world) == []
    free(world)
    assert looked(world) == []


def test_projects_take_turns(world: World) -> None:
    first = sorted(asked(world, 600, count=5))  # of one request all came at once
    (other,) = asked(world, 600, OTHER)
    assert waits(world) == [first[0], other, *first[1:]]
    free(world)
    assert looked(world) == [first[0], other, *first[1:3]]
    assert [state(world, s) for s in (first[0], other, *first[1:3])] == [ACTIVE] * 4
    assert [state(world, s) for s in first[3:]] == [QUEUED] * 2
    world.check()


def test_one_that_is_deleted_leaves_the_queue(world: World) -> None:
    (server_id,) = asked(world, 600)
    delete.request(world.plane, CALLER, server_id)
    world.settle()
    assert waits(world) == []
    free(world)
    assert looked(world) == []
    world.check()


def test_one_that_is_beaten_to_the_room_keeps_its_place(world: World) -> None:
    early, late = (asked(world, 600)[0] for _ in range(2))
    free(world)
    with world.plane.db.read() as tx:
        before = {one.server_id: one.queued_at for one in queue.all_waiting(tx)}
    # somebody else takes all of it between the look and the claim
    begun = create.request(world.plane, CALLER, create.NewServer("thief", ALL, None))
    assert queueing.look(world.plane) == early
    while world.plane.runner.advance(next(row.id for row in world.operations() if row.subject == begun[0].id)):
        pass
    world.settle()
    assert state(world, begun[0].id) == ACTIVE
    with world.plane.db.read() as tx:
        assert {one.server_id: one.queued_at for one in queue.all_waiting(tx)} == before
    assert waits(world) == [early, late]
    world.check()


def test_a_process_that_dies_loses_nobody(world: World) -> None:
    (server_id,) = asked(world, 600)
    free(world)
    assert queueing.look(world.plane) == server_id
    world.begin()  # another one, on what there is: the creation was in the commit that took the server out of the queue
    world.settle()
    assert state(world, server_id) == ACTIVE
    world.check()
