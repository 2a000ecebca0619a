"""Nova claimed the resources of a server once more whenever it was rebuilt on its host, without giving back what it had; who rebuilt
often filled the host.

Here what a server pays for is the same before and after each rebuild, also beside a resize, and the sum of all that is paid for never
exceeds what there is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.model.policies import PolicyName
from lamina.operations import confirm, delete, rebuild, resize, revert
from lamina.saga.steps import Effect
from lamina.scheduling import claim
from lamina.scheduling.filters import Wanted
from lamina.store import allocations
from tests.faults.world import CALLER, ONE, TWO, World, replaced, with_step
from tests.vulnerabilities import stage as stages
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

_LAST = rebuild.KIND.steps[-1]
assert isinstance(_LAST, Effect)
_RUNS = _LAST.then


def paid(world: World, server_id: str) -> Any:
    with world.plane.db.read() as tx:
        found = allocations.of_consumer(tx, server_id)
    return None if found is None else found.allocations


def rebuilt(world: World, server_id: str, image_id: str | None) -> None:
    before, held = paid(world, server_id), world.vgpus(server_id)
    rebuild.request(world.plane, CALLER, server_id, image_id, {})
    world.settle()
    assert paid(world, server_id) == before, "a rebuild changes what is paid for"
    assert [v.uuid for v in world.vgpus(server_id)] == [v.uuid for v in held]
    world.check()


def check(stage: Stage) -> None:
    for framework in ("mdev", "vfio"):
        world = stage.world(framework)
        server = world.created(TWO)
        image_id = world.image()
        for _ in range(3):
            rebuilt(world, server.id, image_id)
        resize.request(world.plane, CALLER, server.id, ONE)
        world.settle()
        world.check()
        revert.request(world.plane, CALLER, server.id)
        world.settle()
        rebuilt(world, server.id, image_id)
        resize.request(world.plane, CALLER, server.id, ONE)
        world.settle()
        confirm.request(world.plane, CALLER, server.id)
        world.settle()
        rebuilt(world, server.id, image_id)
        delete.request(world.plane, CALLER, server.id)
        world.settle()
        assert world.free() == {}
        world.check()


def _claimed_once_more(work: Any, tx: Any, outcome: Any) -> None:
    assert _RUNS is not None
    _RUNS(work, tx, outcome)
    payer = claim.Payer(work.subject, "INSTANCE", work.subject, CALLER.project_id, CALLER.user_id, "again")
    wanted = Wanted(ONE.request, None, work.params.host)
    now = work.plane.clock.now()
    claim.claim(tx, work.plane.index, wanted, payer, PolicyName.PACK, now=now, service_down=1e9, beside=True)


def broken() -> AbstractContextManager[Any]:
    """a rebuild claims once more"""
    kinds = replaced(with_step(rebuild.KIND, "domain_as_before", then=_claimed_once_more))
    return mock.patch.object(stages, "KINDS", kinds)


ROW = Row(8, ("CVE-2017-17051",), 682, "a rebuild that is paid for twice", check, broken)


@pytest.mark.weakness(682)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
