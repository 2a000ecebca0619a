"""One instance whose port had got another vnic_type kept Nova's compute service from starting again, and with it all servers of the host.

Here one record after the other is damaged before a start: the journal's, an operation's, a file of the kernel's. Each time everything
starts, the damage is named, and all other servers can be used, stopped, started and made.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa

from lamina.agent import journal
from lamina.agent.simulated.kernel import SimulatedKernel
from lamina.model import decoding
from lamina.model.hosts import PowerAction, PowerState
from lamina.model.servers import VmState
from lamina.operations import power, resize
from lamina.saga.log import State
from lamina.store import hosts
from lamina.store.tables.operations import sagas
from tests.faults.world import CALLER, ONE, TWO, World
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

_READ = SimulatedKernel.read


def damage_journal(world: World, host: str, part: str, server_id: str, field: str) -> None:
    path = world.state / "agents" / f"{host}.json"
    content = json.loads(path.read_text())
    for key, record in content[part].items():
        if server_id in (key, record.get("server_id")):
            record[field] = ["torn"]
            break
    path.write_text(json.dumps(content))


def all_others_go_on(world: World, other: str, what: str) -> None:
    try:
        world.begin()
        world.settle()
        for action, seen in ((PowerAction.OFF, PowerState.SHUTDOWN), (PowerAction.ON, PowerState.RUNNING)):
            power.request(world.plane, CALLER, other, action)
            world.settle()
            assert world.server(other).power_state is seen
        assert world.created(ONE).vm_state is VmState.ACTIVE
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def problems(world: World, host: str) -> str:
    with world.plane.db.read() as tx:
        return " ".join(hosts.get_host(tx, host).problems)


def check(stage: Stage) -> None:
    for part, field in (("vgpus", "parent"), ("vgpus", "framework"), ("vgpus", "server_id"), ("fences", "epoch")):
        world = stage.world("vfio")
        poisoned, other = (world.created(ONE, host="host1").id for _ in range(2))
        damage_journal(world, "host1", part, poisoned, field)
        all_others_go_on(world, other, f"{part} with a damaged {field}")
        assert part == "fences" or "damaged" in problems(world, "host1")

    world = stage.world()
    poisoned, other = (world.created(TWO).id for _ in range(2))
    resize.request(world.plane, CALLER, poisoned, ONE)
    (row,) = world.operations()
    world.plane.runner.advance(row.id)
    with world.plane.db.write() as tx:
        tx.execute(sa.update(sagas).where(sagas.c.id == row.id).values(params={"torn": True}))
    all_others_go_on(world, other, "parameters of an operation")
    assert [each.state for each in world.operations()] == [State.STUCK]

    world = stage.world()
    other = world.created(ONE, host="host2").id

    def torn(self: SimulatedKernel, path: str) -> str:
        if self._machine._path.stem == "host1" and "81:00.0" in path and path.endswith(("/available_instances", "/device")):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return _READ(self, path)

    with mock.patch.object(SimulatedKernel, "read", torn):
        all_others_go_on(world, other, "a file of the kernel")
        assert "81:00.0" in problems(world, "host1")


def _all_or_none(raw: Any, kind: Any) -> Any:
    return {key: decoding.from_json(bytes(text), kind) for key, text in raw.items()}, {}


def broken() -> AbstractContextManager[Any]:
    """a journal is read as a whole or not at all"""
    return mock.patch.object(journal, "_each", _all_or_none)


ROW = Row(12, ("CVE-2022-37394",), 703, "one record that keeps a service from starting", check, broken)


@pytest.mark.weakness(755)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
