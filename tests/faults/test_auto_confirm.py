"""Resizes that nobody confirmed: confirmed after the window, never before, and never without one."""

from __future__ import annotations

import dataclasses

import pytest

from lamina.model.servers import Server, VmState
from lamina.operations import auto_confirm, resize, revert
from lamina.operations.control_plane import ControlPlane
from lamina.operations.rounds import Reconciler
from lamina.store import hosts
from tests.faults.desk import Desk
from tests.faults.world import CALLER, FRAMEWORKS, ONE, TWO, World

WINDOW = 600.0


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


def windowed(world: World, window: float | None = WINDOW) -> ControlPlane:
    return dataclasses.replace(world.plane, settings=dataclasses.replace(world.plane.settings, resize_confirm_window=window))


def resized(world: World) -> Server:
    server = world.created(ONE)
    resize.request(world.plane, CALLER, server.id, TWO)
    world.settle()
    assert world.server(server.id).vm_state is VmState.RESIZED
    return server


def vgpus(world: World, server: Server) -> int:
    with world.plane.db.read() as tx:
        return sum(v.server_id == server.id for v in hosts.select_vgpus(tx))


def test_what_waited_for_the_window_is_confirmed_and_the_source_is_free(world: World) -> None:
    server = resized(world)
    assert vgpus(world, server) == 3
    assert auto_confirm.overdue(windowed(world)) == []
    world.clock.sleep(WINDOW)
    assert auto_confirm.overdue(windowed(world)) == [server.id]
    assert auto_confirm.overdue(windowed(world)) == []  # under way already
    world.settle()
    assert world.server(server.id).vm_state is VmState.ACTIVE
    assert vgpus(world, server) == 2
    world.check()


def test_a_round_of_the_reconciler_confirms(world: World) -> None:
    server = resized(world)
    world.clock.sleep(WINDOW)
    reconciler = Reconciler(windowed(world))
    reconciler.all_hosts()
    reconciler.stop()
    world.settle()
    assert world.server(server.id).vm_state is VmState.ACTIVE
    assert vgpus(world, server) == 2
    world.check()


def test_without_a_window_it_waits_for_ever(world: World) -> None:
    server = resized(world)
    world.clock.sleep(1000 * WINDOW)
    assert auto_confirm.overdue(windowed(world, None)) == []
    assert world.operations() == []
    assert world.server(server.id).vm_state is VmState.RESIZED


def test_a_person_who_was_faster_is_obeyed(world: World) -> None:
    server = resized(world)
    world.clock.sleep(WINDOW)
    revert.request(world.plane, CALLER, server.id)
    assert auto_confirm.overdue(windowed(world)) == []
    world.settle()
    assert world.server(server.id).flavor == ONE
    assert vgpus(world, server) == 1
    world.check()
