"""Every write to the kernel of every operation, with every errno, before and after its effect.

Whatever the kernel says, the operation ends or is stuck until an operator lets it go on; then devices, records,
allocations and domains agree.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from lamina.saga.log import State
from tests.faults.desk import Desk
from tests.faults.stories import STORIES, Story
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


class Kernel:
    """Counts the writes of a whole world, and makes one of them fail."""

    def __init__(self, world: World, number: int, when: str, fail_at: int) -> None:
        self.writes = 0
        self._number = number
        self._fail_at = fail_at
        for host in world.hosts.values():
            host.kernel.before_write = self._before if when == "before" else self._count
            if when == "after":
                host.kernel.after_write = self._after

    def _count(self, path: str, text: str) -> None:
        self.writes += 1

    def _before(self, path: str, text: str) -> None:
        self.writes += 1
        if self.writes == self._fail_at:
            raise OSError(self._number, os.strerror(self._number), path)

    def _after(self, path: str, text: str) -> None:
        if self.writes == self._fail_at:
            raise OSError(self._number, os.strerror(self._number), path)


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


#: kinds of operations, and stories, that leave the vGPUs that there are as they are
QUIET = frozenset(
    {"pause", "power", "rebuild", "rescue", "snapshot", "suspend", "resize a stopped server", "delete a shelved server"}
)


def cases() -> Iterator[Any]:
    """Every errno for one story of each kind of operation; what the kernel asks to wait for and what it cannot do for the others."""
    told: set[str] = set()
    for story in STORIES:
        numbers = ERRNOS if story.kind not in told else (errno.EBUSY, errno.EIO)
        told.add(story.kind)
        for number in numbers:
            yield pytest.param(story, number, id=f"{story}-{errno.errorcode[number]}".replace(" ", "-"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("story", "number"), list(cases()))
@pytest.mark.weakness(755)
def test_each_write_refused(world: World, story: Story, number: int, when: str) -> None:
    server_id = story.prepare(world)
    kernel = Kernel(world, number, when, fail_at=1)
    server_id = story.begin(world, server_id)
    world.settle()
    for row in world.operations():
        assert row.state == State.STUCK, "an operation neither ended nor waits for an operator"
        assert row.error is not None
        assert row.error["code"].startswith("lamina.device"), row.error
        world.plane.runner.resume(row.id)
        world.settle()
    mend(world, story, server_id)
    world.check()
    quiet = story.kind in QUIET or story.name in QUIET or "plain server" in story.name
    assert kernel.writes or quiet, "the story writes to the kernel"
    assert world.server(server_id).task_state is None
