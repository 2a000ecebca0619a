"""Every step of every operation: killed around it, failed before and after its effect, run twice, undone twice.

The cases are generated from the operations themselves. After each the operation has ended, and `World.check` finds
devices, records, allocations and domains in agreement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lamina.model.errors import HypervisorError
from lamina.model.hosts import PowerAction
from lamina.model.servers import VmState
from lamina.operations import delete, power, reconcile
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.saga.log import State
from lamina.saga.steps import Change, Effect, Kind, Step, StepDidNothing
from lamina.store import sagas, servers
from tests.faults.desk import Desk
from tests.faults.stories import STORIES, Story, look_twice
from tests.faults.world import CALLER, FRAMEWORKS, At, Killed, World, die, replaced, with_step

BY_NAME = {kind.name: kind for kind in KINDS}
Case = tuple[Story, str]


def cases(wanted: Callable[[Step[ControlPlane, Any]], bool] = lambda step: True) -> list[Any]:
    return [
        pytest.param(story, step.name, id=f"{story}:{step.name}".replace(" ", "-"))
        for story in STORIES
        for step in BY_NAME[story.kind].steps
        if wanted(step)
    ]


def irrevocable_by(kind: Kind[ControlPlane, Any], name: str) -> bool:
    """Whether a failure at this step can no longer be undone."""
    for step in kind.steps:
        if isinstance(step, Effect) and step.irrevocable:
            return True
        if step.name == name:
            return False
    raise KeyError(name)


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


def run(world: World, story: Story, server_id: str) -> str | None:
    """Begin the story and settle; None where the process died while the request was being answered."""
    try:
        server_id = story.begin(world, server_id)
        world.settle()
    except Killed:
        return server_id or None
    return server_id


def the_server(world: World, server_id: str | None) -> str:
    """The story's server; one whose creation was cut short is found among all."""
    if server_id:
        return server_id
    with world.plane.db.read() as tx:
        (found,) = servers.page(tx)
        return found.id


def mend(world: World, story: Story, server_id: str) -> None:
    """What could not be given back after a reboot is given back by a hard reboot, or by the next look at the host; that clears it too.

    What could not be cleared is seen again.
    """
    if story.kind == "clear":
        look_twice(world)
        world.settle()
    if story.kind not in ("restore", "clear_evacuated"):
        return
    for host in world.hosts:
        reconcile.host(world.plane, host)
    world.settle()
    if world.server(server_id).vm_state is VmState.ERROR:
        power.request(world.plane, CALLER, server_id, PowerAction.HARD_REBOOT)
        world.settle()


def ended(world: World, story: Story, server_id: str, *, done: bool) -> None:
    """The last operation of the story's kind ended as told, and the world is in order."""
    world.check()
    with world.plane.db.read() as tx:
        last = [row for row in sagas.of_subject(tx, server_id) if row.kind == story.kind][-1]
    if done:
        assert last.state == State.DONE, last.error
    server = world.server(server_id)
    assert server.task_state is None
    assert server.vm_state is not VmState.BUILDING


def test_every_kind_has_a_story() -> None:
    assert {story.kind for story in STORIES} == set(BY_NAME)


@pytest.mark.parametrize("story", STORIES, ids=lambda s: str(s).replace(" ", "-"))
def test_undisturbed(world: World, story: Story) -> None:
    server_id = run(world, story, story.prepared(world))
    ended(world, story, the_server(world, server_id), done=True)


@pytest.mark.parametrize("alone", [True, False], ids=["restarted", "taken-over"])
@pytest.mark.parametrize("point", ["before-do", "after-do", "logged"])
@pytest.mark.parametrize(("story", "step"), cases())
@pytest.mark.weakness(459)
def test_killed(world: World, story: Story, step: str, point: str, alone: bool) -> None:
    server_id = story.prepared(world)
    probe = At(point, step, die)
    world.begin(probe=probe)
    server_id = the_server(world, run(world, story, server_id))
    assert probe.fired, "the point was never reached"
    world.clock.sleep(world.plane.settings.lease + 1)
    world.begin(alone=alone)
    world.settle()
    ended(world, story, server_id, done=True)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("story", "step"), cases())
@pytest.mark.weakness(460)
def test_failed(world: World, story: Story, step: str, when: str) -> None:
    server_id = story.prepared(world)
    kind = BY_NAME[story.kind]
    world.begin(replaced(failing(kind, step, when)))
    server_id = the_server(world, run(world, story, server_id))
    if irrevocable_by(kind, step):
        (stuck,) = world.operations()
        assert (stuck.state, stuck.kind) == (State.STUCK, story.kind), "no way back: it waits for an operator"
        assert stuck.error is not None
        assert stuck.error["message"] == "injected"
        world.plane.runner.resume(stuck.id)
        world.settle()
        ended(world, story, server_id, done=True)
    else:
        server = world.server(server_id)
        assert server.fault is not None or server.vm_state is VmState.ACTIVE, "a failure is told, or another host was tried"
        mend(world, story, server_id)
        ended(world, story, server_id, done=False)


@pytest.mark.parametrize(("story", "step"), cases(lambda step: isinstance(step, Effect)))
@pytest.mark.weakness(691)
def test_run_twice(world: World, story: Story, step: str) -> None:
    server_id = story.prepared(world)
    kind = BY_NAME[story.kind]
    found = kind.step(step)
    assert isinstance(found, Effect)
    do = found.do
    world.begin(replaced(with_step(kind, step, do=lambda work: (do(work), do(work))[1])))
    ended(world, story, the_server(world, run(world, story, server_id)), done=True)


def undoable(step: Step[ControlPlane, Any]) -> bool:
    return step.undo is not None


def turning_back(kind: Kind[ControlPlane, Any], name: str) -> Kind[ControlPlane, Any]:
    """The kind with one step that fails the first time: after its effect or, where that could not be taken back, by coming to nothing."""
    return failing(kind, name, "nothing" if irrevocable_by(kind, name) else "after")


@pytest.mark.parametrize(("story", "step"), cases(undoable))
def test_undone_twice(world: World, story: Story, step: str) -> None:
    """Fail at the step after its effect, and take back its effect and those before it twice over."""
    server_id = story.prepared(world)
    kind = turning_back(BY_NAME[story.kind], step)
    for each in kind.steps:
        if isinstance(each, Effect) and each.undo is not None:
            undo = each.undo
            kind = with_step(kind, each.name, undo=lambda work, undo=undo: (undo(work), undo(work))[1])
    world.begin(replaced(kind))
    server_id = the_server(world, run(world, story, server_id))
    mend(world, story, server_id)
    ended(world, story, server_id, done=False)


@pytest.mark.parametrize("point", ["before-undo", "after-undo"])
@pytest.mark.parametrize(("story", "step"), cases(lambda step: undoable(step) and isinstance(step, Effect)))
def test_killed_in_undo(world: World, story: Story, step: str, point: str) -> None:
    server_id = story.prepared(world)
    probe = At(point, step, die)
    world.begin(replaced(turning_back(BY_NAME[story.kind], step)), probe=probe)
    server_id = the_server(world, run(world, story, server_id))
    assert probe.fired, "the point was never reached"
    world.begin()
    world.settle()
    mend(world, story, server_id)
    ended(world, story, server_id, done=False)


@pytest.mark.parametrize(("story", "step"), cases())
def test_deleted_in_the_middle(world: World, story: Story, step: str) -> None:
    """A deletion that arrives after a step leaves nothing, whichever operation it interrupts."""
    server_id = story.prepared(world)
    asked: list[str] = []

    def ask() -> None:
        for row in world.operations():
            delete.request(world.plane, CALLER, row.subject)
            asked.append(row.subject)

    world.begin(probe=At("logged", step, ask))
    server_id = the_server(world, run(world, story, server_id))
    if not asked and world.server(server_id).vm_state is not VmState.DELETED:  # the step was the operation's last
        delete.request(world.plane, CALLER, server_id)
    world.settle()
    world.check()
    assert world.server(server_id).vm_state is VmState.DELETED
    assert world.free() == {}


@pytest.mark.parametrize(
    ("story", "step"),
    [case for case in cases() if irrevocable_by(BY_NAME[case.values[0].kind], case.values[1])],
)
def test_deleted_when_stuck(world: World, story: Story, step: str) -> None:
    """What is stuck past its point of no return is no obstacle to a deletion, which leaves nothing."""
    server_id = story.prepared(world)
    world.begin(replaced(failing(BY_NAME[story.kind], step, "after")))
    run(world, story, server_id)
    (stuck,) = world.operations()
    assert stuck.state == State.STUCK
    delete.request(world.plane, CALLER, server_id)
    world.settle()
    world.check()
    assert world.server(server_id).vm_state is VmState.DELETED
    assert world.free() == {}


def failing(kind: Kind[ControlPlane, Any], name: str, when: str) -> Kind[ControlPlane, Any]:
    """The kind with one step that fails the first time, before or after its effect, or saying that there is none."""
    step = kind.step(name)
    assert step is not None
    failed: list[bool] = []

    def once(true_do: Callable[..., Any], *given: Any) -> Any:
        if failed:
            return true_do(*given)
        if when == "after":
            true_do(*given)
        failed.append(True)
        raise StepDidNothing("injected") if when == "nothing" else HypervisorError("injected")

    true_do = step.do
    if isinstance(step, Change):
        return with_step(kind, name, do=lambda work, tx: once(true_do, work, tx))
    return with_step(kind, name, do=lambda work: once(true_do, work))
