"""Serving: from a state directory and an address to a process that answers, and back to nothing on SIGTERM."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lamina.agent.simulated import fleet as fleets
from lamina.agent.simulated.host import simulated_host
from lamina.api.image.content import sweep
from lamina.cli.listening import answer, bind, listening_for_agents, names_of, url_of
from lamina.cli.state import held
from lamina.cli.state_directory import first_start, prepare, write_clouds
from lamina.hosts.directory import Hosts
from lamina.model.clock import SystemClock
from lamina.model.settings import Settings
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.operations.reconcile import Reconciler
from lamina.store import schema
from lamina.store.database import Database


@dataclasses.dataclass(frozen=True, slots=True)
class Agents:
    """Where hosts of other machines dial in."""

    listen: str
    #: further names and addresses under which they reach it, the one to tell them first
    advertise: tuple[str, ...] = ()


def serve(
    state: Path,
    listen: str,
    simulated: fleets.Fleet,
    agents: Agents | None = None,
    *,
    service_down: float,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the base URL once requests are answered.

    Raises `BadRequest` for what the caller has to mend, with nothing begun.
    """
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(contextlib.closing(bind("--listen", listen)))
        side_door = stack.enter_context(contextlib.closing(bind("--agents", agents.listen))) if agents else None
        names = names_of(side_door, agents.advertise) if agents and side_door else ()
        state = prepare(state)
        stack.enter_context(held(state / "lock", f"--state: another lamina is running on {state}"))
        settings = Settings(
            state=state,
            public_url=url_of("http", door),
            agents_url=url_of("https", side_door, names[0]) if side_door else None,
            service_down=service_down,
        )
        # a host is asked several times before its silence counts
        settings = dataclasses.replace(settings, report_interval=min(settings.report_interval, service_down / 3))
        clock = SystemClock()
        db = stack.enter_context(contextlib.closing(Database.at(state)))
        schema.upgrade(db)
        write_clouds(settings, first_start(db, state, clock))
        hosts = Hosts()
        for described in simulated.hosts:
            host = simulated_host(described, state, clock)
            hosts.join(described.name, host.compute, host.machine.reboot)
            host.compute.on_change(partial(hosts.changed, described.name))
        plane = ControlPlane.assemble(settings, db, clock, hosts, KINDS)
        enrolment.join_all(plane)
        sweep(plane)
        if side_door is not None:
            stack.enter_context(listening_for_agents(plane, side_door, names))
        reconciler = Reconciler(plane)
        plane.start()
        reconciler.start()
        try:
            answer(plane, door, ready)
        finally:
            reconciler.stop()
            plane.stop()
