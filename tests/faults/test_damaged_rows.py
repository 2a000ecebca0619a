"""Every column of every table damaged before a start: the service starts, names the record, keeps what may be its, and all else goes on."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from lamina.model.audit import own
from lamina.model.audit import server as audited
from lamina.model.repairs import Repair, What
from lamina.model.server_groups import GroupPolicy, ServerGroup
from lamina.model.servers import VmState
from lamina.operations import create, delete, queueing, resize
from lamina.operations.rounds import Reconciler
from lamina.store import aggregates, audit, flavors, hosts, reading, repairs, server_groups
from lamina.store.tables import metadata
from lamina.store.tables.hosts import gpus as gpu_rows
from lamina.store.tables.hosts import hosts as host_rows
from tests.faults import damages
from tests.faults.damages import Damage
from tests.faults.desk import Desk
from tests.faults.world import CALLER, ONE, TWO, World, flavor

#: more vGPUs than a host has room for
MANY = flavor("many", resources__VGPU="64")


@dataclasses.dataclass
class Populated:
    """A world that is put back for every damage. Of the servers one is half way through a resize, the others rest or wait."""

    desk: Desk
    state: Path
    kept: sqlite3.Connection
    half: str

    def damaged(self, damage: Damage) -> tuple[World, str]:
        """The world with one record damaged, and how that is called."""
        state = self.desk.place()
        shutil.copytree(self.state, state, dirs_exist_ok=True)
        self.desk.put_back(self.kept)
        with self.desk.raw() as connection:
            called = damage.put(connection)
        return World(state, "vfio", fresh=False, desk=self.desk), called


def _populated(desk: Desk) -> Populated:
    world = World.on(desk, "vfio")
    plane = world.plane
    world.created(TWO)
    create.request(plane, CALLER, create.NewServer("waits", MANY, None, networks=("public",), wait=1e6))
    world.settle()
    world.created(ONE)
    pending = world.created(ONE)
    resize.request(plane, CALLER, pending.id, TWO)
    world.settle()
    half = world.created(TWO)
    resize.request(plane, CALLER, half.id, ONE)
    (operation,) = world.operations()
    for _ in range(2):
        plane.runner.advance(operation.id)
    world.image()
    now = plane.clock.now()
    with plane.db.write() as tx:
        flavors.create(tx, ONE)
        server_groups.add(tx, ServerGroup("11111111-1111-4111-8111-111111111111", "g", "p", "u", GroupPolicy.AFFINITY))
        aggregates.add(tx, "racks", None, now)
        repairs.note(tx, Repair(What.RESTORE, "host-1", half.id, half.id, "it was away"), now)
        audit.record(tx, own(now, "update/lamina:test", audited(half.id)))
    return Populated(desk, world.state, desk.kept(), half.id)


@pytest.fixture(scope="module")
def populated() -> Iterator[Populated]:
    desk = Desk()
    yield _populated(desk)
    desk.close()


def devices(world: World, but_of: str) -> dict[str, tuple[str, str]]:
    """What stands on the machines of Lamina's -> where; each place once."""
    reports = {name: world.plane.hosts.of(name).report() for name in world.plane.hosts.names()}
    stand = [(name, v) for name, report in reports.items() for gpu in report.gpus for v in gpu.vgpus if v.ours]
    there = {v.uuid: (name, str(v.parent)) for name, v in stand if v.server_id != but_of}
    assert len(set(there.values())) == len(there), "a VF given twice"
    return there


def domains(world: World, but_of: str) -> set[tuple[str, str]]:
    names = world.plane.hosts.names()
    return {(name, str(d.server_id)) for name in names for d in world.plane.hosts.of(name).report().domains if d.server_id != but_of}


def rounds(world: World) -> None:
    """Twice what a control plane does by itself, so far apart that what is left over would be removed."""
    for _ in range(2):
        world.clock.sleep(2 * world.plane.settings.orphan_grace)
        reconciler = Reconciler(world.plane)
        reconciler.name_damage()
        reconciler.all_hosts()
        reconciler.stop()
        queueing.look(world.plane)
        world.settle()
    with world.plane.db.read() as tx:
        repairs.page(tx, host=None, limit=10, marker=None)
        audit.page(tx, audit.Sought(), limit=10, marker=None, direction="desc")


def test_nothing_that_is_read_is_left_out() -> None:
    damaged = {(one.table, one.column) for one in damages.every()}
    assert damages.json_columns() <= damaged
    assert {("servers", "vm_state"), ("servers", "power_state"), ("vgpus", "state"), ("migrations", "status")} <= damaged
    assert {("gpus", "address"), ("sagas", "state"), ("audit_events", "initiator_kind")} <= damaged
    assert {one.table for one in damages.every()} <= metadata.tables.keys()


@pytest.mark.parametrize("damage", list(damages.every()), ids=str)
@pytest.mark.weakness(755)
def test_a_damaged_record(populated: Populated, damage: Damage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_logged", {})
    with structlog.testing.capture_logs() as told:
        world, called = populated.damaged(damage)
        stood, ran = devices(world, populated.half), domains(world, populated.half)
        rounds(world)
    assert any(named(line, damage.table, called) for line in told), f"{called} is not named"
    assert not [line for line in told if "exc_info" in line], "an error that nobody expected"
    assert not [line for line in told if line["event"] == "not cleared"], "what is its was to be removed"
    assert devices(world, populated.half) == stood
    assert domains(world, populated.half) == ran
    other = world.created(ONE)
    assert other.vm_state is VmState.ACTIVE
    made = devices(world, populated.half)
    assert len(made) == len(stood) + 1
    assert made.items() > stood.items()
    delete.request(world.plane, CALLER, other.id)
    world.settle()
    assert world.server(other.id).vm_state is VmState.DELETED
    assert devices(world, populated.half) == stood
    assert domains(world, populated.half) == ran


def named(line: Any, table: str, called: str) -> bool:
    """Whether a line of the log names the record; those of an operation by the operation."""
    if table in ("sagas", "saga_events"):
        return called in str(line)
    return (line.get("table"), line.get("key")) == (table, called)


def test_where_a_record_is_damaged_nothing_new_is_made(desk: Desk) -> None:
    """Neither on the GPU, nor, of a host, on any of it; the host says so among its problems."""
    world = World.on(desk, "vfio")
    with world.plane.db.write() as tx:
        tx.execute(sa.update(gpu_rows).where(gpu_rows.c.host == "host1", gpu_rows.c.address == "0000:81:00.0").values(facts=[7]))
        tx.execute(sa.update(host_rows).where(host_rows.c.name == "host2").values(networks={"torn": True}))
    world.begin()
    made = [world.created(flavor("small", resources__VGPU="1", trait__CUSTOM_NVIDIA_11="required")) for _ in range(6)]
    placed = [v for server in made for v in world.vgpus(server.id)]
    assert {(v.host, str(v.address)) for v in placed} == {("host1", "0000:82:00.0")}
    assert [server.vm_state for server in made] == [VmState.ACTIVE] * 4 + [VmState.ERROR] * 2
    with world.plane.db.read() as tx:
        problems = hosts.get_host(tx, "host1").problems
    assert "The record host1/0000:81:00.0 in the table gpus is damaged and cannot be read." in problems
