"""Every single record damaged before a start: the service starts, names what it cannot read, and all else goes on."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from lamina.model.servers import VmState
from lamina.operations import delete, resize
from lamina.saga.log import CorruptLog, State
from lamina.store import hosts
from lamina.store.tables.operations import saga_events, sagas
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
@pytest.mark.weakness(755)
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


FIELDS = ("uuid", "server_id", "framework", "gpu", "type", "type_id", "boot_id")


def damage_the_journal(world: World, host: str, field: str) -> str:
    """Damage a field of the first record; the vGPU's uuid."""
    path = world.state / "agents" / f"{host}.json"
    content = json.loads(path.read_text())
    uuid = next(iter(content["vgpus"]))
    content["vgpus"][uuid][field] = 7
    path.write_text(json.dumps(content))
    return str(uuid)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.weakness(755)
def test_a_damaged_record_of_a_journal_keeps_no_agent_from_starting(world: World, field: str) -> None:
    """It is named, and where it is certain what it was it is written anew: nothing was done to the server."""
    server = world.created(TWO)
    assert server.host is not None
    uuid = damage_the_journal(world, server.host, field)
    world.begin()
    world.settle()
    with world.plane.db.read() as tx:
        problems = hosts.get_host(tx, server.host).problems
    assert any(uuid in problem and "damaged" in problem for problem in problems)
    assert world.hosts[server.host].compute._journal.set_aside() == {}
    world.check()
    assert world.server(server.id).updated_at == server.updated_at, "nothing had to be restored"
    delete.request(world.plane, CALLER, server.id)
    world.settle()
    world.check()
    assert world.free() == {}


def test_a_vf_of_which_it_is_not_certain_is_left_alone(desk: Desk) -> None:
    """Nobody knows where it stood: the server gets another one, and what may be somebody else's stays."""
    world = World.on(desk, "vfio")
    server = world.created(ONE)
    assert server.host is not None
    uuid = damage_the_journal(world, server.host, "parent")
    kept = dict(world.hosts[server.host].machine.state.vf_types)
    world.begin()
    world.settle()
    assert world.hosts[server.host].machine.state.vf_types.items() >= kept.items()
    with world.plane.db.read() as tx:
        assert any(f"{uuid} is damaged and set aside" in problem for problem in hosts.get_host(tx, server.host).problems)
    assert world.server(server.id).vm_state is VmState.ACTIVE
