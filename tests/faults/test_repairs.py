"""Repairs that meet operations, other control planes, late reports and refusals: nothing that is needed is ever removed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lamina.hosts.directory import Compute
from lamina.model import ids
from lamina.model.errors import AlreadyExists, ConcurrentUpdate, LaminaError
from lamina.model.hosts import HostReport, PowerAction, PowerState
from lamina.model.policies import PolicyName
from lamina.model.repairs import What
from lamina.model.servers import Server, VmState
from lamina.operations import delete, power, reconcile, resize
from lamina.operations.comparison import View
from lamina.operations.control_plane import ControlPlane
from lamina.saga.log import State
from lamina.scheduling import claim
from lamina.scheduling.claim import Payer
from lamina.scheduling.filters import Wanted
from lamina.store import hosts, repairs, sagas, servers
from tests.faults.desk import Desk
from tests.faults.stories import leave, look, look_twice
from tests.faults.world import CALLER, FRAMEWORKS, ONE, PLAIN, TWO, World


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


class Reporting:
    """A host that does something whenever it was asked for a report, or tells an old one."""

    def __init__(self, compute: Compute, then: Callable[[HostReport], HostReport]) -> None:
        self._compute = compute
        self._then = then

    def report(self) -> HostReport:
        return self._then(self._compute.report())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compute, name)


def left_over(world: World) -> tuple[Server, str, str]:
    """A server, another host, and the uuid of a vGPU that is left of the server there and was seen for long enough."""
    server = world.created(ONE)
    other = next(name for name in world.hosts if name != server.host)
    uuid = leave(world, server.id, other)
    look(world)
    world.clock.sleep(world.plane.settings.orphan_grace)
    assert standing(world, other) == {uuid}
    return server, other, uuid


def standing(world: World, host: str) -> set[str]:
    report = world.hosts[host].compute.report()
    return {v.uuid for g in report.gpus for v in g.vgpus if v.ours}


def outcomes(world: World) -> list[tuple[str, str]]:
    with world.plane.db.read() as tx:
        return [(str(row.repair.what), row.outcome) for row in repairs.page(tx, host=None, limit=100, marker=None)]


def test_one_look_removes_nothing_and_a_short_while_neither(world: World) -> None:
    server = world.created(ONE)
    other = next(name for name in world.hosts if name != server.host)
    uuid = leave(world, server.id, other)
    assert len(reconcile.host(world.plane, other).waiting) == 2
    world.clock.sleep(world.plane.settings.orphan_grace - 1)
    assert not reconcile.host(world.plane, other).begun
    world.clock.sleep(2)
    assert reconcile.host(world.plane, other).begun
    world.settle()
    assert uuid not in standing(world, other)
    assert outcomes(world) == [("orphan-domain", "done"), ("orphan-vgpu", "done")]
    world.check()


def test_what_a_boot_has_lost_is_forgotten_too(world: World) -> None:
    """It stands nowhere, and the host's journal would bring it back with the next boot."""
    _, other, uuid = left_over(world)
    world.hosts[other].machine.reboot()
    assert [v.uuid for v in world.hosts[other].compute.report().lost] == [uuid]
    assert reconcile.host(world.plane, other).begun
    world.settle()
    assert world.hosts[other].compute.report().lost == ()
    assert world.hosts[other].compute.restore() == []
    assert standing(world, other) == set()
    world.check()


def test_a_server_that_somebody_else_changes_meanwhile_is_left_to_the_next_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL an operation may end between two things that a look reads; here, right before it acts."""
    server = world.created(ONE)
    assert server.host is not None
    world.hosts[server.host].machine.reboot()
    view = reconcile._view

    def meanwhile(plane: ControlPlane, tx: sa.Connection, *given: Any, **more: Any) -> View:
        seen = view(plane, tx, *given, **more)
        servers.update(tx, server.id, plane.clock.now())
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "_view", meanwhile)
        with pytest.raises(ConcurrentUpdate):
            reconcile.host(world.plane, server.host)
    assert world.operations() == []
    assert reconcile.host(world.plane, server.host).begun
    world.settle()
    world.check()


def test_what_came_and_went_begins_to_count_anew(world: World) -> None:
    server, other, _ = left_over(world)
    power.request(world.plane, CALLER, server.id, PowerAction.OFF)
    assert not reconcile.host(world.plane, other).begun, "an operation holds the server"
    world.settle()
    assert not reconcile.host(world.plane, other).begun, "it is seen for the first time since"


@pytest.mark.weakness(367)
def test_an_operation_that_begins_in_the_instant_of_the_look_is_left_alone(world: World) -> None:
    """It comes after the report and before the removal, and needs the very place."""
    server, other, uuid = left_over(world)

    def migrate(report: HostReport) -> HostReport:
        resize.request_migration(world.plane, CALLER, server.id)
        return report

    world.plane.hosts.join(other, Reporting(world.hosts[other].compute, migrate))
    assert not reconcile.host(world.plane, other).begun
    world.plane.hosts.join(other, world.hosts[other].compute)
    world.settle()
    assert world.server(server.id).vm_state is VmState.RESIZED
    assert world.server(server.id).host == other
    assert len(standing(world, other)) == 2
    look_twice(world)
    world.settle()
    assert uuid not in standing(world, other), "what is left over beside it goes"
    world.check()


def test_an_operation_that_was_over_before_the_removal_is_seen_by_it(world: World) -> None:
    """The look goes by what was so; the removal asks the records again."""
    server, other, uuid = left_over(world)
    assert reconcile.host(world.plane, other).begun
    (clearing,) = world.operations()
    with pytest.raises(AlreadyExists):
        resize.request_migration(world.plane, CALLER, server.id)
    with world.plane.db.write() as tx:  # an operator gives it up in favour of a migration, and then lets it go on
        sagas.write(tx, clearing.id, owner=world.plane.runner.me, epoch=clearing.epoch, new_events=(), state=State.STUCK)
        sagas.operator_verdict(tx, clearing.id, state=State.ABANDONED, reason="test", now=world.clock.now())
    resize.request_migration(world.plane, CALLER, server.id)
    world.settle()
    with world.plane.db.write() as tx:
        tx.exec_driver_sql(
            f"UPDATE sagas SET state = 'running', abandoned_reason = NULL, owner = '{world.plane.runner.me}' WHERE id = '{clearing.id}'"  # noqa: S608
        )
    world.settle()
    assert world.server(server.id).host == other
    domains = {d.server_id: d.power_state for d in world.hosts[other].compute.report().domains}
    assert domains == {server.id: PowerState.RUNNING}, "it lives here now"
    assert uuid not in standing(world, other)
    world.check()


def test_of_two_control_planes_that_look_at_once_one_removes(world: World) -> None:
    first = world.plane
    second = world.begin(alone=False)
    server, other, uuid = left_over(world)
    seen: list[HostReport] = []

    def other_looks(report: HostReport) -> HostReport:
        if not seen:
            seen.append(report)
            assert reconcile.host(first, other).begun
        return report

    second.hosts.join(other, Reporting(world.hosts[other].compute, other_looks))
    first.hosts.join(other, world.hosts[other].compute)
    assert not reconcile.host(second, other).begun
    with first.db.read() as tx:
        (clearing,) = sagas.unfinished(tx)
    assert clearing.owner == first.runner.me
    while first.runner.advance(clearing.id):
        pass
    assert uuid not in standing(world, other)
    assert world.server(server.id).vm_state is VmState.ACTIVE
    world.check()


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "never-known"])
def test_a_record_without_a_device_that_belongs_to_nobody_goes(world: World, deleted: bool) -> None:
    """With the allocation that pays for it; restoring it would be for nobody."""
    gone = ids.new_uuid()
    if deleted:
        gone = world.created(ONE).id
        delete.request(world.plane, CALLER, gone)
        world.settle()
    payer = Payer(gone, "INSTANCE", gone, "p", "u", "given up")
    with world.plane.db.write() as tx:
        claim.claim(tx, world.plane.index, Wanted(ONE.request), payer, PolicyName.PACK, now=world.clock.now(), service_down=1e9)
    look_twice(world)
    world.settle()
    assert outcomes(world)[0] == ("allocation", "done")
    world.check()
    assert world.free() == {}


def test_a_late_report_counts_for_nothing(world: World) -> None:
    """It shows what is gone, and not what has come since."""
    server, other, _ = left_over(world)
    late = world.hosts[other].compute.report()
    assert reconcile.host(world.plane, other).begun
    world.settle()
    asked_before = world.clock.now()
    world.check()

    world.plane.hosts.join(other, Reporting(world.hosts[other].compute, lambda _: late))
    assert reconcile.host(world.plane, other) == reconcile.Look()
    with world.plane.db.read() as tx:
        assert repairs.seen(tx, other) == {}
        assert hosts.get_host(tx, other).report_sequence > late.sequence
        assert hosts.get_host(tx, other).last_seen_at <= asked_before
    assert world.server(server.id).vm_state is VmState.ACTIVE


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_refusal_is_told_and_what_is_left_is_seen_again(world: World, when: str) -> None:
    _, other, uuid = left_over(world)
    refused: list[str] = []

    def refuse(path: str, _text: str) -> None:
        if not refused:
            refused.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    setattr(world.hosts[other].kernel, f"{when}_write", refuse)
    assert reconcile.host(world.plane, other).begun
    world.settle()
    # a device that is gone all the same is gone
    assert ("orphan-vgpu", "failed" if when == "before" else "done") in outcomes(world)
    look_twice(world)
    world.settle()
    assert uuid not in standing(world, other)
    world.check()


def test_nothing_is_removed_by_the_word_of_an_older_copy_of_the_database(tmp_path: Path) -> None:
    """A server that was made after the copy was taken goes on running; until an operator says that the copy is right."""
    world = World(tmp_path, "mdev")
    world.plane.db.close()
    shutil.copy(tmp_path / "lamina.db", tmp_path / "copy.db")
    world.begin()
    server = world.created(TWO)
    assert server.host is not None
    world.plane.db.close()
    for rest in ("lamina.db-wal", "lamina.db-shm"):
        (tmp_path / rest).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / "lamina.db")

    world.begin()
    for _ in range(3):
        look_twice(world)
        world.settle()
    assert len(standing(world, server.host)) == 2
    with world.plane.db.read() as tx:
        assert hosts.get_host(tx, server.host).behind
    newer = world.created(PLAIN, host=server.host)
    assert newer.vm_state is VmState.ACTIVE, "the host takes its calls for newer ones"

    reconcile.trust(world.plane, server.host)
    look_twice(world)
    world.settle()
    world.check()
    world.plane.db.close()


def test_a_server_that_an_operation_held_when_its_host_came_back_is_started_afterwards(world: World) -> None:
    """The first report after a boot finds it busy; a later one remembers the boot."""
    server = world.created(TWO)
    assert server.host is not None
    power.request(world.plane, CALLER, server.id, PowerAction.SOFT_REBOOT)
    (row,) = world.operations()
    world.hosts[server.host].machine.reboot()
    assert not reconcile.host(world.plane, server.host).begun
    with world.plane.db.write() as tx:  # it is given up before it has done anything
        sagas.write(tx, row.id, owner=world.plane.runner.me, epoch=row.epoch, new_events=(), state=State.STUCK)
        sagas.operator_verdict(tx, row.id, state=State.ABANDONED, reason="test", now=world.clock.now())
        tx.exec_driver_sql("UPDATE servers SET task_state = NULL")
    found = reconcile.host(world.plane, server.host).repairs
    assert [(one.what, one.object) for one in found] == [(What.RESTORE, server.id)]
    world.settle()
    assert world.server(server.id).power_state is PowerState.RUNNING
    world.check()


def test_a_look_that_does_not_mend_changes_nothing(world: World) -> None:
    _, other, uuid = left_over(world)
    with world.plane.db.read() as tx:
        before = repairs.seen(tx, other), hosts.get_host(tx, other)
    survey = reconcile.everything(world.plane, mend=False)
    found = [one for seen in survey.looks for one in seen.repairs]
    assert {(one.what, one.object) for one in found} >= {(What.ORPHAN_VGPU, uuid)}
    assert world.operations() == []
    with world.plane.db.read() as tx:
        assert (repairs.seen(tx, other), hosts.get_host(tx, other)) == before
    assert outcomes(world) == []


def test_a_deletion_during_a_removal_leaves_nothing(world: World) -> None:
    server, other, _ = left_over(world)
    assert reconcile.host(world.plane, other).begun
    delete.request(world.plane, CALLER, server.id)
    world.settle()
    look_twice(world)
    world.settle()
    world.check()
    assert world.free() == {}
    with pytest.raises(LaminaError):
        delete.request(world.plane, CALLER, server.id)
