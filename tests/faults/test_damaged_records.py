"""Every single record damaged before a start: the service starts, names what it cannot read, and all else goes on."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from lamina.agent.journal import Journal
from lamina.model.errors import Conflict
from lamina.model.servers import VmState
from lamina.operations import delete, resize
from lamina.saga.log import CorruptLog, State
from lamina.store.tables import saga_events, sagas
from tests.faults.desk import Desk
from tests.faults.world import CALLER, FRAMEWORKS, ONE, TWO, World

DAMAGES = {
    "no such event": {"event": "torn"},
    "no such step": {"step": "torn"},
    "an undo of what was not done": {"event": "undone"},
}


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


def half_resized(world: World, turns: int) -> str:
    """A server whose resize was left after so many steps; the operation's id."""
    server = world.created(TWO)
    resize.request(world.plane, CALLER, server.id, ONE)
    (row,) = world.operations()
    for _ in range(turns):
        world.plane.runner.advance(row.id)
    return row.id


def named_and_in_nobodys_way(world: World, saga_id: str) -> None:
    world.begin()
    world.settle()
    (stuck,) = world.operations()
    assert (stuck.id, stuck.state) == (saga_id, State.STUCK)
    assert stuck.error is not None
    assert stuck.error["code"] == CorruptLog.code
    assert world.created(ONE).vm_state is VmState.ACTIVE, "others go on"
    delete.request(world.plane, CALLER, stuck.subject)
    world.settle()
    world.check()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("number", range(1, 5))
def test_a_damaged_line_of_an_operation(world: World, number: int, damage: str) -> None:
    saga_id = half_resized(world, 4)
    with world.plane.db.write() as tx:
        line = (saga_events.c.saga_id == saga_id) & (saga_events.c.number == number)
        changed = tx.execute(sa.update(saga_events).where(line).values(**DAMAGES[damage]))
        assert changed.rowcount == 1
    named_and_in_nobodys_way(world, saga_id)


@pytest.mark.parametrize("turns", [0, 2, 4])
def test_damaged_parameters_of_an_operation(world: World, turns: int) -> None:
    saga_id = half_resized(world, turns)
    with world.plane.db.write() as tx:
        tx.execute(sa.update(sagas).where(sagas.c.id == saga_id).values(params={"torn": True}))
    named_and_in_nobodys_way(world, saga_id)


def test_a_damaged_record_of_a_journal(world: World) -> None:
    """Without it a device of ours would be taken for a foreign one: the file is named, and left as it is."""
    server = world.created(TWO)
    path = world.state / "agents" / f"{server.host}.json"
    whole = path.read_text()
    for uuid in json.loads(whole)["vgpus"]:
        for field in ("uuid", "server_id", "framework", "gpu", "parent", "type", "type_id", "boot_id"):
            content = json.loads(whole)
            content["vgpus"][uuid][field] = 7
            path.write_text(json.dumps(content))
            with pytest.raises(Conflict, match=path.name):
                Journal(path)
            assert json.loads(path.read_text()) == content
