"""A disk without room: what could not be written down has not happened, and the operation goes on once there is room."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lamina.agent import journal
from lamina.model.errors import LaminaError, Unavailable
from lamina.model.servers import VmState
from lamina.operations import delete, reconcile
from lamina.saga.log import State
from tests.faults.stories import STORIES, Story
from tests.faults.test_every_step import mend
from tests.faults.world import CALLER, FRAMEWORKS, ONE, TWO, World


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, request.param)
    yield made
    made.plane.db.close()


def come_to_rest(world: World) -> None:
    """There is room again."""
    for _ in range(3):
        world.clock.sleep(world.plane.settings.lease + 1)
        for host in world.hosts:
            reconcile.host(world.plane, host)
        world.settle()
        for row in world.operations():
            assert row.state == State.STUCK
            assert row.error is not None
            assert row.error["code"] != LaminaError.code, row.error
            world.plane.runner.resume(row.id)


@pytest.mark.parametrize("room_for", [0, 2])
@pytest.mark.parametrize("story", STORIES, ids=lambda s: str(s).replace(" ", "-"))
@pytest.mark.weakness(754)
def test_no_room_for_the_journal(world: World, story: Story, room_for: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `room_for` writes the disk of the hosts is full until the operation has ended or is stuck."""
    server_id = story.prepared(world)
    written, replace = [0], journal.replace_durably

    def full(path: Path, content: bytes) -> None:
        written[0] += 1
        if written[0] > room_for:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        replace(path, content)

    monkeypatch.setattr(journal, "replace_durably", full)
    server_id = story.begin(world, server_id)
    world.settle()
    for row in world.operations():
        assert row.error is not None
        assert "No space left" in row.error["message"] or row.state != State.STUCK
    monkeypatch.setattr(journal, "replace_durably", replace)
    come_to_rest(world)
    mend(world, story, server_id)
    world.check()


class FullDatabase:
    """Every statement that writes fails as on a full disk, from the n-th on."""

    def __init__(self, world: World, room_for: int) -> None:
        self.left = room_for
        self._engine = world.plane.db.engine
        sa.event.listen(self._engine, "before_cursor_execute", self._before)

    def _before(self, _connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self.left -= 1
            if self.left < 0:
                pages = cursor.execute("PRAGMA page_count").fetchone()[0]
                cursor.execute(f"PRAGMA max_page_count = {pages}")

    def relieve(self) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._before)
        self._engine.dispose()


@pytest.mark.parametrize("room_for", [0, 9, 25, 60])
def test_no_room_for_the_records(world: World, room_for: int) -> None:
    """SQLite refuses what it cannot keep, as an error that is told as such, and nothing of it is there."""
    first = world.created(TWO)
    disk = FullDatabase(world, room_for)
    refused = 0
    for _ in range(200):
        try:
            world.create(ONE)
            world.settle()
        except Unavailable:
            refused += 1
            break
    assert refused, "the disk was never full"
    disk.relieve()
    world.begin()
    come_to_rest(world)
    with world.plane.db.read() as tx:
        ids = [row.id for row in tx.execute(sa.text("SELECT id FROM servers WHERE deleted_at IS NULL"))]
    world.check()
    assert world.server(first.id).vm_state is VmState.ACTIVE
    for server_id in ids:
        delete.request(world.plane, CALLER, server_id)
    world.settle()
    world.check()
    assert world.free() == {}
