"""Two requests were given the same port: in Nova's VMware driver two domains got one VNC port by a race (CVE-2014-8750), and a console's
token went on to be good after the port had become another tenant's (CVE-2013-0335).

Here two servers that want the last vGPU are moved against each other at every step, and exactly one gets it. There are no tokens of
consoles and no proxy: where a console is, the server's own host is asked each time, and of a server that is gone nobody is told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.agent.compute import ComputeService
from lamina.model.hosts import Console
from lamina.model.servers import VmState
from lamina.operations import create, delete
from lamina.store import allocations
from tests.faults.world import CALLER, ONE, World
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import ONE_VGPU, Stage

_REPLACE = allocations.replace

NOVNC = {"remote_console": {"protocol": "vnc", "type": "novnc"}}


def one_of_two_gets_it(world: World, before: int, meanwhile: int) -> None:
    """The first goes some steps, the second some others, then both to their end."""
    made = world.create(ONE, count=2)
    first, second = (row.id for row in world.operations())
    for saga_id, steps in ((first, before), (second, meanwhile)):
        for _ in range(steps):
            world.plane.runner.advance(saga_id)
    world.settle()
    world.check()
    states = sorted(world.server(server.id).vm_state for server in made)
    assert states == sorted((VmState.ACTIVE, VmState.ERROR)), f"after {before} and {meanwhile} steps: {states}"
    for server in made:
        delete.request(world.plane, CALLER, server.id)
    world.settle()
    world.check()


def a_console_goes_with_its_server(stage: Stage) -> None:
    with stage.cloud() as cloud:
        cloud.join("eve", "member")
        server_id = cloud.boot()
        path = f"/compute/v2.1/servers/{server_id}/remote-consoles"
        with mock.patch.object(ComputeService, "console", return_value=Console("vnc", "192.0.2.7", 5901)):
            told = cloud.ask("POST", path, NOVNC).json()["remote_console"]
            assert told == NOVNC["remote_console"] | {"url": "vnc://192.0.2.7:5901"}, "an address, and nothing that is good for anything"
            assert cloud.ask("POST", path, NOVNC, user="eve").status_code == 404
            cloud.ask("DELETE", f"/compute/v2.1/servers/{server_id}")
            cloud.world.settle()
            reused = cloud.boot(user="eve")
            assert cloud.ask("POST", path, NOVNC).status_code == 404
            assert cloud.ask("POST", path.replace(server_id, reused), NOVNC).status_code == 404


def check(stage: Stage) -> None:
    world = stage.world("vfio", ONE_VGPU)
    for before in range(len(create.KIND.steps) + 1):
        for meanwhile in range(len(create.KIND.steps) + 1):
            one_of_two_gets_it(world, before, meanwhile)
    a_console_goes_with_its_server(stage)


def broken() -> AbstractContextManager[Any]:
    """a claim pays for no vGPU"""

    def unpaid(tx: Any, consumer_id: str, wanted: Any, **more: Any) -> Any:
        left = {provider: {name: n for name, n in amounts.items() if name != "VGPU"} for provider, amounts in wanted.items()}
        return _REPLACE(tx, consumer_id, {provider: amounts for provider, amounts in left.items() if amounts}, **more)

    return mock.patch.object(allocations, "replace", unpaid)


ROW = Row(
    11,
    ("CVE-2014-8750", "CVE-2013-0335"),
    691,
    "one port or device given to two, and a console's token that outlives its server",
    check,
    broken,
    note="Lamina has no proxy for consoles and so no tokens of them. A viewer that reaches the host's VNC port reaches whoever has "
    "the port then: displays listen on the loopback address unless `agent.toml` says otherwise, and should stay behind a tunnel.",
)


@pytest.mark.weakness(362)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
