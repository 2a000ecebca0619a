"""Dialing in: one line to each control plane, kept up by a host's agent for as long as it runs.

Any control plane says where the others are; lines come and go as they do. Each line is a long poll. Answers do not wait for
it to end: a second poll brings them and takes the place of the first.
A line that breaks is dialled again after a pause that grows, with jitter, so that a fleet does not come back all at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import random
import ssl
from collections.abc import Callable, Sequence

import httpx
import msgspec
import structlog

from lamina.hosts import joining
from lamina.hosts.directory import Compute
from lamina.hosts.membership import Membership
from lamina.hosts.wire import PARK, Calls, Poll
from lamina.hosts.work import Work
from lamina.model import decoding, ids
from lamina.model.clock import Clock
from lamina.model.errors import LaminaError

log = structlog.get_logger()

#: seconds before a broken line is dialled again: the first time, and at most
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: seconds that a connection may take to come about, and an answer beyond the time that it was asked to wait
CONNECT, ANSWER = 10.0, 10.0
#: seconds between two polls of an agent that is ending; less than the control plane's patience
SIGN_OF_LIFE = 2.0
#: seconds between looks at how long the certificate is still good
RENEWAL_LOOK = 600.0
#: calls of one control plane done at once
WORKERS = 16


class Agent:
    """Speaks for one host to every control plane it has joined."""

    def __init__(self, joined: Membership, compute: Compute, clock: Clock, ready: Callable[[], None]) -> None:
        """`ready` is called once, when the first control plane has answered."""
        self.joined = joined
        self.clock = clock
        self._ready: Callable[[], None] | None = ready
        self._compute = compute
        self._pool = concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="call")
        self._lines = {url: Line(self, url, compute, self._pool) for url in joined.control_planes}
        #: where the fleet's control planes are, as last told by one of them
        self._told: tuple[str, ...] = ()
        self._dial: Callable[[Line], object] = lambda _line: None

    def told(self, control_planes: Sequence[str]) -> None:
        """One of them says where all of them are. On the event loop."""
        new = [url for url in control_planes if url not in self._told]
        self._told = tuple(control_planes)
        for url in new:
            if url in self._lines:
                self._lines[url].dial_now()
            else:
                self._lines[url] = line = Line(self, url, self._compute, self._pool)
                self._dial(line)
        if control_planes and set(control_planes) != set(self.joined.control_planes):
            try:
                self.joined.reached_at(self._told)
            except OSError as error:
                log.error("where the control planes are is not kept", why=str(error))

    def gives_up(self, line: Line) -> bool:
        """Whether a line that is broken is not to be dialled again: its control plane is none any more."""
        if not self._told or line.url in self._told:
            return False
        self._lines.pop(line.url, None)
        log.info("a control plane is gone", control_plane=line.url)
        return True

    def heard(self) -> None:
        """A control plane has answered."""
        if self._ready is not None:
            ready, self._ready = self._ready, None
            ready()

    def changed(self) -> None:
        """Something here changed that nobody asked for. From any thread."""
        for line in list(self._lines.values()):
            line.tell_change()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then what was begun is finished and its answers are brought."""
        renewal = asyncio.create_task(self._keep_certificate())
        try:
            async with asyncio.TaskGroup() as group:
                self._dial = lambda line: group.create_task(line.keep(stop))
                for line in list(self._lines.values()):
                    self._dial(line)
                await stop.wait()
        finally:
            renewal.cancel()
            self._pool.shutdown()

    async def _keep_certificate(self) -> None:
        while True:
            if await asyncio.to_thread(self._renew):
                for line in list(self._lines.values()):
                    line.dial_anew()
            await asyncio.sleep(RENEWAL_LOOK)

    def _renew(self) -> bool:
        """Whether there is a new certificate; any control plane of the fleet may give it."""
        try:
            if self.clock.now() < self.joined.certificate().renew_at:
                return False
        except LaminaError as error:
            log.error("certificate not renewed", why=error.message)
            return False
        return any(self._renewed_by(url) for url in self.joined.control_planes)

    def _renewed_by(self, url: str) -> bool:
        try:
            with httpx.Client(verify=self.joined.tls(), timeout=joining.TIMEOUT, trust_env=False) as client:
                joining.renew(self.joined, client, url)
        except (LaminaError, OSError) as error:
            log.warning("certificate not renewed", control_plane=url, why=str(error))
            return False
        log.info("certificate renewed", host=self.joined.host)
        return True


class Line:
    """To one control plane."""

    def __init__(self, agent: Agent, url: str, compute: Compute, pool: concurrent.futures.Executor) -> None:
        self.url = url
        self._agent = agent
        self._session = ids.new_uuid()
        self._work = Work(compute, pool, self._tell)
        self._changed = False
        #: asks for new connections, which show the new certificate
        self._anew = False
        self._news = asyncio.Event()
        #: cuts the pause before the next dialling short
        self._now = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._park = PARK
        self._pause = FIRST_PAUSE

    def tell_change(self) -> None:
        """From any thread."""
        self._changed = True
        self._tell()

    def dial_now(self) -> None:
        self._pause = FIRST_PAUSE
        self._now.set()

    def dial_anew(self) -> None:
        self._anew = True
        self._news.set()

    def _tell(self) -> None:
        if self._loop is not None:
            # the loop may have ended while a call was still being done
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._news.set)

    async def keep(self, stop: asyncio.Event) -> None:
        """Keep the line up until `stop`."""
        self._loop = asyncio.get_running_loop()
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            try:
                async with self._client() as client:
                    await self._talk(client, stopping)
                    if stop.is_set():
                        await self._leave(client)
            except (LaminaError, httpx.HTTPError, ssl.SSLError) as error:
                why = error if isinstance(error, LaminaError) else joining.why_not(self.url, error)
                log.warning("line lost", control_plane=self.url, why=why.message, **why.context)
                if self._agent.gives_up(self):
                    break
                await self._rest(stopping)
        stopping.cancel()

    async def _rest(self, stopping: asyncio.Task[bool]) -> None:
        self._now.clear()
        now = asyncio.create_task(self._now.wait())
        pause, self._pause = self._pause * random.uniform(0.5, 1.0), min(2 * self._pause, LONGEST_PAUSE)  # noqa: S311 - jitter
        await asyncio.wait({stopping, now}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()

    def _client(self) -> httpx.AsyncClient:
        self._anew = False
        self._agent.joined.must_be_valid(self._agent.clock.now())
        return httpx.AsyncClient(verify=self._agent.joined.tls(), trust_env=False)

    async def _talk(self, client: httpx.AsyncClient, stopping: asyncio.Task[bool]) -> None:
        """Poll until `stopping`, or until connections are to be made anew. Raises what breaks the line."""
        #: the one that is parked, and one that brings news and takes its place
        polls: set[asyncio.Task[None]] = set()
        try:
            while not (stopping.done() or self._anew):
                if not polls or (self._news.is_set() and len(polls) < 2):
                    self._news.clear()
                    polls.add(asyncio.create_task(self._poll(client)))
                news = asyncio.create_task(self._news.wait())
                await asyncio.wait({*polls, stopping, news} if len(polls) < 2 else {*polls, stopping}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                for poll in [poll for poll in polls if poll.done()]:
                    polls.discard(poll)
                    poll.result()
        finally:
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)

    async def _poll(self, client: httpx.AsyncClient, *, leaving: bool = False) -> None:
        """One poll: bring what there is, take what comes."""
        changed, self._changed = self._changed, False
        # what is running is told before what is done: a call that ends in between is in both, never in neither
        running = self._work.running()
        results = self._work.fetch()
        body = msgspec.json.encode(Poll(self._session, results, running, changed, leaving))
        try:
            answer = await client.post(
                f"{self.url}/agents/v1/poll", content=body, timeout=httpx.Timeout(self._park + ANSWER, connect=CONNECT)
            )
            if answer.is_error:
                raise joining.refusal(answer)
            calls = decoding.from_json(answer.content, Calls)
        except BaseException:
            self._work.put_back(results)
            self._changed = self._changed or changed
            raise
        self._agent.heard()
        self._park, self._pause = calls.park, FIRST_PAUSE
        self._must_agree_on_time(calls.time)
        self._agent.told(calls.control_planes)
        self._work.take(calls.calls)

    def _must_agree_on_time(self, theirs: float) -> None:
        skew = theirs - self._agent.clock.now()
        if abs(skew) > joining.MOST_SKEW:
            log.warning("the clocks differ", control_plane=self.url, seconds=round(skew))

    async def _leave(self, client: httpx.AsyncClient) -> None:
        """Take no more calls, finish what was begun, and bring its answers; meanwhile say that it is still being done."""
        while self._work.running():
            await self._poll(client, leaving=True)
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), SIGN_OF_LIFE)
        await self._poll(client, leaving=True)
