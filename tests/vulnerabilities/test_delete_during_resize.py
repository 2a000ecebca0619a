"""Nova left a server's disk and domain on one of the two hosts where it was deleted in the middle of a resize or a migration, and did
not count it any more, so that it cost nothing. It came back with a later change, as CVE-2016-7498.

Here a deletion comes after each number of steps of a resize, of its confirmation and of its reversal, and nothing is left anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.operations import confirm, delete, resize, revert
from lamina.saga.steps import Kind
from tests.faults.variants import VARIANTS
from tests.faults.world import CALLER, ONE, TWO, World
from tests.vulnerabilities import stage as stages
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

(FORGETS,) = (variant for variant in VARIANTS if variant.name == "delete forgets the migration's side")


def _resize(world: World, server_id: str) -> None:
    resize.request(world.plane, CALLER, server_id, ONE)


def _after(ask: Callable[[World, str], None], then: Callable[[Any, Any, str], None]) -> Callable[[World, str], None]:
    def asked(world: World, server_id: str) -> None:
        ask(world, server_id)
        world.settle()
        then(world.plane, CALLER, server_id)

    return asked


ASKED: dict[str, tuple[Callable[[World, str], None], Kind[Any, Any]]] = {
    "resize": (_resize, resize.KIND),
    "confirm": (_after(_resize, confirm.request), confirm.KIND),
    "revert": (_after(_resize, revert.request), revert.KIND),
}


def check(stage: Stage) -> None:
    for ask, kind in ASKED.values():
        for steps in range(len(kind.steps) + 1):
            world = stage.world("mdev" if steps % 2 else "vfio")
            server = world.created(TWO)
            ask(world, server.id)
            for _ in range(steps):
                world.step()
            delete.request(world.plane, CALLER, server.id)
            world.settle()
            world.check()
            assert world.server(server.id).deleted_at is not None
            assert world.free() == {}, f"{kind.name}, deleted after {steps} steps: something is paid for"


def broken() -> AbstractContextManager[Any]:
    """a deletion forgets what the migration holds"""
    return mock.patch.object(stages, "KINDS", FORGETS.kinds())


ROW = Row(10, ("CVE-2015-3241", "CVE-2015-3280", "CVE-2016-7498"), 664, "a deletion in the middle of a resize", check, broken)


@pytest.mark.weakness(459)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
