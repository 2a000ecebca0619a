"""`lamina agent`: the compute service of this machine as a process of its own, which dials in where it has joined."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lamina.cli import logs
from lamina.cli.state import agent_state, held

if TYPE_CHECKING:
    from lamina.agent.compute import ComputeService
    from lamina.hosts.membership import Membership
    from lamina.model.clock import Clock


@click.command("agent", help="Run servers on this machine for the Lamina that 'lamina join' has made it a host of.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="agent.toml.  [default: /etc/lamina/agent.toml]")
@click.option("--fleet", metavar="FILE|demo", help="Run a simulated host of a fleet file instead of this machine.")
@click.option("--host", metavar="NAME", help="Which host of the fleet file.  [default: its only one]")
@click.option("--state", type=click.Path(path_type=Path), help="The agent's state directory.  [default: /var/lib/lamina for root]")
@logs.option
def command(config: Path | None, fleet: str | None, host: str | None, state: Path | None, log_level: str) -> None:
    from lamina.agent.closed import must_be_closed
    from lamina.hosts.dialing import Agent
    from lamina.hosts.membership import Membership
    from lamina.hosts.private_files import make_private
    from lamina.model.clock import SystemClock
    from lamina.model.errors import BadRequest, Conflict

    if fleet is None and host is not None:
        raise BadRequest("--host: chooses a host of a fleet file; a real host is named by 'lamina join --name'")
    if fleet is not None and config is not None:
        raise BadRequest("--config: a simulated host has its settings in the fleet file")
    logs.configure(log_level)
    make_private()
    state = state or agent_state()
    joined = Membership.read(state)
    must_be_closed(state, joined.folder / "key.pem")
    with held(state / "agent.lock", f"another agent is running on {state}"):
        clock = SystemClock()
        name, compute = _simulated(fleet, host, joined, state, clock) if fleet else _real(config, joined, state, clock)
        if name != joined.host:
            raise Conflict(f"This host joined as {joined.host}, and is called {name} in its settings: make them one.")
        agent = Agent(joined, compute, clock, ready=lambda: click.echo(f"ready {name}"))
        compute.on_change(agent.changed)
        asyncio.run(_until_told(agent.run))


def _simulated(fleet: str, host: str | None, joined: Membership, state: Path, clock: Clock) -> tuple[str, ComputeService]:
    from lamina.agent.simulated.host import simulated_host
    from lamina.cli.fleet_option import load_fleet
    from lamina.hosts.contents import RemoteDepot
    from lamina.model.errors import BadRequest

    hosts = {described.name: described for described in load_fleet(fleet).hosts}
    if host is None and len(hosts) > 1:
        raise BadRequest(f"--host: the fleet file has {len(hosts)} hosts, and an agent runs one of them")
    if host is not None and host not in hosts:
        raise BadRequest(f"--host: the fleet file has no host {host!r}")
    described = hosts[host] if host is not None else next(iter(hosts.values()))
    return described.name, simulated_host(described, state, clock, RemoteDepot(joined)).compute


def _real(config: Path | None, joined: Membership, state: Path, clock: Clock) -> tuple[str, ComputeService]:
    from lamina.cli.this_machine import this_machine
    from lamina.hosts.contents import RemoteDepot, RemoteImages

    return this_machine(config, state, clock, RemoteImages(joined), RemoteDepot(joined), host=joined.host)


async def _until_told(run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """SIGTERM or SIGINT, answered with a clean stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(stop)
