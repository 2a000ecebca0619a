"""CWE-703, improper check or handling of exceptional conditions: every error is raised somewhere, and told as what it is.

Every effect with every errno, before it and after, is in `tests/faults/test_errno.py` and `tests/unit/test_agent_errno.py`, a full disk in
`tests/faults/test_full_disk.py`, a damaged line, parameter and record of a journal in `tests/faults/test_damaged_records.py`. Here is
the error tree itself, and what those do not damage.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from lamina.agent.hypervisors import domain_xml
from lamina.api.application import MethodNotAllowed
from lamina.api.rooms import ROOMS
from lamina.api.routing import Version
from lamina.model import errors
from lamina.model.errors import DeviceRefused, HypervisorError, LaminaError, NoValidHost
from lamina.model.servers import VmState
from lamina.operations import delete
from lamina.store.tables.hosts import gpus
from tests.faults.desk import Desk
from tests.faults.world import CALLER, ONE, World
from tests.pillars import sources

pytestmark = pytest.mark.weakness(703)


def _tree(root: type[LaminaError] = LaminaError) -> list[type[LaminaError]]:
    return [root, *(each for child in root.__subclasses__() for each in _tree(child))]


TREE = sorted({each for each in _tree() if each.__module__ == errors.__name__}, key=lambda each: each.__name__)
DRAWN = dict(re.findall(r"(\w+) +(\d{3})  ", errors.__doc__ or ""))


def _made(kind: type[LaminaError]) -> LaminaError:
    return NoValidHost({"host1": "it is full"}) if kind is NoValidHost else kind("Something is wrong.", secret="for the log only")


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_is_what_the_tree_says(kind: type[LaminaError]) -> None:
    assert str(kind.status) == DRAWN[kind.__name__]
    assert re.fullmatch(r"lamina(\.[a-z_]+)+", kind.code)
    assert [other for other in TREE if other.code == kind.code] == [kind]


def test_the_tree_is_drawn_whole() -> None:
    assert DRAWN.keys() == {kind.__name__ for kind in TREE}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name + room.prefix)
@pytest.mark.weakness(209)
def test_every_error_is_told_by_every_room_with_its_status_and_nothing_private(room: object) -> None:
    kinds: list[type[LaminaError]] = [*TREE, MethodNotAllowed]
    for kind in kinds:
        error = _made(kind)
        reply = room.fault(error, "req-1", Version(2, 96))  # type: ignore[attr-defined]
        assert reply.status == kind.status
        told = json.dumps(reply.body)
        assert error.message in str(json.loads(told))
        assert "for the log only" not in told


@pytest.mark.weakness(755)
def test_every_kind_of_error_is_raised_somewhere() -> None:
    """Read off the sources: a class that nothing raises, and nothing is derived from, is dead."""
    raised: set[str] = set()
    for _, node in sources.nodes(ast.Call):
        raised.add(ast.unparse(node.func).rpartition(".")[2])
    for _, definition in sources.nodes(ast.ClassDef):
        raised |= {ast.unparse(base).rpartition(".")[2] for base in definition.bases}
    assert {kind.__name__ for kind in TREE} - raised == set()


#: where everything is caught, whatever it is -> why
BROAD = {
    "api/application.py": "the door: what nobody expected becomes a 500 and a line in the log",
    "hosts/work.py": "a call that fails unexpectedly on a host is answered as one that failed",
    "operations/presence.py": "the loop of a thread: told, and tried again at the next turn",
    "operations/queueing.py": "the loop of a thread: told, and tried again at the next turn",
    "operations/rounds.py": "the loop of a thread: told, and tried again at the next turn",
    "saga/runner.py": "an operation that fails unexpectedly is undone, or stuck, and told",
    "store/group_commit.py": "one writer's failure is told to all that share its commit",
}


@pytest.mark.weakness(396)
def test_everything_is_caught_in_few_places() -> None:
    broad = set()
    for module, handler in sources.nodes(ast.ExceptHandler):
        caught = ast.unparse(handler.type) if handler.type is not None else "BaseException"
        body = ast.unparse(ast.Module(handler.body, []))
        if re.search(r"\b(Base)?Exception\b", caught) and not re.search(r"^\s*raise\b", body, re.MULTILINE):
            broad.add(module.name)
    assert broad == BROAD.keys()


@pytest.mark.weakness(390)
def test_nothing_is_caught_and_forgotten_whatever_it_was() -> None:
    silent = [
        f"{module.name}:{handler.lineno}"
        for module, handler in sources.nodes(ast.ExceptHandler)
        if (handler.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(handler.type)))
        and all(isinstance(statement, ast.Pass | ast.Continue) for statement in handler.body)
    ]
    assert silent == []


# ------------------------------------------------------------------------------------------------ one broken record


def _gpu(world: World, _server_id: str) -> None:
    with world.plane.db.write() as tx:
        first = tx.scalar(sa.select(sa.func.min(gpus.c.address)).where(gpus.c.host == "host2"))
        tx.execute(sa.update(gpus).where((gpus.c.host == "host2") & (gpus.c.address == first)).values(present=False))


def _foreign_domain(world: World, server_id: str) -> None:
    domain = world.hosts["host2"].machine.state.domains
    copied = next(iter(world.hosts["host1"].machine.state.domains.values()))
    domain["\ud83d not a uuid"] = type(copied)(
        name="\n", vcpus=0, memory_mb=0, disk_gb=0, image_id=None, devices={"x": "nowhere"}, power_state=copied.power_state, ours=False
    )


@pytest.mark.parametrize("damage", [_gpu, _foreign_domain], ids=lambda damage: damage.__name__.lstrip("_"))
@pytest.mark.weakness(755)
def test_one_strange_record_stops_nobody_from_starting(desk: Desk, damage: Callable[[World, str], None]) -> None:
    world = World.on(desk, "mdev")
    server = world.created(ONE, host="host1")
    damage(world, server.id)
    world.begin()
    world.settle()
    assert world.created(ONE, host="host1").vm_state is VmState.ACTIVE
    delete.request(world.plane, CALLER, server.id)
    world.settle()
    assert world.server(server.id).vm_state is VmState.DELETED


@pytest.mark.parametrize(
    "xml",
    [
        "<domain><devices><hostdev mode='subsystem'><source><address bus='0xk'/></source></hostdev></devices></domain>",
        "<domain><devices><hostdev mode='subsystem'><source><address bus='0x100'/></source></hostdev></devices></domain>",
        "<domain><devices><hostdev mode='subsystem'><source><address bus='-1'/></source></hostdev></devices></domain>",
    ],
)
@pytest.mark.weakness(754)
def test_an_address_that_is_none_is_told_as_one_domain_that_cannot_be_read(xml: str) -> None:
    with pytest.raises(HypervisorError, match="an address that is none"):
        domain_xml.read(xml)


def test_an_errno_is_named() -> None:
    assert str(DeviceRefused("The kernel refused to do it", 28)) == "The kernel refused to do it (ENOSPC)"
    assert str(DeviceRefused("It did not appear")) == "It did not appear"
