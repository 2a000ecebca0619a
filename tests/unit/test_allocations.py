"""Providers and allocations in the store: net results, generations, races."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Mapping

import pytest
import sqlalchemy as sa

from lamina.model.errors import (
    AlreadyExists,
    BadRequest,
    ConcurrentUpdate,
    Conflict,
    InUse,
    InventoryInUse,
    LaminaError,
    NotFound,
    ProviderHasChildren,
    ProviderInUse,
)
from lamina.model.providers import Inventory, Provider
from lamina.operations.control_plane import ControlPlane
from lamina.store import allocations, providers
from lamina.store.allocations import ANY, Replacement
from lamina.store.database import Database
from lamina.store.providers import Filter
from lamina.store.resource_names import RESOURCE_CLASSES, TRAITS

pytestmark = pytest.mark.databases

NOW = 1000.0


@pytest.fixture
def db(plane: ControlPlane) -> Database:
    with plane.db.write() as tx:
        providers.create(tx, "host", "host", parent_id=None, now=NOW)
        stock(tx, "host", VCPU=8)
        for n in (1, 2):
            providers.create(tx, f"gpu{n}", f"gpu{n}", parent_id="host", now=NOW)
            stock(tx, f"gpu{n}", VGPU=2)
    return plane.db


def stock(tx: sa.Connection, provider_id: str, **totals: int) -> None:
    providers.set_inventories(tx, providers.get(tx, provider_id), {n: Inventory(t) for n, t in totals.items()}, now=NOW)


def hold(
    tx: sa.Connection, consumer: str, wanted: allocations.Amounts, generation: int | None = None, **more: Mapping[str, Provider]
) -> None:
    allocations.replace(
        tx, consumer, wanted, project_id="p", user_id="u", consumer_type="INSTANCE", consumer_generation=generation, now=NOW, **more
    )


def provider(db: Database, provider_id: str) -> Provider:
    with db.read() as tx:
        return providers.get(tx, provider_id)


# ------------------------------------------------------------------------------------------------ allocations


def test_what_is_allocated_is_used_and_raises_generations(db: Database) -> None:
    before = provider(db, "gpu1").generation
    with db.write() as tx:
        hold(tx, "c", {"host": {"VCPU": 4}, "gpu1": {"VGPU": 1}})
    assert provider(db, "gpu1").used == {"VGPU": 1}
    assert provider(db, "gpu1").generation == before + 1
    assert provider(db, "gpu2").generation == before
    with db.read() as tx:
        found = allocations.of_consumer(tx, "c")
        assert found == allocations.Consumer("c", "p", "u", "INSTANCE", 1, {"gpu1": {"VGPU": 1}, "host": {"VCPU": 4}})
        assert [c.id for c in allocations.of_provider(tx, "gpu1")] == ["c"]
        assert allocations.of_provider(tx, "gpu2") == []


def test_a_replacement_does_not_count_what_it_replaces(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 2}})
        hold(tx, "c", {"gpu1": {"VGPU": 2}}, 1)
        hold(tx, "c", {"gpu1": {"VGPU": 1}, "gpu2": {"VGPU": 2}}, 2)
    assert provider(db, "gpu1").used == {"VGPU": 1}
    assert provider(db, "gpu2").used == {"VGPU": 2}


def test_what_does_not_fit_is_a_conflict_and_nothing_is_done(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 1}})
    before = provider(db, "gpu1")
    with pytest.raises(Conflict, match="1 of 2 are used"), db.write() as tx:
        hold(tx, "d", {"host": {"VCPU": 1}, "gpu1": {"VGPU": 2}})
    with pytest.raises(Conflict, match="does not exist"), db.write() as tx:
        hold(tx, "d", {"gpu1": {"VCPU": 1}})
    with pytest.raises(BadRequest, match="nowhere"), db.write() as tx:
        hold(tx, "d", {"nowhere": {"VCPU": 1}})
    assert provider(db, "gpu1") == before
    assert provider(db, "host").used == {"VCPU": 0}
    with db.read() as tx:
        assert allocations.of_consumer(tx, "d") is None


def test_an_allocation_moves_between_consumers_when_only_the_net_result_fits(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "old", {"gpu1": {"VGPU": 2}})
        # the taker comes first: what the giver holds must be free for it all the same
        allocations.replace_many(
            tx, [Replacement("new", {"gpu1": {"VGPU": 2}}, "p", "u"), Replacement("old", {}, "p", "u")], now=NOW
        )
        assert allocations.of_consumer(tx, "old") is None
    assert provider(db, "gpu1").used == {"VGPU": 2}


def test_replacements_of_one_call_count_together(db: Database) -> None:
    two = [Replacement(c, {"gpu1": {"VGPU": amount}}, "p", "u") for c, amount in (("a", 1), ("b", 2))]
    with pytest.raises(Conflict, match="1 of 2 are used"), db.write() as tx:
        allocations.replace_many(tx, two, now=NOW)
    assert provider(db, "gpu1").used == {"VGPU": 0}


def test_generations_of_consumers_and_providers_are_compared(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 1}})
    with pytest.raises(ConcurrentUpdate, match="expected 1 but got null"), db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 1}})
    with pytest.raises(ConcurrentUpdate, match="expected null but got 1"), db.write() as tx:
        hold(tx, "d", {"gpu1": {"VGPU": 1}}, 1)
    now = provider(db, "gpu1")
    stale = dataclasses.replace(now, generation=now.generation - 1)
    with pytest.raises(ConcurrentUpdate, match="gpu1"), db.write() as tx:
        hold(tx, "d", {"gpu1": {"VGPU": 1}}, known={"gpu1": stale})
    with db.write() as tx:
        hold(tx, "d", {"gpu1": {"VGPU": 1}}, known={"gpu1": now})


def test_a_consumer_with_nothing_is_gone(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 1}})
        assert allocations.remove(tx, "c")
        assert not allocations.remove(tx, "c")
        hold(tx, "c", {"gpu1": {"VGPU": 1}}, None)


def test_a_move_changes_the_holder_and_no_usage(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "server", {"host": {"VCPU": 8}, "gpu1": {"VGPU": 2}})
        allocations.move(tx, "server", "migration", consumer_type="MIGRATION", now=NOW)
        assert allocations.of_consumer(tx, "server") is None
        moved = allocations.of_consumer(tx, "migration")
        assert moved is not None
        assert (moved.type, moved.allocations) == ("MIGRATION", {"gpu1": {"VGPU": 2}, "host": {"VCPU": 8}})
        allocations.move(tx, "nobody", "somebody", consumer_type="INSTANCE", now=NOW)
        assert allocations.of_consumer(tx, "somebody") is None
        hold(tx, "server", {"gpu2": {"VGPU": 1}})
        with pytest.raises(Conflict, match="already holds"):
            allocations.move(tx, "migration", "server", consumer_type="INSTANCE", now=NOW)
    assert provider(db, "host").used == {"VCPU": 8}


def test_usages_are_summed_by_type_for_a_project_and_a_user(db: Database) -> None:
    with db.write() as tx:
        for consumer, kind, user in (("a", "INSTANCE", "u"), ("b", "INSTANCE", "v"), ("c", None, "u")):
            allocations.replace(tx, consumer, {"host": {"VCPU": 2}}, project_id="p", user_id=user, consumer_type=kind, now=NOW)
        hold(tx, "d", {"gpu1": {"VGPU": 1}})
        both = allocations.usages(tx, "p")
        assert both["INSTANCE"] == allocations.Usage(3, {"VCPU": 4, "VGPU": 1})
        assert both["unknown"] == allocations.Usage(1, {"VCPU": 2})
        assert allocations.usages(tx, "p", "v") == {"INSTANCE": allocations.Usage(1, {"VCPU": 2})}
        assert allocations.usages(tx, "p", None, "unknown").keys() == {"unknown"}
        assert allocations.usages(tx, "q") == {}


def test_one_of_many_threads_gets_the_last_unit(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "first", {"gpu1": {"VGPU": 1}})
    start = threading.Barrier(16)
    outcomes: list[str] = []

    def claim(consumer: str) -> None:
        start.wait()
        try:
            with db.write() as tx:
                hold(tx, consumer, {"gpu1": {"VGPU": 1}})
            outcomes.append("won")
        except LaminaError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=claim, args=(f"c{n}",)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("won") == 1
    # on PostgreSQL, where writers do not wait for each other, some learn that the provider changed and not yet how
    assert set(outcomes) <= {"won", Conflict.code, ConcurrentUpdate.code}
    assert provider(db, "gpu1").used == {"VGPU": 2}


def test_of_threads_that_decided_on_one_generation_one_writes(db: Database) -> None:
    seen = provider(db, "gpu1")
    outcomes: list[str] = []

    def claim(consumer: str) -> None:
        try:
            with db.write() as tx:
                hold(tx, consumer, {"gpu1": {"VGPU": 1}}, known={"gpu1": seen})
            outcomes.append("won")
        except LaminaError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=claim, args=(f"c{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [ConcurrentUpdate.code] * 7 + ["won"]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_many_threads_claim_move_and_give_back_is_conserved(db: Database, seed: int) -> None:
    """Each thread knows what its own consumers hold; what the providers tell is the sum of it, and never above what they have."""
    stores = {"host": "VCPU", "gpu1": "VGPU", "gpu2": "VGPU"}
    for _round in range(2):
        kept = [_Holder(db, random.Random(f"{seed}-{_round}-{n}"), f"{_round}-{n}", stores) for n in range(4)]  # noqa: S311
        threads = [threading.Thread(target=holder.act, args=(25,)) for holder in kept]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = {consumer: amounts for holder in kept for consumer, amounts in holder.held.items()}
        with db.read() as tx:
            held = {consumer.id: consumer.allocations for p in stores for consumer in allocations.of_provider(tx, p)}
            assert {consumer: allocations.find(tx, [consumer])[consumer].allocations for consumer in held} == wanted
        for provider_id, name in stores.items():
            known = provider(db, provider_id)
            assert known.used[name] == sum(amounts.get(provider_id, {}).get(name, 0) for amounts in wanted.values())
            assert known.used[name] <= known.inventories[name].capacity
        assert sum(holder.done for holder in kept) > 10, "next to nothing was possible"
        with db.write() as tx:
            for consumer in wanted:
                allocations.remove(tx, consumer)


class _Holder:
    """Somebody with consumers of its own, who claims for them, moves what they hold as a migration does, and lets them go."""

    def __init__(self, db: Database, dice: random.Random, name: str, stores: Mapping[str, str]) -> None:
        self.db = db
        self.dice = dice
        self.name = name
        self.stores = stores
        self.held: dict[str, allocations.Amounts] = {}
        self.done = 0

    def act(self, times: int) -> None:
        for number in range(times):
            before = dict(self.held)
            try:
                with self.db.write() as tx:
                    self.dice.choice([self.claim, self.claim, self.change, self.migrate, self.free])(tx, f"{self.name}-{number}")
                self.done += 1
            except (Conflict, ConcurrentUpdate):
                self.held = before  # refused, and so nothing happened

    def wanted(self) -> allocations.Amounts:
        some = self.dice.sample(sorted(self.stores), self.dice.randint(1, 2))
        return {p: {self.stores[p]: 1} for p in some}

    def claim(self, tx: sa.Connection, fresh: str) -> None:
        self.held[fresh] = self.wanted()
        hold(tx, fresh, self.held[fresh])

    def change(self, tx: sa.Connection, fresh: str) -> None:
        consumer = self.dice.choice(sorted(self.held) or [fresh])
        self.held[consumer] = self.wanted()
        allocations.replace(
            tx, consumer, self.held[consumer], project_id="p", user_id="u", consumer_type="INSTANCE", consumer_generation=ANY, now=NOW
        )

    def migrate(self, tx: sa.Connection, fresh: str) -> None:
        """What a consumer holds goes to another, and it claims anew: both sides are held."""
        if self.held:
            consumer = self.dice.choice(sorted(self.held))
            providers.hold(tx, sorted(self.stores))  # what touches providers twice holds them beforehand, lest two wait in a ring
            allocations.move(tx, consumer, fresh, consumer_type="MIGRATION", now=NOW)
            self.held[fresh] = self.held.pop(consumer)
            self.held[consumer] = self.wanted()
            hold(tx, consumer, self.held[consumer])

    def free(self, tx: sa.Connection, fresh: str) -> None:
        if self.held:
            consumer = self.dice.choice(sorted(self.held))
            assert allocations.remove(tx, consumer), fresh
            del self.held[consumer]


# ------------------------------------------------------------------------------------------------ providers


def test_trees_are_loaded_whole_in_few_queries(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu2": {"VGPU": 1}})
        TRAITS.ensure(tx, "CUSTOM_A")
        providers.set_traits(tx, providers.get(tx, "gpu1"), {"CUSTOM_A", "HW_CPU_X86_AVX"}, now=NOW)
        providers.set_aggregates(tx, providers.get(tx, "host"), {"agg"}, now=NOW)
        for n in range(20):
            providers.create(tx, f"other{n:02}", f"other{n:02}", parent_id=None, now=NOW)
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", count)
    with db.read() as tx:
        trees = providers.load_trees(tx)
    selects = [s for s in statements if s.startswith("SELECT")]
    sa.event.remove(db.engine, "before_cursor_execute", count)
    assert len(selects) == 5
    assert [tree.root.id for tree in trees] == ["host", *(f"other{n:02}" for n in range(20))]
    host, gpu1, gpu2 = trees[0].providers
    assert host.aggregates == {"agg"}
    assert gpu1.traits == {"CUSTOM_A", "HW_CPU_X86_AVX"}
    assert gpu2.used == {"VGPU": 1}
    with db.read() as tx:
        assert providers.load_trees(tx, ["host"]) == trees[:1]
        assert providers.load_trees(tx, []) == []


def test_a_listing_keeps_what_meets_every_condition(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 1}})
        providers.set_traits(tx, providers.get(tx, "gpu1"), {"HW_CPU_X86_AVX"}, now=NOW)
        providers.set_aggregates(tx, providers.get(tx, "gpu2"), {"agg"}, now=NOW)
        providers.create(tx, "alone", "alone", parent_id=None, now=NOW)

        def listed(**conditions: object) -> list[str]:
            return [p.id for p in providers.listed(tx, Filter(**conditions))]  # type: ignore[arg-type]

        assert listed() == ["alone", "gpu1", "gpu2", "host"]
        assert listed(in_tree="gpu1") == ["gpu1", "gpu2", "host"]
        assert listed(in_tree="nowhere") == []
        assert listed(name="gpu1", id="gpu1") == ["gpu1"]
        assert listed(name="gpu1", id="gpu2") == []
        assert listed(resources={"VGPU": 2}) == ["gpu2"]
        assert listed(required=(frozenset({"HW_CPU_X86_AVX", "CUSTOM_X"}),)) == ["gpu1"]
        assert listed(forbidden=frozenset({"HW_CPU_X86_AVX"})) == ["alone", "gpu2", "host"]
        assert listed(member_of=(frozenset({"agg", "other"}),)) == ["gpu2"]
        assert listed(not_member_of=frozenset({"agg"})) == ["alone", "gpu1", "host"]


def test_an_inventory_in_use_may_shrink_but_not_go(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 2}})
        stock(tx, "gpu1", VGPU=1)
        with pytest.raises(Conflict, match="2 of 1 are used"):
            hold(tx, "d", {"gpu1": {"VGPU": 1}})
    with pytest.raises(InventoryInUse, match="VGPU"), db.write() as tx:
        stock(tx, "gpu1", CUSTOM_OTHER=1)
    assert provider(db, "gpu1").inventories == {"VGPU": Inventory(1)}


def test_a_change_decided_on_an_older_generation_fails(db: Database) -> None:
    old = provider(db, "gpu1")
    with db.write() as tx:
        providers.set_traits(tx, old, {"HW_CPU_X86_AVX"}, now=NOW)
    with pytest.raises(ConcurrentUpdate), db.write() as tx:
        providers.set_traits(tx, old, set(), now=NOW)
    with pytest.raises(ConcurrentUpdate), db.write() as tx:
        providers.set_inventories(tx, old, {}, now=NOW)
    with pytest.raises(ConcurrentUpdate), db.write() as tx:
        providers.set_aggregates(tx, old, {"agg"}, now=NOW)
    assert provider(db, "gpu1").traits == {"HW_CPU_X86_AVX"}


def test_a_provider_goes_when_nothing_is_below_it_or_on_it(db: Database) -> None:
    with db.write() as tx:
        hold(tx, "c", {"gpu1": {"VGPU": 1}})
        with pytest.raises(ProviderHasChildren):
            providers.delete(tx, "host")
        with pytest.raises(ProviderInUse):
            providers.delete(tx, "gpu1")
        providers.delete(tx, "gpu2")
        with pytest.raises(NotFound):
            providers.delete(tx, "gpu2")


def test_a_subtree_moves_as_a_whole_and_never_below_itself(db: Database) -> None:
    with db.write() as tx:
        providers.create(tx, "other", "other", parent_id=None, now=NOW)
        providers.create(tx, "part", "part", parent_id="gpu1", now=NOW)
        with pytest.raises(BadRequest, match=r"1\.37"):
            providers.update(tx, "gpu1", "gpu1", parent_id="other", may_move=False, now=NOW)
        providers.update(tx, "gpu1", "renamed", parent_id="other", may_move=True, now=NOW)
        assert [p.name for p in providers.load_trees(tx, ["other"])[0].providers] == ["other", "renamed", "part"]
        with pytest.raises(BadRequest, match="loop"):
            providers.update(tx, "other", "other", parent_id="part", may_move=True, now=NOW)
        alone = providers.update(tx, "gpu1", "renamed", parent_id=None, may_move=True, now=NOW)
        assert (alone.root_id, providers.get(tx, "part").root_id) == ("gpu1", "gpu1")
        with pytest.raises(AlreadyExists):
            providers.update(tx, "gpu1", "host", may_move=True, now=NOW)
        with pytest.raises(BadRequest, match="does not exist"):
            providers.update(tx, "gpu1", "gpu1", parent_id="nowhere", may_move=True, now=NOW)


def test_names_are_created_once_and_go_when_nobody_uses_them(db: Database) -> None:
    with db.write() as tx:
        assert RESOURCE_CLASSES.ensure(tx, "CUSTOM_GOLD")
        assert not RESOURCE_CLASSES.ensure(tx, "CUSTOM_GOLD")
        with pytest.raises(AlreadyExists):
            RESOURCE_CLASSES.create(tx, "VCPU")
        stock(tx, "host", VCPU=1, CUSTOM_GOLD=5)
        hold(tx, "c", {"host": {"CUSTOM_GOLD": 1}}, ANY)  # type: ignore[arg-type]
        with pytest.raises(InUse):
            RESOURCE_CLASSES.delete(tx, "CUSTOM_GOLD")
        RESOURCE_CLASSES.rename(tx, "CUSTOM_GOLD", "CUSTOM_SILVER")
        assert providers.get(tx, "host").used == {"VCPU": 0, "CUSTOM_SILVER": 1}
        assert RESOURCE_CLASSES.unknown(tx, ["VCPU", "CUSTOM_GOLD", "CUSTOM_SILVER"]) == ["CUSTOM_GOLD"]
        with pytest.raises(BadRequest):
            RESOURCE_CLASSES.delete(tx, "VCPU")
        with pytest.raises(NotFound):
            RESOURCE_CLASSES.delete(tx, "CUSTOM_GOLD")
