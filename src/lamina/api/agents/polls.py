"""The long poll: what a host did goes up, what it is to do comes down; without anything to do it is parked."""

from __future__ import annotations

import asyncio

import anyio.to_thread

from lamina.api.routing import Reply, Request
from lamina.hosts.mailbox import Mailbox
from lamina.hosts.wire import PARK, Calls, Poll
from lamina.operations import enrolment


async def poll(request: Request) -> Reply:
    """Answers when there is a call, when another poll of the host takes its place, or after a while with nothing.

    The first poll of a session is answered at once, so that a host knows that it is heard.
    """
    said = request.json(Poll)
    plane, host = request.plane, request.context.host
    mailbox = await anyio.to_thread.run_sync(enrolment.join, plane, host)
    # a host must be missed before it is taken for down
    park = min(PARK, plane.settings.service_down / 2)
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(news.set)

    number, began = mailbox.begin(said, wake, park)
    try:
        if began or said.changed:
            plane.hosts.changed(host)
        if not began and not said.leaving and await _hung_up(request, mailbox, number, news, park):
            return Reply(400)
        calls = [] if said.leaving else mailbox.collect(number)
        return Reply(200, Calls(calls, plane.clock.now(), park, list(plane.hosts.control_planes)))
    finally:
        mailbox.end(number)


async def _hung_up(request: Request, mailbox: Mailbox, number: int, news: asyncio.Event, park: float) -> bool:
    """Wait until there is something to say, `park` seconds at most; whether the host has hung up meanwhile."""
    if request.gone is None or not mailbox.must_wait(number):
        return False
    hung_up = asyncio.ensure_future(request.gone())
    waiting = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait((hung_up, waiting), timeout=park, return_when=asyncio.FIRST_COMPLETED)
        return hung_up.done() and not waiting.done()
    finally:
        hung_up.cancel()
        waiting.cancel()
