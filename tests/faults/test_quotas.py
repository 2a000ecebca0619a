"""Quotas: nobody gets beyond them however many ask at once, and what is used is what there is."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from lamina.model import limits as rules
from lamina.model.errors import LaminaError, OverLimit
from lamina.model.flavors import Flavor
from lamina.model.limits import CORES, SERVERS, parse_resource
from lamina.model.servers import EVACUATION, VmState
from lamina.operations import attach, confirm, create, delete, detach, evacuate, live_migrate, resize, revert, shelve, unshelve
from lamina.saga.runner import Caller
from lamina.store import hosts, limits, quotas, servers
from lamina.store.database import Database
from lamina.store.quotas import Owner
from lamina.store.tables.placement import allocations, consumers
from tests.faults.world import CALLER, World, flavor

PLAIN, ONE, TWO = flavor("plain"), flavor("one", resources__VGPU="1"), flavor("two", resources__VGPU="2")
OTHER = Caller(user_id="u2", project_id="p", request_id="req-other")
FOREIGN = Caller(user_id="u", project_id="p2", request_id="req-foreign")


@pytest.fixture
def world(tmp_path: Path, database: Database) -> World:
    return World(tmp_path, "mdev", url=database.engine.url.render_as_string(hide_password=False))


def limit(world: World, user_id: str | None = None, **amounts: int) -> None:
    """`class__VGPU=2` is the limit of class:VGPU."""
    wanted = [(parse_resource(name.replace("__", ":").replace("_nvidia", ":nvidia-")), n) for name, n in amounts.items()]
    with world.plane.db.write() as tx:
        limits.set_limits(tx, "p", user_id, wanted)


def used(world: World, project_id: str = "p", user_id: str = "") -> Mapping[str, int]:
    with world.plane.db.read() as tx:
        standings = quotas.standings(tx, Owner(project_id, user_id))
    return {key: s.used.user if user_id else s.used.project for key, s in standings.items()}


def ask(world: World, wanted: Flavor, caller: Caller = CALLER, count: int = 1) -> list[str]:
    return [s.id for s in create.request(world.plane, caller, create.NewServer("s", wanted, None, count=count))]


def at_once(*each: Callable[[], object]) -> None:
    threads = [threading.Thread(target=one) for one in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def carry_out(world: World, share: int) -> None:
    """Advance one share of four of the operations, as each is one thread's in a process, until none moves."""
    moved = True
    while moved:
        mine = [row.id for row in world.operations() if uuid.UUID(row.id).int % 4 == share]
        moved = sum(world.plane.runner.advance(saga_id) for saga_id in mine) > 0


def all_at_once(world: World) -> None:
    at_once(*(functools.partial(carry_out, world, share) for share in range(4)))
    world.settle()
    world.check()


# ---------------------------------------------------------------------------------------------------- races


@pytest.mark.databases
@pytest.mark.weakness(362)
def test_sixteen_claims_at_the_last_vgpu_of_a_project(world: World) -> None:
    """There is room on the hosts for all; the project may have three, and three it gets, round after round."""
    for _round in range(3):
        limit(world, class__VGPU=-1)
        made = ask(world, ONE, count=6) + ask(world, ONE, OTHER, count=6)
        limit(world, class__VGPU=3)
        all_at_once(world)
        states = [world.server(server_id).vm_state for server_id in made]
        assert states.count(VmState.ACTIVE) == 3
        faults = {fault.message for s in made if (fault := world.server(s).fault) is not None}
        assert faults == {"Quota exceeded for class:VGPU: Requested 1, but already used 3 of 3 class:VGPU"}
        assert used(world)["class:VGPU"] == 3
        for server_id in made:
            delete.request(world.plane, CALLER, server_id)
        world.settle()
        world.check()
        assert used(world)["class:VGPU"] == 0


@pytest.mark.databases
@pytest.mark.weakness(362)
def test_requests_at_once_make_no_more_servers_than_a_project_may_have(world: World) -> None:
    limit(world, servers=5)
    made: list[str] = []

    def several() -> None:
        for caller in (CALLER, OTHER, FOREIGN) * 2:
            with contextlib.suppress(OverLimit):
                made.extend(ask(world, PLAIN, caller))

    at_once(*(several for _ in range(4)))
    owners = [world.server(server_id).project_id for server_id in made]
    assert (owners.count("p"), owners.count("p2")) == (5, 8), "another project is not held up, nor counted"
    assert (used(world)[SERVERS], used(world, "p2")[SERVERS]) == (5, 8)


@pytest.mark.databases
def test_a_turn_that_two_take_for_the_first_time_at_once_is_one(world: World) -> None:
    """The row that a project's takers stand in line for is made by the first of them."""
    limit(world, servers=1)
    outcomes: list[object] = []
    begun = threading.Barrier(4)

    def one() -> None:
        begun.wait()
        try:
            outcomes.append(ask(world, PLAIN))
        except OverLimit as error:
            outcomes.append(error.code)

    at_once(*(one for _ in range(4)))
    assert outcomes.count("lamina.over_limit") == 3
    assert used(world)[SERVERS] == 1


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who are judged wait for each other once both have counted, if they can both come so far."""
    gate, judge = threading.Barrier(2), rules.refusal

    def refusal(bounds: Iterable[rules.Bound]) -> str | None:
        with contextlib.suppress(threading.BrokenBarrierError):
            gate.wait(timeout=1.0)
        return judge(bounds)

    monkeypatch.setattr(rules, "refusal", refusal)


@pytest.mark.databases
@pytest.mark.usefixtures("meeting")
@pytest.mark.weakness(367)
def test_of_two_claims_that_would_count_before_either_has_committed_one_is_refused(world: World) -> None:
    """On two hosts, so that nothing but the quota is between them."""
    made = [server.id for host in ("host1", "host2") for server in world.create(ONE, host=host)]
    limit(world, class__VGPU=1)
    pending = [row.id for row in world.operations()]
    at_once(*(functools.partial(world.plane.runner.advance, saga_id) for saga_id in pending))
    world.settle()
    assert sorted(world.server(server_id).vm_state for server_id in made) == [VmState.ACTIVE, VmState.ERROR]
    assert used(world)["class:VGPU"] == 1
    world.check()


@pytest.mark.databases
@pytest.mark.usefixtures("meeting")
@pytest.mark.weakness(367)
def test_of_two_requests_that_would_count_before_either_has_committed_one_is_refused(world: World) -> None:
    limit(world, servers=1)
    outcomes: list[str] = []

    def one() -> None:
        try:
            outcomes.extend(world.server(server_id).vm_state for server_id in ask(world, PLAIN))
        except OverLimit as error:
            outcomes.append(error.code)

    at_once(one, one)
    assert sorted(outcomes) == ["building", "lamina.over_limit"]
    assert used(world)[SERVERS] == 1


# ---------------------------------------------------------------------------------------------------- what counts, and when


def test_both_sides_of_a_resize_count_until_it_is_confirmed(world: World) -> None:
    limit(world, class__VGPU=3)
    server = world.created(ONE)
    with pytest.raises(OverLimit, match="Requested 3, but already used 1 of 3"):
        resize.request(world.plane, CALLER, server.id, flavor("three", resources__VGPU="3", trait__CUSTOM_NVIDIA_11="required"))
    resize.request(world.plane, CALLER, server.id, TWO)
    world.settle()
    assert used(world)["class:VGPU"] == 3
    with pytest.raises(OverLimit):
        ask(world, ONE)
    revert.request(world.plane, CALLER, server.id)
    world.settle()
    assert used(world)["class:VGPU"] == 1
    ask(world, ONE)
    world.settle()
    assert used(world)["class:VGPU"] == 2
    world.check()


def test_a_resize_beyond_a_limit_that_came_after_its_request_leaves_the_server_as_it_was(world: World) -> None:
    server = world.created(ONE)
    resize.request(world.plane, CALLER, server.id, TWO)
    limit(world, class__VGPU=2)
    world.settle()
    after = world.server(server.id)
    assert (after.vm_state, after.flavor, after.task_state) == (VmState.ACTIVE, ONE, None)
    assert after.fault is not None
    assert after.fault.message == "Quota exceeded for class:VGPU: Requested 2, but already used 1 of 2 class:VGPU"
    assert used(world)["class:VGPU"] == 1
    world.check()


def test_an_administrators_moves_are_not_held_up_by_a_full_quota(world: World) -> None:
    """What a project has is moved; no more is asked for, though both sides count while both are held."""
    server = world.created(ONE)
    limit(world, class__VGPU=1, class__VCPU=1, servers=1)
    live_migrate.request(world.plane, CALLER, server.id)
    world.settle()
    moved = world.server(server.id)
    assert (moved.vm_state, moved.host != server.host) == (VmState.ACTIVE, True)
    resize.request_migration(world.plane, CALLER, server.id)
    world.settle()
    assert world.server(server.id).vm_state is VmState.RESIZED
    assert used(world)["class:VGPU"] == 2
    confirm.request(world.plane, CALLER, server.id)
    world.settle()
    assert used(world)["class:VGPU"] == 1
    there = world.server(server.id).host
    assert there is not None
    with world.plane.db.write() as tx:
        hosts.update_host(tx, there, forced_down=True)
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    with world.plane.db.read() as tx:
        (migration, *_) = servers.migrations_page(tx)
    after = world.server(server.id)
    assert (migration.type, after.vm_state, after.host != there) == (EVACUATION, VmState.ACTIVE, True)


def test_what_is_shelved_holds_nothing_and_asks_again_to_come_back(world: World) -> None:
    limit(world, class__VGPU=1)
    server = world.created(ONE, networks=())
    shelve.request(world.plane, CALLER, server.id)
    world.settle()
    assert (used(world)["class:VGPU"], used(world)[SERVERS]) == (0, 1)
    other = world.created(ONE)
    with pytest.raises(OverLimit):
        unshelve.request(world.plane, CALLER, server.id)
    delete.request(world.plane, CALLER, other.id)
    world.settle()
    unshelve.request(world.plane, CALLER, server.id)
    limit(world, class__VGPU=0)
    world.settle()
    assert world.server(server.id).vm_state is VmState.SHELVED_OFFLOADED, "the claim is refused for good"
    limit(world, class__VGPU=1)
    unshelve.request(world.plane, CALLER, server.id)
    world.settle()
    assert world.server(server.id).vm_state is VmState.ACTIVE
    world.check()


def test_an_attached_vgpu_counts_by_its_type(world: World) -> None:
    server = world.created(ONE)
    (first,) = world.vgpus(server.id)
    limit(world, vgpu_type_nvidia11=1)
    if first.type == "nvidia-11":
        with pytest.raises(OverLimit, match="vgpu_type:nvidia-11"):
            attach.request(world.plane, CALLER, server.id, "nvidia-11")
    limit(world, vgpu_type_nvidia11=2)
    attach.request(world.plane, CALLER, server.id, "nvidia-11")
    world.settle()
    assert len(world.vgpus(server.id)) == 2
    limit(world, vgpu_type_nvidia11=0)
    (brought,) = [one for one in world.vgpus(server.id) if one.uuid != first.uuid]
    detach.request(world.plane, CALLER, server.id, brought.uuid)
    world.settle()
    assert len(world.vgpus(server.id)) == 1, "giving back is never too much"
    world.check()


def test_users_have_limits_of_their_own_beside_the_projects(world: World) -> None:
    limit(world, class__VCPU=3)
    limit(world, "u", class__VCPU=1)
    ask(world, PLAIN)
    world.settle()
    with pytest.raises(OverLimit, match="cores of the user: Requested 1, but already used 1 of 1"):
        ask(world, PLAIN)
    ask(world, PLAIN, OTHER, count=2)
    world.settle()
    assert (used(world)[CORES], used(world, user_id="u")[CORES], used(world, user_id="u2")[CORES]) == (3, 1, 2)
    with pytest.raises(OverLimit, match="cores: Requested 1, but already used 3 of 3"):
        ask(world, PLAIN, OTHER)


# ---------------------------------------------------------------------------------------------------- one way for all


@pytest.mark.weakness(841)
def test_every_operation_that_changes_needs_is_judged_at_one_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2017-16239: an operation that finds itself a place by a way of its own passes by what the others are held to."""
    judged: list[str] = []
    made = quotas.must_allow

    def must_allow(tx: sa.Connection, owner: Owner, *, taken: Mapping[str, int] = {}, asked: Mapping[str, int] = {}) -> None:
        judged.append("taken" if "class:VCPU" in taken or "class:VGPU" in taken else "asked")
        made(tx, owner, taken=taken, asked=asked)

    monkeypatch.setattr(quotas, "must_allow", must_allow)

    def told(what: Callable[[], object]) -> list[str]:
        judged.clear()
        what()
        world.settle()
        return judged.copy()

    server_id = ""

    def boot() -> None:
        nonlocal server_id
        (server_id,) = ask(world, ONE)

    assert told(boot) == ["asked", "taken"]
    plane = world.plane
    assert told(lambda: resize.request(plane, CALLER, server_id, TWO)) == ["asked", "taken"]
    assert told(lambda: revert.request(plane, CALLER, server_id)) == []
    assert told(lambda: attach.request(plane, CALLER, server_id, world.small)) == ["asked", "taken"]
    assert told(lambda: shelve.request(plane, CALLER, server_id)) == []
    assert told(lambda: unshelve.request(plane, CALLER, server_id)) == ["asked", "taken"]
    # what an administrator moves is what the project has
    assert told(lambda: resize.request_migration(plane, CALLER, server_id)) == []
    assert told(lambda: confirm.request(plane, CALLER, server_id)) == []


def test_without_limits_a_claim_asks_once(world: World) -> None:
    """The hot path: one query, nothing written, nobody waited for."""
    ask(world, ONE)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if any(table in statement for table in ("registered_limits", "quota_turns")):
            statements.append(statement)

    sa.event.listen(world.plane.db.engine, "before_cursor_execute", note)
    try:
        world.settle()
    finally:
        sa.event.remove(world.plane.db.engine, "before_cursor_execute", note)
    assert len(statements) == 1
    assert statements[0].startswith("SELECT")


# ---------------------------------------------------------------------------------------------------- conservation


@pytest.mark.databases
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.weakness(682)
def test_after_anything_what_is_used_is_what_there_is_and_within_the_limits(world: World, seed: int) -> None:
    dice = random.Random(f"quotas {seed}")  # noqa: S311 (no secret)
    limit(world, class__VGPU=5, class__VCPU=6, servers=7, vgpu_type_nvidia12=2)
    ways: list[Callable[[str], object]] = [
        lambda s: resize.request(world.plane, CALLER, s, dice.choice([ONE, TWO, PLAIN])),
        lambda s: confirm.request(world.plane, CALLER, s),
        lambda s: revert.request(world.plane, CALLER, s),
        lambda s: shelve.request(world.plane, CALLER, s),
        lambda s: unshelve.request(world.plane, CALLER, s),
        lambda s: attach.request(world.plane, CALLER, s, dice.choice(["nvidia-11", "nvidia-12"])),
        lambda s: delete.request(world.plane, CALLER, s),
    ]
    made: list[str] = []
    refusals = 0
    for _round in range(12):
        for _ in range(4):
            try:
                if dice.random() < 0.5 or not made:
                    made += ask(world, dice.choice([ONE, TWO, PLAIN]), count=dice.randint(1, 2))
                else:
                    dice.choice(ways)(dice.choice(made))
            except OverLimit:
                refusals += 1
            except LaminaError:  # not in this state
                pass
        all_at_once(world)
        told = used(world)
        assert (told["class:VGPU"], told.get(CORES, 0), told[SERVERS]) == _counted(world)
        assert told["class:VGPU"] <= 5
        assert told.get(CORES, 0) <= 6
        assert told[SERVERS] <= 7
        assert told.get("vgpu_type:CUSTOM_NVIDIA_12", 0) <= 2
    assert refusals, "the limits were never met"


def _counted(world: World) -> tuple[int, int, int]:
    """vGPUs by their devices, cores by allocations, and servers."""
    devices = sum(v.ours for name in world.plane.hosts.names() for g in world.plane.hosts.of(name).report().gpus for v in g.vgpus)
    with world.plane.db.read() as tx:
        rows = sa.select(allocations.c.used).join_from(allocations, consumers).where(allocations.c.resource_class == "VCPU")
        return devices, sum(tx.scalars(rows)), len([s for s in servers.page(tx) if s.deleted_at is None])
