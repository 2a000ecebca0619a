"""CWE-664, improper control of a resource through its lifetime: who owns a vGPU, from its creation to its removal.

What is made and removed is written down where it happens, in the simulated kernel, and held against the records afterwards.
Crashes, lost answers and deletions in the middle are the simulator's (`tests/faults/simulator`), which checks the same ownership.
"""

from __future__ import annotations

import collections
import dataclasses
import io

import pytest
import structlog

from lamina.api.policy import Policy
from lamina.api.routing import Context
from lamina.cli import logs
from lamina.model import ids
from lamina.model.errors import BadRequest, LaminaError
from lamina.model.flavors import MOST_EXTRA_SPECS, Flavor
from lamina.model.servers import VmState
from lamina.operations import delete
from lamina.store import servers
from tests.faults.desk import Desk
from tests.faults.world import CALLER, FRAMEWORKS, ONE, TWO, World
from tests.pillars.walk import CALLERS, walk

pytestmark = pytest.mark.weakness(664)


@dataclasses.dataclass
class Ledger:
    """Every creation and removal on every host, and who has used what was created."""

    #: (host, handle) -> how often it was made
    made: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    removed: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    #: (host, handle, which creation) -> projects of the servers that had it
    users: dict[tuple[str, str, int], set[str]] = dataclasses.field(default_factory=dict)
    #: a vGPU's uuid -> servers that it was ever given to
    owners: dict[str, set[str]] = dataclasses.field(default_factory=dict)

    def watch(self, world: World) -> None:
        for name, host in world.hosts.items():
            host.kernel.after_write = lambda path, text, name=name: self._written(name, path, text)  # type: ignore[misc]
            host.machine.rebooted.append(lambda name=name: self._rebooted(name))  # type: ignore[misc]

    def _written(self, host: str, path: str, text: str) -> None:
        parts = path.split("/")
        if parts[-1] == "create":
            self.made[host, text.strip()] += 1
        elif parts[-1] == "remove":
            self.removed[host, parts[-2]] += 1
        elif parts[-1] == "current_vgpu_type":
            (self.removed if text.strip() == "0" else self.made)[host, parts[-3]] += 1

    def _rebooted(self, host: str) -> None:
        """What stood is gone."""
        for (name, handle), count in list(self.made.items()):
            if name == host:
                self.removed[name, handle] = count

    def look(self, world: World) -> None:
        """Note who has what now, and that each that stands has one owner."""
        with world.plane.db.read() as tx:
            projects = {server.id: server.project_id for server in servers.page(tx)}
        for name, host in world.hosts.items():
            state = host.machine.state
            standing = {*state.mdevs, *state.vf_types}
            for handle in standing:
                assert self.made[name, handle] == self.removed[name, handle] + 1, f"{handle} stands and was not made, or made twice"
            for (of, handle), count in self.made.items():
                assert of != name or handle in standing or self.removed[name, handle] >= count, f"{handle} vanished"
            holders: dict[str, str] = {}
            for server_id, domain in state.domains.items():
                for uuid, handle in domain.devices.items():
                    if handle not in standing:
                        continue
                    self.owners.setdefault(uuid, set()).add(server_id)
                    self.users.setdefault((name, handle, self.made[name, handle]), set()).add(projects[server_id])
                    assert holders.setdefault(handle, server_id) == server_id, f"{handle} is in two domains"


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("seed", [0])
@pytest.mark.weakness(226)
@pytest.mark.weakness(459)
def test_no_vgpu_goes_from_one_project_to_another_without_being_made_anew(desk: Desk, framework: str, seed: int) -> None:
    """A long walk of two projects on few vGPUs; a VF's address comes again and again, what stands on it is new each time."""
    world, ledger = World.on(desk, framework), Ledger()
    ledger.watch(world)

    def look() -> None:
        world.check()
        ledger.look(world)

    walk(world, f"lifetime {seed}", 40, look)
    assert all(len(projects) == 1 for projects in ledger.users.values())
    assert all(len(of) == 1 for of in ledger.owners.values()), "a uuid was used again by another server"
    assert {project for used in ledger.users.values() for project in used} == {caller.project_id for caller in CALLERS}
    if framework == "vfio":
        again: dict[tuple[str, str], set[str]] = {}
        for (host, handle, _), projects in ledger.users.items():
            again.setdefault((host, handle), set()).update(projects)
        assert any(len(projects) == 2 for projects in again.values()), "the walk never came to the case"


def test_the_ledger_notices_what_was_not_made(desk: Desk) -> None:
    world, ledger = World.on(desk, "vfio"), Ledger()
    world.created(ONE)
    with pytest.raises(AssertionError, match="was not made"):
        ledger.look(world)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.weakness(459)
def test_everything_that_was_made_is_removed_in_the_end(desk: Desk, framework: str) -> None:
    world, ledger = World.on(desk, framework), Ledger()
    ledger.watch(world)
    walk(world, "all gone", 30, lambda: None)
    with world.plane.db.read() as tx:
        left = [server.id for server in servers.page(tx) if server.deleted_at is None]
    for server_id in left:
        delete.request(world.plane, CALLER, server_id)
    world.settle()
    world.check()
    assert world.free() == {}
    assert sum(ledger.made.values()) == sum(ledger.removed.values()) > 0
    assert all(not host.machine.state.disks and not host.machine.state.domains for host in world.hosts.values())


def test_a_uuid_is_derived_from_what_is_never_the_same_again() -> None:
    """The operation's own id is part of it, and every operation draws one."""
    server = ids.new_uuid()
    assert len({ids.vgpu_uuid(server, ids.new_uuid(), index) for index in range(8) for _ in range(500)}) == 4000


# ------------------------------------------------------------------------------------------------ limits


@pytest.mark.weakness(770)
def test_a_flavor_has_bounds_on_every_text() -> None:
    flavor = Flavor("f", "f", 1, 1, 0)
    fine: dict[str, object] = {
        "id": "i" * 255,
        "name": "n" * 255,
        "description": "d" * 65535,
        "extra_specs": {f"{n:0>255}": "v" * 255 for n in range(MOST_EXTRA_SPECS)},
    }
    assert dataclasses.replace(flavor, **fine).checked()  # type: ignore[arg-type]
    for field, value in {
        "id": "i" * 256,
        "name": "n" * 256,
        "description": "d" * 65536,
        "extra_specs": {str(n): "v" for n in range(MOST_EXTRA_SPECS + 1)},
    }.items():
        with pytest.raises(BadRequest):
            dataclasses.replace(flavor, **{field: value}).checked()  # type: ignore[arg-type]
    for specs in ({"k" * 256: "v"}, {"k": "v" * 256}):
        with pytest.raises(BadRequest):
            dataclasses.replace(flavor, extra_specs=specs).checked()


@pytest.mark.weakness(770)
def test_a_message_does_not_grow_with_what_was_sent() -> None:
    """Refusals repeat the beginning of a word at most, however long it was: logs and answers stay small."""
    long = "x" * 1_000_000
    for parse in (ids.PciAddress.parse, ids.parse_uuid, ids.parse_host_name):
        with pytest.raises(BadRequest) as caught:
            parse(long)
        assert len(str(caught.value)) < 500, parse.__qualname__


@pytest.mark.weakness(401)
def test_what_is_remembered_of_callers_is_bounded() -> None:
    policy = Policy(())
    for number in range(10_500):
        policy.enforce("project_reader_or_admin", Context("r", user_id=str(number), roles=frozenset({"reader"})))
    assert len(policy._allowed) <= 10_000


@pytest.mark.weakness(532)
def test_what_is_private_of_an_error_is_in_no_answer_and_a_secret_not_in_the_log() -> None:
    error = LaminaError("It failed.", cause="select password from users")
    assert "password" not in str(error)
    before, written = structlog.get_config(), io.StringIO()
    try:
        logs.configure("info")
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=written))
        try:
            secret = "canary-" + "s" * 8
            raise ValueError(len(secret))
        except ValueError:
            structlog.get_logger().exception("failed")
    finally:
        structlog.configure(**before)
    assert "canary-ssss" not in written.getvalue(), "a local variable is in the log"


@pytest.mark.weakness(404)
def test_a_server_that_could_not_be_made_holds_nothing(desk: Desk) -> None:
    """Asked for two where one is left: neither the one nor the other stays."""
    world = World.on(desk, "mdev")
    ledger = Ledger()
    ledger.watch(world)
    made = []
    while (server := world.created(TWO)).vm_state is VmState.ACTIVE:
        made.append(server)
    world.check()
    assert world.vgpus(server.id) == []
    assert sum(ledger.made.values()) == 2 * len(made)
