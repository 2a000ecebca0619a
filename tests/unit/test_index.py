"""The indexes of several replicas agree with the database, and so with each other, after any interleaving of writes and looks."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import LaminaError
from lamina.model.providers import Inventory, ProviderTree
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.operations.control_plane import ControlPlane
from lamina.scheduling.candidates import candidates
from lamina.scheduling.index import Index
from lamina.store import allocations, own_providers, providers, tree_changes
from lamina.store.database import Database
from lamina.store.resource_names import RESOURCE_CLASSES, TRAITS
from tests.unit.test_candidates import keys

pytestmark = pytest.mark.databases

NOW = 1000.0
REQUEST = CandidateRequest((RequestGroup("", {"VCPU": 1}), RequestGroup("1", {"VGPU": 1})))


class Writer:
    """Somebody who changes providers and allocations in every way there is."""

    def __init__(self, db: Database, dice: random.Random) -> None:
        self.db = db
        self.dice = dice
        self.providers: list[str] = []
        self.consumers = [ids.new_uuid() for _ in range(4)]

    def step(self) -> None:
        often = [self.stock, self.hold]
        does = [*often, self.create, self.stock, self.mark, self.group, self.hold, self.free, self.move, self.rename, self.delete]
        with contextlib.suppress(LaminaError, sa.exc.IntegrityError):  # refused, and so nothing happened
            self.dice.choice(does)()

    def one(self) -> str:
        return self.dice.choice(self.providers) if self.providers else "nobody"

    def create(self) -> None:
        made, parent = ids.new_uuid(), self.dice.choice([None, *self.providers[:3]])
        create = own_providers.ensure if parent is None and self.dice.random() < 0.5 else providers.create
        with self.db.write() as tx:
            create(tx, made, f"p{self.dice.random()}", parent_id=parent, now=NOW)
        self.providers.append(made)

    def stock(self) -> None:
        with self.db.write() as tx:
            wanted = {name: Inventory(self.dice.randint(1, 4)) for name in self.dice.sample(["VCPU", "VGPU"], self.dice.randint(0, 2))}
            if self.dice.random() < 0.5:
                providers.set_inventories(tx, providers.get(tx, self.one()), wanted, now=NOW)
            elif self.providers:
                own_providers.set_inventories(tx, self.one(), wanted, now=NOW)

    def mark(self) -> None:
        with self.db.write() as tx:
            TRAITS.ensure(tx, "CUSTOM_A")
            providers.set_traits(tx, providers.get(tx, self.one()), set(self.dice.sample(["CUSTOM_A"], self.dice.randint(0, 1))), now=NOW)

    def group(self) -> None:
        with self.db.write() as tx:
            raised = self.dice.random() < 0.5
            providers.set_aggregates(tx, providers.get(tx, self.one()), {self.dice.choice("xy")}, raise_generation=raised, now=NOW)

    def hold(self) -> None:
        wanted = {self.one(): {self.dice.choice(["VCPU", "VGPU"]): self.dice.randint(1, 2)}}
        with self.db.write() as tx:
            who = self.dice.choice(self.consumers)
            allocations.replace(tx, who, wanted, project_id="p", user_id="u", consumer_type="INSTANCE", now=NOW)

    def free(self) -> None:
        with self.db.write() as tx:
            allocations.remove(tx, self.dice.choice(self.consumers))

    def move(self) -> None:
        with self.db.write() as tx:
            parent = self.dice.choice([None, *self.providers])
            providers.update(tx, self.one(), f"q{self.dice.random()}", parent_id=parent, may_move=True, now=NOW)

    def rename(self) -> None:
        with self.db.write() as tx:
            RESOURCE_CLASSES.ensure(tx, "CUSTOM_OLD")
            RESOURCE_CLASSES.rename(tx, "CUSTOM_OLD", f"CUSTOM_{self.dice.randint(0, 99)}")

    def delete(self) -> None:
        gone = self.one()
        with self.db.write() as tx:
            if self.dice.random() < 0.5:
                providers.delete(tx, gone)
            elif not own_providers.remove_if_unused(tx, gone):
                return
        self.providers = [p for p in self.providers if p != gone]


def trees_in(db: Database) -> list[ProviderTree]:
    with db.read() as tx:
        return providers.load_trees(tx)


@pytest.mark.parametrize("seed", range(12))
def test_every_index_knows_what_the_database_knows(plane: ControlPlane, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 (no secret)
    writer = Writer(plane.db, dice)
    indexes = [Index(plane.db) for _ in range(3)]
    for _ in range(60):
        for _ in range(dice.randint(1, 4)):
            writer.step()
        index = dice.choice(indexes)
        index.refresh()
        there = trees_in(plane.db)
        for tree in there:
            assert index.tree_of(tree.root.id) == tree
        known = {p.id for tree in there for p in tree.providers}
        assert all((index.tree_of(p) is not None) == (p in known) for p in writer.providers)
        assert keys(index.candidates(REQUEST), REQUEST) == keys(candidates(there, REQUEST), REQUEST)


@pytest.mark.parametrize("seed", range(3))
def test_replicas_that_write_at_the_same_time_come_to_know_the_same(plane: ControlPlane, seed: int) -> None:
    """Two processes' worth of connections on one database: each writes and looks while the other does."""
    replicas = [plane.db, Database(plane.db.engine.url.render_as_string(hide_password=False))]
    indexes = [Index(db) for db in replicas]
    writers = [Writer(db, random.Random(f"{seed}-{n}")) for n, db in enumerate(replicas)]  # noqa: S311 (no secret)
    failed: list[BaseException] = []

    def live(writer: Writer, index: Index) -> None:
        try:
            for _ in range(60):
                writer.step()
                if writer.dice.random() < 0.5:
                    index.refresh()
        except BaseException as error:
            failed.append(error)

    for _ in range(3):
        threads = [threading.Thread(target=live, args=pair) for pair in zip(writers, indexes, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        fresh = Index(plane.db)
        for index in (*indexes, fresh):
            index.refresh()
        there = trees_in(plane.db)
        for index in (*indexes, fresh):
            assert [index.tree_of(tree.root.id) for tree in there] == there
            assert keys(index.candidates(REQUEST), REQUEST) == keys(candidates(there, REQUEST), REQUEST)
    replicas[1].close()


def deleted(tx: sa.Connection) -> None:
    providers.delete(tx, "a")


def put_below(tx: sa.Connection) -> None:
    providers.update(tx, "a", "a", parent_id="b", may_move=True, now=NOW)


def taken_out(tx: sa.Connection) -> None:
    providers.update(tx, "c", "c", parent_id=None, may_move=True, now=NOW)


@pytest.mark.parametrize("meanwhile", [deleted, put_below, taken_out])
@pytest.mark.parametrize("before", ["used", "shaped"])
@pytest.mark.parametrize("changed", ["a", "b", "abc"])
@pytest.mark.weakness(362)
def test_what_changes_while_an_index_looks_is_known_with_the_next_look(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, changed: str, before: str, meanwhile: Callable[[sa.Connection], None]
) -> None:
    """Each statement of a look may see more than the one before."""
    index, who, since = Index(plane.db), ids.new_uuid(), tree_changes.since
    with plane.db.write() as tx:
        for name, parent in (("a", None), ("b", None), ("c", "b")):
            providers.create(tx, name, name, parent_id=parent, now=NOW)
            providers.set_inventories(tx, providers.get(tx, name), {"VCPU": Inventory(4)}, now=NOW)
    index.refresh()
    with plane.db.write() as tx:
        TRAITS.ensure(tx, "CUSTOM_A")
        for name in changed:
            if before == "shaped":
                providers.set_traits(tx, providers.get(tx, name), {"CUSTOM_A"}, now=NOW)
        held = {name: {"VCPU": 1} for name in changed}
        allocations.replace(tx, who, held, project_id="p", user_id="u", consumer_type=None, now=NOW)
    if meanwhile is deleted:
        with plane.db.write() as tx:
            allocations.remove(tx, who)

    def and_then(tx: sa.Connection, number: int) -> tuple[int, list[tree_changes.TreeChange]]:
        found = since(tx, number)
        monkeypatch.undo()
        with plane.db.write() as writing:
            meanwhile(writing)
        return found

    monkeypatch.setattr(tree_changes, "since", and_then)
    index.refresh()
    index.refresh()
    there, wanted = trees_in(plane.db), CandidateRequest((RequestGroup("", {"VCPU": 1}),))
    assert [index.tree_of(tree.root.id) for tree in there] == there
    assert (index.tree_of("a") is None) == (meanwhile is deleted)
    assert keys(index.candidates(wanted), wanted) == keys(candidates(there, wanted), wanted)
    assert len(list(index.candidates(wanted))) == len(list(candidates(there, wanted))), "a tree is known twice"


def test_what_is_not_committed_is_not_seen_and_what_is_rolled_back_leaves_nothing(plane: ControlPlane) -> None:
    index = Index(plane.db)
    with plane.db.write() as tx:
        providers.create(tx, "host", "host", parent_id=None, now=NOW)
        providers.set_inventories(tx, providers.get(tx, "host"), {"VCPU": Inventory(1)}, now=NOW)
    index.refresh()

    def fail_halfway() -> None:
        with plane.db.write() as tx:
            allocations.replace(tx, ids.new_uuid(), {"host": {"VCPU": 1}}, project_id="p", user_id="u", consumer_type=None, now=NOW)
            index.refresh()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    index.refresh()
    tree = index.tree_of("host")
    assert tree is not None
    assert tree.root.used == {"VCPU": 0}
