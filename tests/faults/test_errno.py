"""Every effect on a host of every operation, with every errno, before and after it was had, and had in part.

The effects are those of an undisturbed telling of the operation's story, so that a new one is covered by itself. Whatever
fails, the operation ends or is stuck under a name until an operator lets it go on; then, at the latest when the reconciler has
looked twice, devices, records, allocations and domains agree.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from lamina.model.errors import LaminaError
from lamina.saga.log import State
from lamina.store import sagas
from tests.faults.desk import Desk
from tests.faults.effects import WRITTEN_IN_PART, Effects, Fault
from tests.faults.stories import STORIES, Story, look_twice
from tests.faults.test_every_step import mend
from tests.faults.world import FRAMEWORKS, World

ERRNOS = (
    errno.EINVAL,
    errno.EBUSY,
    errno.ENOSPC,
    errno.ENODEV,
    errno.EIO,
    errno.EACCES,
    errno.EINTR,
    errno.ETIMEDOUT,
)
#: the stories that are told with every errno at every effect; the others have one errno at each, and another at the next
WHOLE = frozenset({"create", "resize", "delete", "confirm", "revert", "live_migrate"})


#: what happens to servers that are on no host
AWAY = frozenset({"delete a shelved server"})
KINDS_OF_ERROR = tuple((number, when) for number in ERRNOS for when in ("before", "after"))


def effects_of(desk: Desk, framework: str, story: Story) -> list[str]:
    """Those of the undisturbed story."""
    world = World.on(desk, framework)
    server_id = story.prepared(world)
    with pytest.MonkeyPatch.context() as patch:
        effects = Effects(patch)
        story.begin(world, server_id)
        world.settle()
    return effects.seen


def whole(seen: list[str], framework: str) -> Iterator[Fault]:
    """Every errno before and after each effect: every second of these ways to fail here, the others with the next framework.

    What each write to the kernel does with each errno in each framework is tried at the compute service.
    """
    here = FRAMEWORKS.index(framework)
    for nth, name in enumerate(seen):
        for way, (number, when) in enumerate(KINDS_OF_ERROR):
            if (way + way // 2 + nth) % len(FRAMEWORKS) == here:
                yield Fault(nth, when, number)
        if name in WRITTEN_IN_PART and nth % len(FRAMEWORKS) == here:
            yield Fault(nth, "short", errno.ENOSPC)


def slice_of(seen: list[str], framework: str, turn: int) -> Iterator[Fault]:
    """One way to fail at each effect, another one at the next and in the next story; the effects are shared among the frameworks."""
    for nth, name in enumerate(seen):
        if nth % len(FRAMEWORKS) == FRAMEWORKS.index(framework):
            number, when = KINDS_OF_ERROR[(turn * 5 + nth * 3) % len(KINDS_OF_ERROR)]
            part = name in WRITTEN_IN_PART and (turn + nth) % 3 == 0
            yield Fault(nth, "short", errno.ENOSPC) if part else Fault(nth, when, number)


def tell(desk: Desk, framework: str, story: Story, fault: Fault) -> None:
    world = World.on(desk, framework)
    server_id = story.prepared(world)
    with pytest.MonkeyPatch.context() as patch:
        effects = Effects(patch, fault)
        server_id = story.begin(world, server_id)
        world.settle()
        assert len(effects.seen) > fault.nth, "the effect was not reached"
        for row in world.operations():
            assert row.state == State.STUCK, "an operation neither ended nor waits for an operator"
            assert row.error is not None
            assert row.error["code"] != LaminaError.code, row.error
            world.plane.runner.resume(row.id)
            world.settle()
    with world.plane.db.read() as tx:
        for row in sagas.of_subject(tx, server_id):
            assert row.state == State.DONE or row.error is not None, "an operation came to nothing and says no word of it"
            assert row.error is None or row.error["code"] != LaminaError.code, row.error
    mend(world, story, server_id)
    try:
        world.check()
    except AssertionError:  # then the reconciler mends it
        look_twice(world)
        world.settle()
        world.check()
    assert world.server(server_id).task_state is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("story", STORIES, ids=lambda s: str(s).replace(" ", "-"))
@pytest.mark.weakness(755)
@pytest.mark.weakness(252)
@pytest.mark.weakness(390)
def test_each_effect_fails(desk: Desk, framework: str, story: Story) -> None:
    seen = effects_of(desk, framework, story)
    assert bool(seen) == (str(story) not in AWAY), "whether the story has an effect on a host"
    faults = whole(seen, framework) if str(story) in WHOLE else slice_of(seen, framework, STORIES.index(story))
    wrong = []
    for fault in faults:
        try:
            tell(desk, framework, story, fault)
        except AssertionError as error:
            wrong.append(f"{seen[fault.nth]} #{fault.nth} {fault.when} {errno.errorcode[fault.number]}: {error}")
    assert not wrong, "\n".join(wrong)
