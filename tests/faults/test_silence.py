"""A host that does not answer: what is stuck for it waits, visibly, and goes on by itself once it answers."""

from __future__ import annotations

from typing import Any

import pytest

from lamina.hosts.directory import Compute
from lamina.model.errors import HostUnreachable
from lamina.model.servers import VmState
from lamina.operations import confirm, delete, reconcile, resize, shelve
from lamina.saga.log import State
from lamina.store import images
from tests.faults.desk import Desk
from tests.faults.world import CALLER, FRAMEWORKS, ONE, TWO, World


class Silent:
    """A host that answers nothing but a report, as one that has just been heard of."""

    def __init__(self, compute: Compute) -> None:
        self.report = compute.report

    def __getattr__(self, name: str) -> Any:
        def call(*_given: Any) -> Any:
            raise HostUnreachable("The host does not answer.")

        return call


@pytest.fixture(params=FRAMEWORKS)
def world(request: pytest.FixtureRequest, desk: Desk) -> World:
    return World.on(desk, request.param)


def silenced(world: World, name: str) -> None:
    """Begin anew with one host silent."""
    plane = world.begin()
    plane.hosts.join(name, Silent(plane.hosts.of(name)))


def test_a_creation_keeps_paying_for_what_a_silent_host_may_hold(world: World) -> None:
    """Nobody knows whether the host made the vGPU; once it answers, the creation turns back there and goes elsewhere."""
    answering = world.created(ONE).host
    assert answering is not None
    quiet = next(name for name in world.hosts if name != answering)
    silenced(world, quiet)
    (server,) = world.create(ONE)
    world.settle()
    (stuck,) = world.operations()
    assert (stuck.state, stuck.kind) == (State.STUCK, "create")
    world.begin()
    world.settle()
    world.check()
    made = world.server(server.id)
    assert (made.vm_state, made.host) == (VmState.ACTIVE, answering)


@pytest.mark.parametrize("what", ["delete", "confirm"])
def test_what_is_past_its_point_of_no_return_waits_and_goes_on_by_itself(world: World, what: str) -> None:
    server = world.created(TWO)
    if what == "confirm":
        resize.request(world.plane, CALLER, server.id, ONE)
        world.settle()
    assert server.host is not None
    silenced(world, server.host)
    (confirm if what == "confirm" else delete).request(world.plane, CALLER, server.id)
    world.settle()
    (stuck,) = world.operations()
    assert stuck.state == State.STUCK
    assert stuck.error is not None
    assert stuck.error["host"] == server.host

    world.begin()  # its first look at each host finds this one answering
    reconcile.host(world.plane, server.host)
    world.settle()
    world.check()
    assert world.server(server.id).vm_state is (VmState.DELETED if what == "delete" else VmState.ACTIVE)


def test_an_image_that_was_to_be_goes_with_its_server(world: World) -> None:
    """Shelving that waits for a silent host, and is given up for a deletion, leaves no image that nobody fills."""
    server = world.created(ONE)
    assert server.host is not None
    silenced(world, server.host)
    shelve.request(world.plane, CALLER, server.id)
    delete.request(world.plane, CALLER, server.id)
    world.settle()
    world.begin()
    reconcile.host(world.plane, server.host)
    world.settle()
    world.check()
    with world.plane.db.read() as tx:
        assert images.page(tx, limit=10) == []
