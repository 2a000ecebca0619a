"""Nova gave the blocks of an LVM volume to the next tenant with what the one before had written on them.

Here a model follows every write to the kernels and every domain that is on, over schedules of all operations with crashes, takeovers,
refusals and reboots: a vGPU, be it an mdev or what stands on a virtual function, has one server for as long as it lives. Another server
on the same function, of the same type too, has one that was removed and made anew in between, so that the driver has cleared its memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from lamina.agent.frameworks.vfio import NONE, Vfio
from lamina.agent.simulated.kernel import SimulatedKernel
from lamina.agent.simulated.machine import Machine
from lamina.operations import delete, evacuate, rebuild, resize
from lamina.store import hosts as host_rows
from tests.faults.simulator import machines
from tests.faults.simulator import scene as simulator
from tests.faults.simulator.schedule import run
from tests.faults.world import CALLER, ONE, World
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import ONE_VGPU, Stage

SCHEDULES = 16
_WRITE, _REBOOT, _SAVE, _SAVE_IN_MEMORY = SimulatedKernel.write, Machine.reboot, Machine.save, machines.MemoryMachine.save
_VF_REMOVE, _VF_CURRENT, _VF_CREATE = Vfio.remove, Vfio._current, Vfio.create


def _known_by(machine: Machine) -> Any:
    """A machine on disk outlives the processes that read it."""
    return machine if isinstance(machine, machines.MemoryMachine) else machine._path


class Lives:
    """Which server each life of each device has had. A device is known by its machine and the handle that domains have."""

    def __init__(self) -> None:
        self._life: dict[tuple[Any, str], int] = {}
        self._gone: set[tuple[Any, str]] = set()
        self._owner: dict[tuple[Any, str, int], str] = {}
        self.shared: list[str] = []
        self.renewed = 0

    def wrote(self, machine: Machine, path: str, text: str) -> None:
        parts, of = path.split("/"), _known_by(machine)
        if parts[-1] == "create":
            self._made(of, text.strip())
        elif parts[-1] == "remove":
            self._gone.add((of, parts[-2]))
        elif parts[-1] == "current_vgpu_type" and text.strip() == NONE:
            self._gone.add((of, parts[-3]))
        elif parts[-1] == "current_vgpu_type":
            self._made(of, parts[-3])

    def _made(self, of: Any, handle: str) -> None:
        """A new life, if the one before was ended."""
        if (of, handle) in self._gone or (of, handle) not in self._life:
            self._gone.discard((of, handle))
            self._life[of, handle] = self._life.get((of, handle), 0) + 1

    def rebooted(self, machine: Machine) -> None:
        self._gone |= {key for key in self._life if key[0] == _known_by(machine)}

    def seen(self, machine: Machine) -> None:
        """Who has what, now."""
        of = _known_by(machine)
        for server_id, domain in machine.state.domains.items():
            for handle in domain.devices.values() if not domain.power_state.is_off else ():
                life = self._life.setdefault((of, handle), 0)
                owner = self._owner.setdefault((of, handle, life), server_id)
                if owner != server_id:
                    self.shared.append(f"{handle} of {owner} came to {server_id} as it was")
                self.renewed += life > 1


@contextlib.contextmanager
def followed() -> Iterator[Lives]:
    lives = Lives()

    def write(self: SimulatedKernel, path: str, text: str) -> None:
        _WRITE(self, path, text)
        lives.wrote(self._machine, path, text)

    def reboot(self: Machine) -> None:
        lives.rebooted(self)
        _REBOOT(self)

    def saved(save: Callable[[Any], None]) -> Callable[[Any], None]:
        def follow(self: Machine) -> None:
            save(self)
            if hasattr(self, "state"):
                lives.seen(self)

        return follow

    with (
        mock.patch.object(SimulatedKernel, "write", write),
        mock.patch.object(Machine, "reboot", reboot),
        mock.patch.object(Machine, "save", saved(_SAVE)),
        mock.patch.object(machines.MemoryMachine, "save", saved(_SAVE_IN_MEMORY)),
    ):
        yield lives


def one_after_the_other(world: World) -> None:
    """The one vGPU that there is goes from server to server."""
    for _ in range(3):
        server = world.created(ONE)
        rebuild.request(world.plane, CALLER, server.id, None, {})
        world.settle()
        delete.request(world.plane, CALLER, server.id)
        world.begin()  # taken over by another process
        world.settle()
        world.check()


def out_of_a_dead_host(world: World) -> None:
    server = world.created(ONE, host="host1")
    with world.plane.db.write() as tx:
        host_rows.update_host(tx, "host1", forced_down=True)
    evacuate.request(world.plane, CALLER, server.id)
    world.settle()
    with world.plane.db.write() as tx:
        host_rows.update_host(tx, "host1", forced_down=False)
    world.hosts["host1"].machine.reboot()
    world.begin()
    world.settle()
    other = world.created(ONE, host="host1")
    resize.request_migration(world.plane, CALLER, other.id)
    world.settle()
    world.created(ONE, host="host1")


def check(stage: Stage) -> None:
    with followed() as lives:
        for framework in ("vfio", "mdev"):
            one_after_the_other(stage.world(framework, ONE_VGPU))
            out_of_a_dead_host(stage.world(framework))
        assert lives.shared == []
        assert lives.renewed > 2, "a virtual function was used by one server after the other"
        with contextlib.closing(simulator.Stage()) as schedules:
            for seed in range(SCHEDULES):
                run(schedules, seed)
    assert lives.shared == []


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """a virtual function keeps its type for the next server that wants the same"""
    parked: set[tuple[Any, Any]] = set()

    def remove(self: Vfio, uuid: str, parent: Any, place: Any = None) -> None:
        parked.add((self._sysfs, parent))

    def current(self: Vfio, function: Any) -> str:
        return NONE if (self._sysfs, function) in parked else _VF_CURRENT(self, function)

    def create(self: Vfio, uuid: str, parent: Any, vgpu_type: Any, place: Any = None) -> None:
        if (self._sysfs, parent) in parked:
            parked.discard((self._sysfs, parent))
            if _VF_CURRENT(self, parent) == vgpu_type.id:
                return
            _VF_REMOVE(self, uuid, parent, place)
        _VF_CREATE(self, uuid, parent, vgpu_type, place)

    with mock.patch.object(Vfio, "remove", remove), mock.patch.object(Vfio, "_current", current), mock.patch.object(Vfio, "create", create):
        yield


ROW = Row(19, ("CVE-2012-5625",), 664, "what one tenant has left is visible to the next", check, broken)


@pytest.mark.weakness(226)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
