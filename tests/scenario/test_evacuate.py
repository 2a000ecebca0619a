"""Hosts that die, or are only cut off: their servers are evacuated, and when such a host returns it has nothing of them any more."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from openstack.connection import Connection
from openstack.exceptions import BadRequestException

from lamina.agent.simulated.machine import Machine
from lamina.model.hosts import PowerState
from tests.scenario.agents import Agent, ControlPlane
from tests.scenario.cloud import eventually, gpu, host, running
from tests.scenario.conftest import Launch

HOSTS = ("one", "two")


class Fleet:
    """A control plane, and two hosts that have joined it."""

    def __init__(self, cloud: ControlPlane, agents: dict[str, Agent]) -> None:
        self.cloud = cloud
        self.agents = agents
        self.conn = cloud.connect()
        cloud.until(self.conn, one="up", two="up")
        self.flavor = cloud.flavor(self.conn, "two-vgpus", resources__VGPU="2")

    def machine(self, name: str) -> Machine:
        """The machine itself, as its file has it."""
        return Machine(self.agents[name].state / "machines" / f"{name}.json")

    def runs(self, name: str) -> dict[str, bool]:
        """Server's id -> whether its domain is on, by what the machine itself has."""
        return {uuid: domain.power_state is PowerState.RUNNING for uuid, domain in self.machine(name).state.domains.items()}


@pytest.fixture
def fleet(framework: str, tmp_path: Path) -> Iterator[Fleet]:
    hosts = [host(name, gpu("0000:81:00.0", framework), networks=("public",)) for name in HOSTS]
    with ExitStack() as stack:
        cloud = ControlPlane(tmp_path, hosts)
        stack.enter_context(running(cloud))
        yield Fleet(cloud, {name: stack.enter_context(cloud.host(name)) for name in HOSTS})


def placed(fleet: Fleet, name: str) -> Any:
    network = fleet.conn.network.find_network("public")
    assert network is not None
    return fleet.cloud.server(
        fleet.conn, f"on-{name}", fleet.flavor, availability_zone=f"nova:{name}", networks=[{"uuid": network.id}]
    )


def migration_of(conn: Connection, server_id: str) -> Any:
    (found,) = conn.compute.migrations(instance_uuid=server_id)
    return found


def evacuated(fleet: Fleet, server_id: str) -> Any:
    """The server on the other host, where it is left stopped from version 2.95 on, once it has been started."""
    fleet.conn.compute.evacuate_server(server_id)
    arrived = fleet.cloud.settled(fleet.conn, server_id, "SHUTOFF")
    assert arrived.compute_host == "two"
    fleet.conn.compute.start_server(arrived)
    return fleet.cloud.settled(fleet.conn, server_id, "ACTIVE")


@pytest.mark.parametrize("how", ["rebooted", "cut off"])
def test_a_host_that_returns_has_nothing_of_what_was_evacuated(fleet: Fleet, how: str) -> None:
    cloud, conn, agent = fleet.cloud, fleet.conn, fleet.agents["one"]
    server, stays = placed(fleet, "one"), placed(fleet, "two")
    ports = {(p.network_id, p.mac_address) for p in conn.network.ports(device_id=server.id)}
    before = {d["uuid"] for d in cloud.devices(conn, "one")}
    assert (cloud.counts(conn, "one"), cloud.counts(conn, "two")) == (2, 2)
    with pytest.raises(BadRequestException, match="Compute service of one is still in use"):
        conn.compute.evacuate_server(server.id)

    if how == "cut off":
        agent.pause()
    else:
        agent.stop(signal.SIGKILL)
    cloud.until(conn, one="down", two="up")
    moved = evacuated(fleet, server.id)
    assert moved.compute_host == "two"
    assert cloud.counts(conn, "two") == 4
    assert cloud.usage(conn, "one") == 2, "what the host may still have is paid for"
    assert not before & {d["uuid"] for d in cloud.devices(conn, "two")}
    assert {(p.network_id, p.mac_address) for p in conn.network.ports(device_id=server.id)} == ports
    assert migration_of(conn, server.id).status == "done"
    assert fleet.runs("one") == {server.id: True}, "nobody has switched the machine off"

    if how == "rebooted":
        fleet.machine("one").reboot()
    if how == "cut off":
        agent.go_on()
    else:
        agent.start()
    cloud.until(conn, one="up", two="up")
    eventually(lambda: migration_of(conn, server.id).status, lambda status: status == "completed", 60.0)
    assert fleet.runs("one") == {}
    assert fleet.machine("one").state.disks == {}
    assert fleet.runs("two") == {server.id: True, stays.id: True}
    assert (cloud.counts(conn, "one"), cloud.counts(conn, "two")) == (0, 4)
    assert placed(fleet, "one").compute_host == "one"
    assert cloud.counts(conn, "one") == 2


def test_a_server_that_was_evacuated_and_deleted_leaves_nothing(fleet: Fleet) -> None:
    cloud, conn, agent = fleet.cloud, fleet.conn, fleet.agents["one"]
    server = placed(fleet, "one")
    agent.stop(signal.SIGKILL)
    cloud.until(conn, one="down", two="up")
    evacuated(fleet, server.id)
    cloud.delete(conn, server.id)
    assert (cloud.usage(conn, "one"), cloud.counts(conn, "two")) == (2, 0)
    agent.start()
    cloud.until(conn, one="up", two="up")
    eventually(lambda: cloud.usage(conn, "one"), lambda used: used == 0, 60.0)
    assert cloud.counts(conn, "one") == 0
    assert fleet.runs("one") == {}


def test_the_host_that_was_called_down_is_switched_off_first(launch: Launch, framework: str) -> None:
    """It answers all the same: the server runs in one place at any time, and what it left goes by itself."""
    cloud = launch(*(host(name, gpu("0000:81:00.0", framework)) for name in HOSTS))
    conn = cloud.connect()
    flavor = cloud.flavor(conn, "two-vgpus", resources__VGPU="2")
    server = cloud.server(conn, "s", flavor, availability_zone="nova:one")
    service = next(s for s in conn.compute.services() if s.host == "one")
    conn.compute.update_service_forced_down(service, forced=True)
    conn.compute.evacuate_server(server.id)
    moved = eventually(lambda: conn.compute.get_server(server.id), lambda s: s.compute_host == "two" and s.task_state is None)
    assert moved.status == "SHUTOFF"
    eventually(lambda: migration_of(conn, server.id).status, lambda status: status == "completed", 60.0)
    assert (cloud.counts(conn, "one"), cloud.counts(conn, "two")) == (0, 2)
    conn.compute.start_server(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    assert cloud.counts(conn, "two") == 2

