"""CWE-691, insufficient control flow management: whatever the order, one wins, nothing is given twice and everything ends."""

from __future__ import annotations

import ast
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.model.errors import ConcurrentUpdate, HostUnreachable
from lamina.model.servers import VmState
from lamina.model.settings import Settings
from lamina.operations import delete, reconcile, resize
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.saga import runner
from lamina.store import allocations
from tests.faults import world as worlds
from tests.faults.desk import Desk
from tests.faults.world import CALLER, ONE, PLAIN, World
from tests.pillars import sources
from tests.pillars.interleaving import Deadlock, Interleaver, every_order

pytestmark = pytest.mark.weakness(691)

LAST_VGPU = """
hosts:
  - name: host
    vcpus: 256
    memory_mb: 262144
    disk_gb: 2000
    networks: [public]
    gpus: [{address: "0000:81:00.0", CARD, enabled_types: [SMALL], max_instances: 1}]  # LARGE
"""


@pytest.fixture
def last_vgpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds with one host that makes one vGPU."""
    monkeypatch.setattr(worlds, "FLEET", LAST_VGPU)


def _advance(plane: ControlPlane, saga_id: str) -> None:
    while plane.runner.advance(saga_id):
        pass


def _race(world: World, line: Interleaver, *saga_ids: str) -> None:
    line.run(*[lambda saga_id=saga_id: _advance(world.plane, saga_id) for saga_id in saga_ids])


# ------------------------------------------------------------------------------------------------ every order


@pytest.mark.parametrize("framework", worlds.FRAMEWORKS)
@pytest.mark.usefixtures("last_vgpu")
@pytest.mark.weakness(362)
@pytest.mark.weakness(367)
def test_of_two_at_the_last_vgpu_one_wins_in_every_order(desk: Desk, framework: str) -> None:
    """All orders of two creations, at every point where no transaction is open."""

    def run(line: Interleaver) -> None:
        world = World.on(desk, framework)
        world.begin(probe=line)
        servers = world.create(ONE, count=2)
        _race(world, line, *[row.id for row in world.operations()])
        world.settle()
        world.check()
        assert sorted(world.server(s.id).vm_state for s in servers) == [VmState.ACTIVE, VmState.ERROR]
        assert sum(len(world.vgpus(s.id)) for s in servers) == 1

    orders = list(every_order(run))
    assert len(orders) == len({tuple(order) for order in orders})
    assert len(orders) > 20
    print(f"\n{framework}: {len(orders)} orders of two claims, one winner in each")


def _deletion(world: World) -> str:
    (holder,) = world.create(ONE)
    world.settle()
    delete.request(world.plane, CALLER, holder.id)
    return holder.id


def _growth(world: World) -> str:
    server = world.created(PLAIN)
    resize.request(world.plane, CALLER, server.id, ONE, host=server.host)
    return server.id


@pytest.mark.parametrize("other", [_deletion, _growth])
@pytest.mark.usefixtures("last_vgpu")
@pytest.mark.weakness(362)
def test_a_creation_beside_another_operation_in_every_order(desk: Desk, other: Callable[[World], str]) -> None:
    """With one who gives the last vGPU back, and with one who grows into it."""
    seen: set[tuple[VmState, VmState]] = set()

    def run(line: Interleaver) -> None:
        world = World.on(desk, "mdev")
        world.begin(probe=line)
        other_id = other(world)
        (server,) = world.create(ONE)
        _race(world, line, *[row.id for row in world.operations()])
        world.settle()
        world.check()
        seen.add((world.server(other_id).vm_state, world.server(server.id).vm_state))
        assert sum(len(world.vgpus(i)) for i in (other_id, server.id)) <= 1

    count = sum(1 for _ in every_order(run))
    assert count > 10
    if other is _deletion:
        assert seen == {(VmState.DELETED, VmState.ACTIVE), (VmState.DELETED, VmState.ERROR)}, "the order decides"
    else:
        assert seen == {(VmState.RESIZED, VmState.ERROR), (VmState.ACTIVE, VmState.ACTIVE)}, "the order decides"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.usefixtures("last_vgpu")
@pytest.mark.weakness(362)
def test_of_three_one_wins_in_orders_drawn_by_lot(desk: Desk, seed: int) -> None:
    """Around every call to a host, too."""
    line = Interleaver(dice=random.Random(seed))  # noqa: S311 (no secret)
    world = World.on(desk, "vfio")
    world.begin(probe=line, wrap=line.wrap)
    servers = world.create(ONE, count=3)
    _race(world, line, *[row.id for row in world.operations()])
    world.settle()
    world.check()
    assert sorted(world.server(s.id).vm_state for s in servers) == [VmState.ACTIVE, VmState.ERROR, VmState.ERROR]


@pytest.mark.usefixtures("last_vgpu")
@pytest.mark.weakness(362)
def test_of_two_control_planes_one_wins_in_every_order(desk: Desk) -> None:
    """Each with an index of its own, on one database and the same hosts."""

    def run(line: Interleaver) -> None:
        world = World.on(desk, "mdev")
        first = world.begin(probe=line, alone=False)
        second = ControlPlane.assemble(Settings(state=world.state), desk.db, world.clock, first.hosts, KINDS, alone=False, probe=line)
        tasks, servers = [], []
        for plane in (first, second):
            world.plane = plane
            (server,) = world.create(ONE)
            servers.append(server)
            (mine,) = [row.id for row in world.operations() if row.owner == plane.runner.me]
            tasks.append(lambda plane=plane, mine=mine: _advance(plane, mine))
        line.run(*tasks)
        for plane in (first, second):
            world.plane = plane
            world.settle()
        world.check()
        assert sorted(world.server(s.id).vm_state for s in servers) == [VmState.ACTIVE, VmState.ERROR]

    assert sum(1 for _ in every_order(run)) > 20


def test_the_scheduler_notices_who_waits_for_each_other() -> None:
    line, one, two = Interleaver([0, 1, 0, 0]), threading.Lock(), threading.Lock()

    def takes(first: threading.Lock, second: threading.Lock) -> None:
        with first:
            line.give_way()
            if not second.acquire(timeout=0.2):
                raise Deadlock("each waits for the other")
            second.release()

    with pytest.raises(Deadlock):
        line.run(lambda: takes(one, two), lambda: takes(two, one))


def test_orders_are_all_of_them() -> None:
    """Two threads that give way twice each: the ways to shuffle three turns of the one with three of the other."""

    def run(line: Interleaver) -> None:
        def twice() -> None:
            line.give_way()
            line.give_way()

        line.run(twice, twice)

    assert len(list(every_order(run))) == 20


# ------------------------------------------------------------------------------------------------ many at once


@pytest.mark.usefixtures("last_vgpu")
@pytest.mark.weakness(362)
def test_sixty_four_at_the_last_vgpu(desk: Desk) -> None:
    world = World.on(desk, "mdev")
    servers = world.create(ONE, count=64)
    sagas = [row.id for row in world.operations()]

    def drive(share: int) -> None:
        for saga_id in sagas[share::8]:
            _advance(world.plane, saga_id)

    threads = [threading.Thread(target=drive, args=(share,)) for share in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.settle()
    world.check()
    states = [world.server(s.id).vm_state for s in servers]
    assert (states.count(VmState.ACTIVE), states.count(VmState.ERROR)) == (1, 63)


# ------------------------------------------------------------------------------------------------ everything ends


@pytest.mark.weakness(835)
def test_a_host_that_never_answers_is_asked_so_often_and_no_more(desk: Desk) -> None:
    asked: list[str] = []

    class Silent:
        def __init__(self, compute: object) -> None:
            self._compute = compute

        def __getattr__(self, name: str) -> object:
            if name == "report":
                return getattr(self._compute, name)

            def silent(*_arguments: object) -> None:
                asked.append(name)
                raise HostUnreachable("It does not answer.")

            return silent

    world = World.on(desk, "mdev")
    world.begin(wrap=Silent)  # type: ignore[arg-type]
    began = world.clock._now
    (server,) = world.create(ONE)
    world.settle()
    tries = len(runner.RETRY_PAUSES) + 1
    assert world.server(server.id).vm_state is VmState.ERROR or world.operations()
    assert asked.count("ensure_vgpus") <= tries * world.plane.settings.max_attempts
    assert len(asked) <= 2 * tries * world.plane.settings.max_attempts
    assert world.clock._now - began < 2 * world.plane.settings.max_attempts * sum(runner.RETRY_PAUSES) + 10


@pytest.mark.weakness(835)
def test_a_change_that_always_comes_too_late_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def too_late(*_arguments: object, **_more: object) -> None:
        tried.append(1)
        raise ConcurrentUpdate("Somebody was faster.")

    world = World.on(desk, "mdev")
    monkeypatch.setattr(allocations, "replace", too_late)
    (server,) = world.create(ONE)
    world.settle()
    assert len(tried) <= (runner.CONFLICTS + 1) * world.plane.settings.max_attempts
    assert world.server(server.id).vm_state is VmState.ERROR
    monkeypatch.undo()
    reconcile.host(world.plane, "host1")
    world.check()


#: what waits for as long as it takes -> who ends it
WAITS = {
    ("hosts/dialing.py", "stop.wait()"): "the signal that ends the process",
    ("hosts/dialing.py", "self._now.wait()"): "raced against a pause, and against the end of the process",
    ("hosts/dialing.py", "self._news.wait()"): "raced against a pause, and against the end of the process",
    ("api/agents/polls.py", "news.wait()"): "raced against the longest that a poll parks",
    ("hosts/dialing.py", "poll.result()"): "of a poll that is done",
    ("saga/runner.py", "self._heart.join()"): "a thread that looks at the event set just before",
    ("operations/presence.py", "self._thread.join()"): "a thread that looks at the event set just before",
    ("operations/rounds.py", "self._thread.join()"): "a thread that looks at the event set just before",
    ("operations/queueing.py", "self._thread.join()"): "a thread that looks at the event set just before",
    ("operations/reconcile.py", "answer.result()"): "a host's answer, for which the line to the host has a time",
    ("cli/listening.py", "thread.join()"): "a server that was told to end",
    ("store/group_commit.py", "self._turn.acquire()"): "the writer before, whose transaction has no call to a host in it",
    ("store/audit_ledger.py", "self._news.wait()"): "an event, set for every line and at the end of the process",
    ("store/audit_ledger.py", "thread.join()"): "a thread that looks at the event set just before",
    ("cli/own_postgres.py", "process.wait()"): "a process that was just killed",
    ("cli/instance.py", "process.wait()"): "a process that was just killed",
    ("cli/bench_fleet.py", "process.wait()"): "a process that was just killed",
    ("cli/fleet_bench/hosts.py", "heard.acquire()"): "a measurement",
    ("cli/fleet_bench/load.py", "asked.result()"): "a measurement",
    ("cli/simulate.py", "future.result()"): "a calculation",
}


def test_every_wait_has_an_end() -> None:
    """Either a time, or a line above that says who ends it."""
    found = set()
    for module, call in sources.calls("wait", "join", "result", "acquire", "communicate", "recv"):
        if not call.args and not any(keyword.arg in ("timeout", "blocking") for keyword in call.keywords):
            found.add((module.name, ast.unparse(call)))
    assert found == WAITS.keys()


def test_every_program_and_every_request_has_a_time() -> None:
    """httpx has one of five seconds where nothing is said; it must not be taken away."""
    endless = []
    for module, call in sources.calls("run", "create_connection", "urlopen", "Client", "AsyncClient", "get", "post", "put", "request"):
        on = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if (on in ("subprocess", "socket") and not given.keys() & {"timeout", None}) or given.get("timeout") == "None":
            endless.append(f"{module.name}:{call.lineno}")
    assert endless == []


def test_retries_are_few() -> None:
    assert sum(runner.RETRY_PAUSES) < 5
    assert len(runner.RETRY_PAUSES) < 10
    assert runner.CONFLICTS <= 10
    assert Settings(state=Path()).max_attempts <= 10
