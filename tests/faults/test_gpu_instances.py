"""GPU instances are made and removed with their vGPUs, whatever is killed or fails on the way: the same stories on MIG cards.

`World.check` holds the GPU instances of every machine against the vGPUs that stand on them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import test_errno, test_every_step
from tests.faults.desk import Desk
from tests.faults.effects import Fault
from tests.faults.stories import STORIES, Story
from tests.faults.world import World

#: the steps that make vGPUs or remove them
TOUCHING = test_every_step.cases(lambda step: "vgpus" in step.name or step.name in ("removed_from_hosts", "source_removed"))
of_each_step = pytest.mark.parametrize(("story", "step"), TOUCHING)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "mig")
    yield made
    made.plane.db.close()


@pytest.mark.parametrize("point", ["before-do", "after-do", "logged"])
@of_each_step
def test_killed(world: World, story: Story, step: str, point: str) -> None:
    test_every_step.test_killed(world, story, step, point, alone=True)


@pytest.mark.parametrize("when", ["before", "after"])
@of_each_step
def test_failed(world: World, story: Story, step: str, when: str) -> None:
    test_every_step.test_failed(world, story, step, when)


@of_each_step
def test_run_twice(world: World, story: Story, step: str) -> None:
    test_every_step.test_run_twice(world, story, step)


@of_each_step
def test_deleted_in_the_middle(world: World, story: Story, step: str) -> None:
    test_every_step.test_deleted_in_the_middle(world, story, step)


#: kinds of operations, and stories, that leave the vGPUs that there are as they are
QUIET = frozenset({"pause", "power", "rebuild", "rescue", "snapshot", "suspend", "resize a stopped server", "delete a shelved server"})


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("story", STORIES, ids=lambda s: str(s).replace(" ", "-"))
def test_a_write_refused(desk: Desk, story: Story, when: str) -> None:
    seen = test_errno.effects_of(desk, "mig", story)
    quiet = story.kind in QUIET or story.name in QUIET or "plain server" in story.name
    assert "kernel" in seen or quiet, "the story writes to the kernel"
    if "kernel" in seen:
        test_errno.tell(desk, "mig", story, Fault(seen.index("kernel"), when, errno.EIO))
