"""Serving: from a state directory and an address to a process that answers, and back to nothing on SIGTERM."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lamina.agent.depot import LocalDepot
from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.agent.images import LocalImages
from lamina.agent.simulated import fleet as fleets
from lamina.agent.simulated.host import simulated_host
from lamina.api.policy import Policy
from lamina.api.rooms import ROOMS
from lamina.cli.audit_sinks import open_sink
from lamina.cli.database_option import open_database
from lamina.cli.listening import answer, bind, listening_for_agents, names_of, url_of
from lamina.cli.public_port import PublicPort
from lamina.cli.state import held
from lamina.cli.state_directory import first_start, prepare, write_clouds
from lamina.cli.this_machine import must_serve, this_machine
from lamina.hosts.directory import Hosts
from lamina.hosts.private_files import make_private
from lamina.model.clock import SystemClock
from lamina.model.driver_advisories import DriverTrust
from lamina.model.errors import BadRequest
from lamina.model.policies import PolicyName
from lamina.model.rates import Rate
from lamina.model.settings import Keystone, Settings
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.operations.image_contents import sweep
from lamina.operations.kinds import KINDS
from lamina.operations.presence import Presence
from lamina.operations.queueing import QueueKeeper
from lamina.operations.rounds import Reconciler
from lamina.store import schema

#: seconds after a start in which hosts dial in again, where other control planes may have work for them at once
FIRST_DIAL = 15.0


@dataclasses.dataclass(frozen=True, slots=True)
class Agents:
    """Where hosts of other machines dial in."""

    listen: str
    #: further names and addresses under which they reach it, the one to tell them first
    advertise: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """Simulated hosts in this process."""

    described: fleets.Fleet

    def join(self, plane: ControlPlane) -> None:
        neighbours: dict[str, SimulatedHypervisor] = {}
        for described in self.described.hosts:
            host = simulated_host(described, plane.settings.state, plane.clock, neighbours=neighbours)
            plane.hosts.join(described.name, host.compute, host.machine.reboot)
            host.compute.on_change(partial(plane.hosts.changed, described.name))


@dataclasses.dataclass(frozen=True, slots=True)
class ThisMachine:
    """This machine as a host in this process, with the settings in a file, if one is named."""

    config: Path | None

    def join(self, plane: ControlPlane) -> None:
        """Raises `BadRequest` where this machine cannot run servers with vGPUs."""
        settings = plane.settings
        images, depot = LocalImages(settings.images), LocalDepot(settings.depot)
        name, compute = this_machine(self.config, settings.state / "host", plane.clock, images, depot)
        must_serve(name, compute)
        plane.hosts.join(name, compute)
        compute.on_change(partial(plane.hosts.changed, name))


def _allow_connections() -> None:
    """As many open files as the system lets this process have: each connection is one, and 1024 is an old default."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(
    state: Path,
    port: PublicPort,
    hosts: Fleet | ThisMachine | None,
    agents: Agents | None = None,
    *,
    confirm_after: float | None,
    database: str | None,
    shared: Path | None = None,
    policy: str,
    keystone: Keystone | None = None,
    policy_file: Path | None = None,
    audit: str | None = None,
    driver_trust: DriverTrust | None = None,
    orphan_grace: float,
    service_down: float,
    address_failures: int | None,
    rate_limit: Rate | None,
    open_metrics: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the base URL once requests are answered. `hosts` are those in
    this process; those of other machines dial in where `agents` says.

    Raises `BadRequest` for what the caller has to mend, with nothing begun.
    """
    make_private()
    _allow_connections()
    if policy_file is not None:
        Policy((route for room in ROOMS for route in room.routes), policy_file)  # one that is wrong is told before anything is begun
    with contextlib.ExitStack() as stack:
        clock = SystemClock()
        door = stack.enter_context(contextlib.closing(bind("--listen", port.listen)))
        port.must_be_safe(door, clock.now())
        side_door = stack.enter_context(contextlib.closing(bind("--agents", agents.listen))) if agents else None
        names = names_of(side_door, agents.advertise) if agents and side_door else ()
        state = prepare(state)
        if shared is not None and database is None:
            raise BadRequest("--shared: control planes that share something have their records in one PostgreSQL database: --database")
        stack.enter_context(held(state / "lock", f"--state: another lamina is running on {state}"))
        common = state if shared is None else prepare(shared)
        tls = port.tls(door, agents.advertise if agents else (), common, state, clock)
        settings = Settings(
            state=state,
            shared=None if shared is None else common,
            first_dial=0.0 if database is None else FIRST_DIAL,
            public_url=port.url(door, tls),
            agents_url=url_of("https", side_door, names[0]) if side_door else None,
            resize_confirm_window=confirm_after,
            orphan_grace=orphan_grace,
            service_down=service_down,
            policy=PolicyName(policy),
            keystone=keystone,
            policy_file=policy_file,
            address_failures=address_failures,
            rate_limit=rate_limit,
            open_metrics=open_metrics,
            driver_trust=driver_trust or DriverTrust(),
        )
        # a host is asked several times before its silence counts
        settings = dataclasses.replace(settings, report_interval=min(settings.report_interval, service_down / 3))
        db = stack.enter_context(contextlib.closing(open_database(database, state)))
        schema.upgrade(db)
        if audit is not None:
            db.on_event = open_sink(audit, clock)
        if keystone is None:
            write_clouds(settings, first_start(db, common, clock), port.ca_file(common))
        plane = ControlPlane.assemble(settings, db, clock, Hosts(), KINDS, alone=db.is_sqlite)
        if hosts is not None:
            hosts.join(plane)
        enrolment.join_all(plane)
        sweep(plane)
        if side_door is not None:
            stack.enter_context(listening_for_agents(plane, side_door, names))
        reconciler, presence, keeper = Reconciler(plane), Presence(plane), QueueKeeper(plane)
        plane.start()
        if not db.is_sqlite:
            presence.start()
        reconciler.start()
        keeper.start()
        try:
            answer(plane, door, ready, tls)
        finally:
            keeper.stop()
            reconciler.stop()
            if not db.is_sqlite:
                presence.stop()
            enrolment.expect_nobody(plane)
            plane.stop()
