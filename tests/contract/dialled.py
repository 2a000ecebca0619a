"""A control plane that listens for agents on a real loopback port, and agents that dial in from threads of this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lamina.cli.listening import bind, listening_for_agents, names_of, url_of
from lamina.hosts.dialing import Agent
from lamina.hosts.directory import Compute, Hosts
from lamina.hosts.join_tokens import JoinToken
from lamina.hosts.joining import join
from lamina.hosts.membership import Membership
from lamina.hosts.remote import RemoteCompute
from lamina.model.clock import SystemClock
from lamina.model.settings import Settings
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.store import schema
from lamina.store.database import Database

WAIT = 20.0


@contextlib.contextmanager
def control_plane(state: Path, shared: Path | None = None) -> Iterator[ControlPlane]:
    """Nothing runs in it but the listener for agents. With `shared`, the database and the authority are another one's, in its state."""
    state.mkdir(exist_ok=True)
    (state / "images").mkdir(exist_ok=True)
    db = Database.at(shared or state)
    schema.upgrade(db)
    with contextlib.closing(db), contextlib.closing(bind("--agents", "127.0.0.1:0")) as door:
        names = names_of(door, ())
        settings = Settings(state=state, shared=shared, agents_url=url_of("https", door, names[0]))
        plane = ControlPlane.assemble(settings, db, SystemClock(), Hosts(), KINDS)
        with listening_for_agents(plane, door, names):
            yield plane


def joined(plane: ControlPlane, host: str, state: Path) -> Membership:
    """A host that has joined."""
    _, text = enrolment.new_token(plane, host, 3600.0)
    assert plane.settings.agents_url is not None
    return join([plane.settings.agents_url], JoinToken.parse(text), host, state, SystemClock())


@contextlib.contextmanager
def dialled(
    plane: ControlPlane, membership: Membership, compute: Compute, watch: Callable[[Callable[[], None]], None] | None = None
) -> Iterator[RemoteCompute]:
    """The compute service as the control plane reaches it while its agent runs; ends with a clean stop of the agent.

    `watch` is given what the agent wants to be called when something changes.
    """
    ready, started = threading.Event(), threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        ending = asyncio.Event()
        stop.append((asyncio.get_running_loop(), ending))
        started.set()
        agent = Agent(membership, compute, SystemClock(), ready.set)
        if watch is not None:
            watch(agent.changed)
        await agent.run(ending)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(WAIT), "the agent was not heard"
        remote = plane.hosts.of(membership.host)
        assert isinstance(remote, RemoteCompute)
        yield remote
    finally:
        started.wait(WAIT)
        loop, ending = stop[0]
        loop.call_soon_threadsafe(ending.set)
        thread.join(WAIT)
        assert not thread.is_alive(), "the agent did not stop"
