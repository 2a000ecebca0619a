"""Many simulated hosts in one process, each dialling in as a host of its own: ``python -m lamina.cli.fleet_bench.hosts``.

Reads one line of JSON from standard input: the state directory, the fleet, where to join and a join token a host. Says ``ready``
once each host has been answered by a control plane, and ends cleanly on SIGTERM.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

import msgspec

from lamina.agent.simulated.fleet import FleetHost, parse_fleet
from lamina.agent.simulated.host import simulated_host
from lamina.cli import logs
from lamina.hosts.contents import RemoteDepot
from lamina.hosts.dialing import Agent
from lamina.hosts.join_tokens import JoinToken
from lamina.hosts.joining import join
from lamina.model import decoding
from lamina.model.clock import SystemClock


class Task(msgspec.Struct, frozen=True):
    """What this process is to be. ``tokens`` has the secret that each host joins with."""

    state: str
    fleet: str
    url: str
    tokens: dict[str, str]


def _agent(task: Task, described: FleetHost, heard: asyncio.Semaphore) -> Agent:
    state, clock = Path(task.state) / described.name, SystemClock()
    state.mkdir(mode=0o700)
    joined = join((task.url,), JoinToken.parse(task.tokens[described.name]), described.name, state, clock)
    compute = simulated_host(described, state, clock, RemoteDepot(joined)).compute
    agent = Agent(joined, compute, clock, ready=heard.release)
    compute.on_change(agent.changed)
    return agent


async def run(task: Task) -> None:
    described = parse_fleet(task.fleet).hosts
    stop, heard = asyncio.Event(), asyncio.Semaphore(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        for one in described:
            agent = await asyncio.to_thread(_agent, task, one, heard)
            group.create_task(agent.run(stop))
        for _ in described:
            await heard.acquire()
        print("ready", flush=True)  # noqa: T201 - read by who has started this


def main() -> None:
    logs.configure("error")
    # two lines a host, and the files of each
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(run(decoding.from_json(sys.stdin.buffer.readline(), Task)))


if __name__ == "__main__":
    main()
