"""Races: who gets the last vGPU, and what a claim may not do."""

from __future__ import annotations

import contextlib
import random
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.model.errors import LaminaError
from lamina.model.flavors import Flavor
from lamina.model.servers import VmState
from lamina.operations import confirm, delete, resize, revert
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.store import allocations, providers, servers
from lamina.store.database import Database
from tests.faults.world import CALLER, FRAMEWORKS, World, flavor

pytestmark = pytest.mark.databases


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> World:
    return World(tmp_path, request.param, url=database.engine.url.render_as_string(hide_password=False))


@pytest.mark.weakness(367)
def test_sixteen_at_the_last_vgpu(world: World) -> None:
    """Everything but one vGPU is taken; of sixteen that run at once exactly one gets it, round after round."""
    filler = flavor("three", resources__VGPU="3", trait__CUSTOM_NVIDIA_11="required")
    one = flavor("one", resources__VGPU="1")
    small = flavor("pair", resources__VGPU="2", trait__CUSTOM_NVIDIA_12="required")
    # per host: a GPU of four nvidia-11, and one that takes four nvidia-11 or two nvidia-12
    for wanted, count in ((small, 2), (filler, 2), (one, 1)):
        world.create(wanted, count=count)
        world.settle()
    for _round in range(3):
        made = world.create(one, count=16)
        threads = [threading.Thread(target=_drive, args=(world, offset)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.settle()
        world.check()
        winners = [s.id for s in made if world.server(s.id).vm_state is VmState.ACTIVE]
        assert len(winners) == 1
        for server in made:
            delete.request(world.plane, CALLER, server.id)
        world.settle()
        world.check()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.weakness(682)
def test_after_servers_came_moved_and_went_all_at_once_everything_is_paid_for(world: World, seed: int) -> None:
    """Requests in random order while four threads carry out what was asked before; whenever nothing is in flight the promises hold."""
    dice = random.Random(f"{seed}")  # noqa: S311 (no secret)
    one, pair = flavor("one", resources__VGPU="1"), flavor("pair", resources__VGPU="2", trait__CUSTOM_NVIDIA_12="required")
    made: list[str] = []
    states: set[VmState] = set()
    for _round in range(3):
        asked = threading.Event()
        threads = [threading.Thread(target=_carry_out, args=(world, share, asked)) for share in range(4)]
        made += [server.id for server in world.create(dice.choice([one, one, pair]), count=dice.randint(2, 6))]
        for thread in threads:
            thread.start()
        for _ in range(12):
            server_id = dice.choice(made)
            ask = dice.choice([_resize(pair), _resize(one), resize.request_migration, confirm.request, revert.request, delete.request])
            with contextlib.suppress(LaminaError):  # not in this state
                ask(world.plane, CALLER, server_id)
        asked.set()
        for thread in threads:
            thread.join()
        world.settle()
        world.check()
        states |= {world.server(server_id).vm_state for server_id in made}
    assert states >= {VmState.ACTIVE, VmState.DELETED}


def test_what_placement_shows_follows_each_claim(world: World) -> None:
    """The GPU that takes two sizes: the first vGPU settles the size in the same commit, the last one frees it."""
    large = flavor("large", resources__VGPU="1", trait__CUSTOM_NVIDIA_12="required")
    small = flavor("small", resources__VGPU="1", trait__CUSTOM_NVIDIA_11="required")

    def shown(host: str) -> tuple[int, set[str]]:
        with world.plane.db.read() as tx:
            found = {p.name: p for tree in providers.load_trees(tx) for p in tree.providers}
        gpu = found[f"{host}_pci_0000_82_00_0"]
        return gpu.inventories["VGPU"].total, {t for t in gpu.traits if t.startswith("CUSTOM_NVIDIA")}

    assert shown("host1") == (4, {"CUSTOM_NVIDIA_11", "CUSTOM_NVIDIA_12"})
    server = world.created(large, host="host1")
    assert shown("host1") == (2, {"CUSTOM_NVIDIA_12"})
    delete.request(world.plane, CALLER, server.id)
    world.settle()
    assert shown("host1") == (4, {"CUSTOM_NVIDIA_11", "CUSTOM_NVIDIA_12"})
    for _ in range(5):  # four fill the GPU of small ones, the fifth needs this one
        world.created(small, host="host1")
    assert shown("host1") == (4, {"CUSTOM_NVIDIA_11"})
    world.check()


def test_a_server_is_paid_for_by_its_own_project_whoever_resizes_it(world: World) -> None:
    server = world.created(flavor("one", resources__VGPU="1"))
    resize.request(world.plane, Caller("root", "administrators", "req-2"), server.id, flavor("two", resources__VGPU="2"))
    world.settle()
    with world.plane.db.read() as tx:
        migration = servers.finished_migration(tx, server.id)
        payers = [allocations.of_consumer(tx, consumer_id) for consumer_id in (server.id, migration.id)]
    assert [(p.project_id, p.user_id) for p in payers if p is not None] == [("p", "u")] * 2


def _resize(wanted: Flavor) -> Callable[[ControlPlane, Caller, str], None]:
    return lambda plane, caller, server_id: resize.request(plane, caller, server_id, wanted)


def _drive(world: World, offset: int) -> None:
    """Advance the operations in another order than the others do; what another thread has moved meanwhile is passed over."""
    pending = [row.id for row in world.operations()]
    for saga_id in pending[offset * 4 :] + pending[: offset * 4]:
        try:
            while world.plane.runner.advance(saga_id):
                pass
        except LaminaError:
            continue


def _carry_out(world: World, share: int, asked: threading.Event) -> None:
    """Advance one share of four of the operations, as each is one thread's in a process, until none moves and no more is asked."""
    moved = True
    while moved or not asked.is_set():
        mine = [row.id for row in world.operations() if uuid.UUID(row.id).int % 4 == share]
        moved = sum(world.plane.runner.advance(saga_id) for saga_id in mine) > 0
