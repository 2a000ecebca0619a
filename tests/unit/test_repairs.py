"""Repairs and sightings in the store, and whose allocations are stale: on each kind of database."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import AlreadyExists, BadRequest
from lamina.model.providers import Inventory
from lamina.model.repairs import Repair, What
from lamina.model.servers import MigrationStatus, VmState
from lamina.operations import clear, reconcile
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.store import allocations, providers, repairs, sagas, servers, stale_consumers
from lamina.store.inserting import insert_or_leave
from lamina.store.tables import operations as tables
from tests.unit.test_servers import server

pytestmark = pytest.mark.databases

NOW = 1000.0
FOUND = Repair(What.ORPHAN_VGPU, "h", "v", "s", "its server is deleted")


def test_repairs_are_listed_newest_first_in_pages(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        for number, host in enumerate(("h", "g", "h", None)):
            repairs.note(tx, dataclasses.replace(FOUND, host=host, object=f"v{number}"), NOW + number)

    def objects(host: str | None = None, limit: int = 10, marker: int | None = None) -> list[str]:
        with plane.db.read() as tx:
            return [row.repair.object for row in repairs.page(tx, host=host, limit=limit, marker=marker)]

    assert objects() == ["v3", "v2", "v1", "v0"]
    assert objects(host="h") == ["v2", "v0"]
    assert objects(limit=0) == []
    with plane.db.read() as tx:
        second = repairs.page(tx, host=None, limit=2, marker=None)[-1].id
    assert objects(marker=second) == ["v1", "v0"]
    with pytest.raises(BadRequest, match="not found"):
        objects(marker=10**9)
    with plane.db.write() as tx:
        repairs.forget(tx, NOW + 2)
    assert objects() == ["v3", "v2"]


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("running", "under way"), ("waiting", "under way"), ("stuck", "under way"), ("done", "done"), ("undone", "failed")],
)
def test_what_became_of_a_repair_is_where_its_operation_stands(plane: ControlPlane, state: str, outcome: str) -> None:
    whose = {"action": "clear", "request_id": "r", "project_id": "p", "user_id": "u"}
    row = {"id": "o", "kind": "clear", "subject": "s", "params": {}, "steps": [], "state": state, "epoch": 1}
    with plane.db.write() as tx:
        sagas.insert(tx, [dict(**row, **whose, error={"message": "no"} if state == "undone" else None, created_at=NOW, updated_at=NOW)])
        repairs.note(tx, dataclasses.replace(FOUND, operation_id="o"), NOW)
        repairs.note(tx, dataclasses.replace(FOUND, what=What.POWER_STATE), NOW)
        found = repairs.page(tx, host=None, limit=10, marker=None)
    assert [(row.outcome, row.error) for row in found] == [("done", None), (outcome, "no" if state == "undone" else None)]


def test_of_what_is_seen_again_the_time_stays(plane: ControlPlane) -> None:
    one, two, three = ("orphan-vgpu", "1"), ("orphan-vgpu", "2"), ("orphan-domain", "1")

    def look(now: float, *after: tuple[str, str], host: str = "h") -> dict[tuple[str, str], float]:
        with plane.db.write() as tx:
            repairs.see(tx, host, now, before=repairs.seen(tx, host), after=frozenset(after))
            return repairs.seen(tx, host)

    assert look(1.0, one, two) == {one: 1.0, two: 1.0}
    assert look(2.0, two, three) == {two: 1.0, three: 2.0}
    assert look(3.0, one, host="g") == {one: 3.0}
    with plane.db.write() as tx:  # another has seen the same in the meantime
        repairs.see(tx, "h", 4.0, before={}, after=frozenset({two}))
        assert repairs.seen(tx, "h") == {two: 1.0, three: 2.0}
    assert look(5.0) == {}


def test_epochs_of_a_lost_database_are_never_given_again(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        now = sagas.next_epoch(tx)
        assert not sagas.raise_epoch(tx, now)
        assert sagas.raise_epoch(tx, now + 100)
        assert sagas.newest_epoch(tx) == now + 100
        assert sagas.next_epoch(tx) == now + 101


def test_what_was_inserted_is_told_from_what_was_there(plane: ControlPlane) -> None:
    row = {"action": "clear", "request_id": "r", "project_id": "p", "user_id": "u", "created_at": NOW, "updated_at": NOW}
    row |= {"kind": "clear", "subject": "s", "params": {}, "steps": [], "state": "running", "epoch": 1}
    with plane.db.write() as tx:
        assert insert_or_leave(tx, tables.sagas, [row | {"id": "first"}]) == 1
        assert insert_or_leave(tx, tables.sagas, [row | {"id": "second"}]) == 0
        assert [saga.id for saga in sagas.unfinished(tx)] == ["first"]


def test_of_two_that_begin_an_operation_at_once_the_second_can_go_on_without(plane: ControlPlane) -> None:
    whose = {"action": "clear", "request_id": "r", "project_id": "p", "user_id": "u", "created_at": NOW, "updated_at": NOW}
    row = {"kind": "clear", "subject": "s", "params": {}, "steps": [], "state": "running", "epoch": 1} | whose
    begun = threading.Event()
    refused: list[bool] = []

    def second() -> None:
        with plane.db.write() as tx:
            begun.set()
            try:
                sagas.insert(tx, [dict(**row, id="second")])
            except AlreadyExists:
                refused.append(True)
            repairs.note(tx, FOUND, NOW)

    other = threading.Thread(target=second)
    with plane.db.write() as tx:
        sagas.insert(tx, [dict(**row, id="first")])
        other.start()
        if not plane.db.is_sqlite:  # where it waits for its turn before it begins
            assert begun.wait(20)
    other.join(20)
    with plane.db.read() as tx:
        assert [saga.id for saga in sagas.unfinished(tx)] == ["first"]
        assert len(repairs.page(tx, host=None, limit=10, marker=None)) == 1
    assert refused == [True]


# ------------------------------------------------------------------------------------------------ stale consumers


def hold(tx: sa.Connection, consumer: str, kind: str = "INSTANCE") -> None:
    held = {"host": {"VCPU": 1}}
    allocations.replace(tx, consumer, held, project_id="p", user_id="u", consumer_type=kind, consumer_generation=None, now=NOW)


def migrate(tx: sa.Connection, migration_id: str, status: MigrationStatus) -> None:
    flavor = server(VmState.ACTIVE).flavor
    who = {"type": "resize", "source_host": "h", "dest_host": "g", "project_id": "p", "user_id": "u"}
    times = {"created_at": NOW, "updated_at": NOW}
    servers.insert_migration(
        tx, id=migration_id, server_id="alive", status=status, old_flavor=flavor, new_flavor=flavor, old_vm_state="active", **who, **times
    )


@pytest.fixture
def held(plane: ControlPlane) -> ControlPlane:
    """Everybody holds something: a server that lives, one that is deleted, migrations, and strangers of every type."""
    with plane.db.write() as tx:
        providers.create(tx, "host", "host", parent_id=None, now=NOW)
        providers.set_inventories(tx, providers.get(tx, "host"), {"VCPU": Inventory(100)}, now=NOW)
        servers.insert(tx, [dataclasses.replace(server(VmState.ACTIVE), id="alive")])
        servers.insert(tx, [dataclasses.replace(server(VmState.DELETED), id="deleted", deleted_at=NOW)])
        servers.insert(tx, [dataclasses.replace(server(VmState.DELETED), id="reused", deleted_at=NOW)])
        for name, status in (("open", MigrationStatus.FINISHED), ("over", MigrationStatus.CONFIRMED), ("undone", MigrationStatus.ERROR)):
            migrate(tx, name, status)
            hold(tx, name, "MIGRATION")
        for consumer in ("alive", "deleted", "a stranger"):
            hold(tx, consumer)
        hold(tx, "somebody", "MIGRATION")
        hold(tx, "unknown", "unknown")
        hold(tx, "reused", "CUSTOM_OTHER")
    return plane


def test_what_is_ours_and_over_is_stale_and_nothing_else(held: ControlPlane) -> None:
    with held.db.read() as tx:
        found = stale_consumers.find(tx)
        assert [(one.consumer_id, one.server_id, one.hosts) for one in found] == [
            ("deleted", "deleted", ()),
            ("over", "alive", ()),
            ("undone", "alive", ()),
        ]
        assert stale_consumers.find(tx, "over") == [found[1]]
        for consumer in ("alive", "open", "a stranger", "somebody", "unknown", "reused", "nobody"):
            assert stale_consumers.find(tx, consumer) == []


def test_what_is_stale_is_released_at_the_second_look(held: ControlPlane) -> None:
    plane = dataclasses.replace(held, settings=dataclasses.replace(held.settings, orphan_grace=0.0))
    plane.runner.attach(plane)
    first = reconcile.idle(plane)
    assert (first.repairs, [one.object for one in first.waiting]) == ((), ["deleted", "over", "undone"])
    for _ in range(2):  # of one server one at a time
        reconcile.idle(plane)
        with plane.db.read() as tx:
            rows = sagas.unfinished(tx)
        for row in rows:
            while plane.runner.advance(row.id):
                pass
    reconcile.idle(plane)
    with plane.db.read() as tx:
        rows = sagas.unfinished(tx)
    for row in rows:
        while plane.runner.advance(row.id):
            pass
    with plane.db.read() as tx:
        assert stale_consumers.find(tx) == []
        left = allocations.find(tx, ["alive", "open", "a stranger", "somebody", "unknown", "reused"])
    assert len(left) == 6


def test_a_disk_that_nobody_passes_on_is_removed_at_the_second_look(held: ControlPlane) -> None:
    plane = dataclasses.replace(held, settings=dataclasses.replace(held.settings, orphan_grace=0.0))
    plane.runner.attach(plane)
    forgotten, passed_on = ids.new_uuid(), ids.new_uuid()
    plane.settings.depot.mkdir()
    for name in (forgotten, passed_on, "somebody's"):
        (plane.settings.depot / name).write_bytes(b"disk")
    with plane.db.write() as tx:
        held_by = clear.enlist(plane, tx, Caller("", "", ids.new_request_id()), passed_on, clear.Params(consumer_id="nothing"))

    def disks(looked: tuple[Repair, ...]) -> list[str]:
        return [one.object for one in looked if one.what is What.ORPHAN_DISK]

    assert disks(reconcile.idle(plane, mend=False).waiting) == [forgotten]
    assert disks(reconcile.idle(plane).waiting) == [forgotten]
    (done,) = (one for one in reconcile.idle(plane).repairs if one.what is What.ORPHAN_DISK)
    assert (done.object, {path.name for path in plane.settings.depot.iterdir()}) == (forgotten, {forgotten, passed_on, "somebody's"})
    assert done.operation_id is not None
    while plane.runner.advance(done.operation_id):
        pass
    assert {path.name for path in plane.settings.depot.iterdir()} == {passed_on, "somebody's"}
    while plane.runner.advance(held_by):
        pass
    assert disks(reconcile.idle(plane).waiting) == [passed_on], "whose operation is over without it"
