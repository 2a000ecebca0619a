"""What Lamina does without being asked is in the audit trail, with Lamina as the initiator and in the commit that begins it."""

from __future__ import annotations

import pytest

from lamina.model.audit import Event, Kind
from lamina.model.errors import AlreadyExists
from lamina.operations import auto_confirm, create, delete, queueing
from lamina.store import audit, repairs, sagas
from lamina.store.audit import Sought
from tests.faults.desk import Desk
from tests.faults.stories import look
from tests.faults.test_auto_confirm import WINDOW, resized, windowed
from tests.faults.test_repairs import left_over
from tests.faults.world import CALLER, ONE, World, flavor

ALL = flavor("all", resources__VGPU="4", trait__CUSTOM_NVIDIA_11="required")


@pytest.fixture
def world(desk: Desk) -> World:
    return World.on(desk, "mdev")


def own(world: World) -> list[Event]:
    with world.plane.db.read() as tx:
        found = [event for _, event in audit.page(tx, Sought(user="lamina"), limit=100, marker=None, direction="asc")]
    assert {event.initiator.kind for event in found} <= {Kind.SERVICE}
    return found


def test_each_repair_is_an_event(world: World) -> None:
    server, other, uuid = left_over(world)
    assert own(world) == []
    look(world)
    with world.plane.db.read() as tx:
        (by_uuid,) = [row.repair for row in repairs.page(tx, host=None, limit=9, marker=None) if row.repair.object == uuid]
    found = own(world)
    assert {event.action for event in found} == {"delete/lamina:repair:orphan-vgpu", "delete/lamina:repair:orphan-domain"}
    (event,) = [event for event in found if event.target.id == uuid]
    assert event.target.of == server.id
    assert event.more == {"why": by_uuid.why, "host": other, "operation_id": by_uuid.operation_id}


def test_a_repair_that_was_not_begun_is_no_event(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left_over(world)

    def busy(*_: object, **__: object) -> None:
        raise AlreadyExists("an operation is running")

    monkeypatch.setattr("lamina.operations.clear.enlist", busy)
    look(world)
    assert own(world) == []


def test_a_resize_that_nobody_confirmed_is_confirmed_by_lamina(world: World) -> None:
    server = resized(world)
    world.clock.sleep(WINDOW)
    auto_confirm.overdue(windowed(world))
    (event,) = own(world)
    assert (event.action, event.target.id) == ("update/lamina:auto_confirm", server.id)
    with world.plane.db.read() as tx:
        (saga,) = [saga for saga in sagas.of_subject(tx, server.id) if saga.kind == "confirm"]
    assert event.request_id == saga.request_id


def test_what_the_queue_begins_and_gives_up_is_an_event(world: World) -> None:
    fillers = world.create(ALL, count=4)
    world.settle()
    (first,) = create.request(world.plane, CALLER, create.NewServer("first", ONE, None, wait=600))
    (second,) = create.request(world.plane, CALLER, create.NewServer("second", ONE, None, wait=60))
    world.settle()
    world.clock.sleep(61)
    look(world)  # or the hosts were taken for down
    queueing.look(world.plane)
    delete.request(world.plane, CALLER, fillers[0].id)
    world.settle()
    queueing.look(world.plane)
    expired, begun = own(world)
    assert (expired.action, expired.target.id) == ("update/lamina:queue:expire", second.id)
    assert (begun.action, begun.target.id, begun.request_id) == ("create/lamina:queue:begin", first.id, CALLER.request_id)
