"""The claim on a database: what it takes and refuses, and what is given back; against what everybody then reads of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from lamina.model.errors import ConcurrentUpdate, NoValidHost, OverLimit
from lamina.model.flavors import Flavor
from lamina.model.limits import parse_resource
from lamina.model.policies import PolicyName
from lamina.model.providers import Provider
from lamina.scheduling import claim
from lamina.scheduling.claim import Claimed, Payer
from lamina.scheduling.filters import Wanted
from lamina.scheduling.index import Index
from lamina.store import allocations, flavors, hosts, limits, providers
from lamina.store.hosts import Vgpu
from tests.faults.desk import Desk
from tests.faults.world import ONE, PLAIN, World, flavor

NOW = 5000.0
PAIR = flavor("pair", resources__VGPU="2", trait__CUSTOM_NVIDIA_12="required")
BOTH = {"CUSTOM_NVIDIA_11", "CUSTOM_NVIDIA_12"}


@pytest.fixture
def world(desk: Desk) -> World:
    world = World.on(desk, "mdev")
    with world.plane.db.write() as tx:
        for name in world.hosts:
            hosts.update_host(tx, name, last_seen_at=NOW)
    return world


def take(world: World, wanted: Flavor, payer: str = "c", **more: Any) -> Claimed:
    with world.plane.db.write() as tx:
        return taken_in(tx, world.plane.index, wanted, payer, **more)


def taken_in(tx: sa.Connection, index: Index, wanted: Flavor, payer: str = "c", host: str = "host1", **more: Any) -> Claimed:
    whose = Payer(payer, "INSTANCE", f"server of {payer}", "p", "u", f"operation for {payer} on {host}")
    asked: dict[str, Any] = {"policy": PolicyName.PACK, "now": NOW, "service_down": 60.0} | more
    return claim.claim(tx, index, Wanted(wanted.request, host=host), whose, **asked)


def held(world: World, payer: str = "c") -> dict[str, int]:
    """Resource class -> amount, over all providers."""
    sums: dict[str, int] = {}
    with world.plane.db.read() as tx:
        consumer = allocations.of_consumer(tx, payer)
    for amounts in consumer.allocations.values() if consumer is not None else ():
        for name, amount in amounts.items():
            sums[name] = sums.get(name, 0) + amount
    return sums


def records(world: World) -> list[Vgpu]:
    with world.plane.db.read() as tx:
        return hosts.select_vgpus(tx)


def card(world: World) -> Provider:
    """The GPU of host1 that takes small ones or large ones."""
    with world.plane.db.read() as tx:
        return next(p for tree in providers.load_trees(tx) for p in tree.providers if p.name == "host1_pci_0000_82_00_0")


def shown(world: World) -> tuple[int, int, set[str]]:
    """Of that GPU: how many it has in all, how many are used, the traits of its types."""
    provider = card(world)
    return provider.inventories["VGPU"].total, provider.used["VGPU"], {t for t in provider.traits if t.startswith("CUSTOM_NVIDIA")}


# ---------------------------------------------------------------------------------------------------- taking


def test_a_claim_pays_records_and_shows_what_it_took(world: World) -> None:
    claimed = take(world, PAIR)
    assert (claimed.host, claimed.zone) == ("host1", "nova")
    assert held(world) == {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1, "VGPU": 2}
    made = records(world)
    assert {v.uuid for v in made} == set(claimed.vgpus)
    assert [(v.host, v.type, v.state, v.consumer_id, v.server_id, v.provider_id) for v in made] == [
        ("host1", "nvidia-12", "planned", "c", "server of c", card(world).id)
    ] * 2
    assert shown(world) == (2, 2, {"CUSTOM_NVIDIA_12"})


def test_a_claim_begins_with_what_is_there_now(world: World) -> None:
    take(world, PAIR)
    index = Index(world.plane.db)
    with world.plane.db.write() as tx:
        assert taken_in(tx, index, ONE, "before").host == "host1"
    take(world, flavor("four", resources__VGPU="3"), "another process")
    with pytest.raises(NoValidHost), world.plane.db.write() as tx:
        taken_in(tx, index, ONE, "after")


def test_what_a_transaction_has_itself_taken_is_not_given_twice(world: World) -> None:
    """The index cannot know of it: the look within the transaction does."""
    with world.plane.db.write() as tx:
        taken_in(tx, world.plane.index, PAIR, "first")
        with pytest.raises(ConcurrentUpdate, match="host host1 has changed"):
            taken_in(tx, world.plane.index, PAIR, "second")


def test_only_who_places_by_demand_learns_of_it(world: World) -> None:
    with world.plane.db.write() as tx:
        flavors.create(tx, ONE)
    take(world, PLAIN, "a", policy=PolicyName.SPREAD)
    assert world.plane.index.demand is None
    take(world, PLAIN, "b", policy=PolicyName.FRAGMENTATION)
    assert world.plane.index.demand is not None


def test_a_host_that_was_not_heard_of_for_too_long_gets_nothing(world: World) -> None:
    assert take(world, PLAIN, "a", now=NOW + 59).host == "host1"
    with pytest.raises(NoValidHost, match="compute service is down"):
        take(world, PLAIN, "b", now=NOW + 61)


@pytest.mark.parametrize(("beside", "vgpus"), [(False, 1), (True, 3)])
def test_who_pays_already_keeps_it_or_has_it_replaced(world: World, beside: bool, vgpus: int) -> None:
    take(world, PAIR, beside=True)
    take(world, ONE, beside=beside, host="host2")
    assert held(world)["VGPU"] == vgpus


@pytest.mark.weakness(770)
def test_nobody_takes_more_than_the_project_may_have_unless_it_is_only_moved(world: World) -> None:
    with world.plane.db.write() as tx:
        limits.set_default(tx, parse_resource("class:VGPU"), 2)
        limits.set_default(tx, parse_resource("vgpu_type:nvidia-12"), 2)
    take(world, PAIR)
    with pytest.raises(OverLimit, match="nvidia-12"):
        take(world, PAIR, "more", host="host2")
    assert (held(world, "more"), len(records(world))) == ({}, 2)
    take(world, PAIR, "moved", host="host2", moving=True)
    assert held(world, "moved")["VGPU"] == 2


# ---------------------------------------------------------------------------------------------------- giving back


def test_what_is_released_is_free_and_another_keeps_its_own(world: World) -> None:
    take(world, PAIR, "a")
    take(world, ONE, "b")
    with world.plane.db.write() as tx:
        claim.release(tx, "a", now=NOW)
    assert (held(world, "a"), held(world, "b")["VGPU"]) == ({}, 1)
    assert [v.consumer_id for v in records(world)] == ["b"]
    assert shown(world) == (4, 0, BOTH)


def test_one_of_several_is_given_up_and_again_changes_nothing(world: World) -> None:
    first, second = take(world, PAIR, "a").vgpus
    (other,) = take(world, ONE, "b").vgpus
    for _ in range(2):
        with world.plane.db.write() as tx:
            claim.give_up(tx, "a", [first, other], now=NOW)
        assert (held(world, "a")["VGPU"], held(world, "a")["VCPU"], held(world, "b")["VGPU"]) == (1, 1, 1)
        assert {v.uuid for v in records(world)} == {second, other}
        assert shown(world) == (2, 1, {"CUSTOM_NVIDIA_12"})
        with world.plane.db.read() as tx:
            consumer = allocations.of_consumer(tx, "a")
        assert consumer is not None
        assert (consumer.generation, consumer.project_id, consumer.user_id, consumer.type) == (2, "p", "u", "INSTANCE")
    with world.plane.db.write() as tx:
        claim.give_up(tx, "a", [second], now=NOW)
    assert held(world, "a") == {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}
    assert shown(world) == (4, 0, BOTH)


@pytest.fixture
def locking(world: World) -> Iterator[list[bool]]:
    """Of every statement that reads consumers, whether it holds what it reads."""
    seen: list[bool] = []

    def executed(_connection: Any, statement: Any, *_more: Any) -> None:
        if isinstance(statement, sa.Select) and statement.columns_clause_froms and "consumers" in str(statement):
            seen.append(statement._for_update_arg is not None)

    sa.event.listen(world.plane.db.engine, "before_execute", executed)
    yield seen
    sa.event.remove(world.plane.db.engine, "before_execute", executed)


@pytest.mark.weakness(367)
def test_what_a_consumer_holds_is_held_still_while_it_is_changed(world: World, locking: list[bool]) -> None:
    (one,) = take(world, ONE).vgpus
    locking.clear()
    take(world, ONE, beside=True, host="host2")
    assert locking[0]
    locking.clear()
    with world.plane.db.write() as tx:
        claim.give_up(tx, "c", [one], now=NOW)
    assert locking[0]


# ---------------------------------------------------------------------------------------------------- what follows


def test_a_gpu_that_is_no_provider_is_passed_over_and_one_without_types_has_nothing(world: World) -> None:
    with world.plane.db.write() as tx:
        (record,) = hosts.gpus_of_providers(tx, [card(world).id]).values()
        claim.follow_layout(tx, dataclasses.replace(record, provider_id=None), NOW)
    assert shown(world) == (4, 0, BOTH)
    with world.plane.db.write() as tx:
        claim.follow_layout(tx, dataclasses.replace(record, gpu=dataclasses.replace(record.gpu, enabled_types=())), NOW)
    assert not card(world).inventories
    assert not card(world).traits & BOTH
