"""Nova's rebuild took another image without asking the scheduler's filters, so that a server came to run where it was not allowed to.
The first mending brought CVE-2017-17051 about.

Here whatever gives a server a vGPU or a host that it did not have has asked one and the same function, `scheduling.filters.why_not`,
about that host; a rebuild gives it neither.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.scheduling import choice, filters
from lamina.store import hosts
from tests.faults.stories import STORIES, Story
from tests.faults.world import World
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

_WHY_NOT = filters.why_not


def asked_for_all_that_is_new(world: World, story: Story) -> bool:
    """Whether the operation gave the server anything that it did not have."""
    server_id = story.prepared(world)
    before, host = _held(world), world.server(server_id).host if server_id else None
    let_through: set[str] = set()

    def counted(state: Any, wanted: Any) -> str | None:
        said = _WHY_NOT(state, wanted)
        if said is None:
            let_through.add(state.name)
        return said

    with mock.patch.object(filters, "why_not", counted):
        server_id = story.begin(world, server_id)
        world.settle()
    new = {vgpu.host for uuid, vgpu in _held(world).items() if uuid not in before}
    now_on = world.server(server_id).host
    if now_on not in (None, host) and not world.server(server_id).deleted_at:
        new.add(str(now_on))
    if story.kind == "revert":
        new.discard(str(now_on))  # it goes back to what it has never given up
    assert new <= let_through, f"{story}: placed on {new - let_through} without the filters having been asked"
    return bool(new)


def _held(world: World) -> dict[str, hosts.Vgpu]:
    with world.plane.db.read() as tx:
        return {vgpu.uuid: vgpu for vgpu in hosts.select_vgpus(tx)}


#: one for each kind of operation, and what differs in where it places
TOLD = {story.kind: story for story in reversed(STORIES)} | {str(s): s for s in STORIES if str(s) in ("cold migrate", "resize on one host")}


def check(stage: Stage) -> None:
    placing = {story.kind for story in TOLD.values() if asked_for_all_that_is_new(stage.world(), story)}
    assert placing >= {"create", "resize", "live_migrate", "evacuate", "unshelve", "attach"}
    assert "rebuild" not in placing


def broken() -> AbstractContextManager[Any]:
    """a choice is made without the filters"""
    return mock.patch.object(choice, "filters", types.SimpleNamespace(why_not=lambda *_: None))


ROW = Row(9, ("CVE-2017-16239",), 284, "an operation that passes the scheduler by", check, broken)


@pytest.mark.weakness(285)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
