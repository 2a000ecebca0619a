"""A host's mailbox: where calls wait until the host asks for them, and callers wait for what becomes of them.

Callers are threads; the host's polls are parked on an event loop, where 2,000 of them cost next to nothing. What was
handed out and is neither being worked on nor answered when the host polls again never arrived: it is handed out again.
A host that has begun anew has forgotten what was with it, so those callers are told at once.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable

import msgspec

from lamina.hosts.wire import Given, Poll, Result
from lamina.model import ids
from lamina.model.clock import Clock
from lamina.model.errors import Conflict, HostUnreachable

#: seconds between two polls after which a host is taken for silent
GRACE = 5.0
#: past sessions that are remembered
SESSIONS = 64
#: seconds between looks at whether the host is still there
LOOK = 0.5


@dataclasses.dataclass
class _Letter:
    given: Given
    done: concurrent.futures.Future[Result]
    #: number of the poll that it was handed to, or None
    with_poll: int | None = None


class Mailbox:
    """One host's. Thread-safe."""

    def __init__(self, host: str, clock: Clock) -> None:
        self.host = host
        self._made_at = clock.now()
        #: set when the host has come for the first time
        self._came = threading.Event()
        self._clock = clock
        self._lock = threading.Lock()
        self._letters: dict[str, _Letter] = {}
        self._session: str | None = None
        #: sessions that are over; what of theirs was still on its way comes too late
        self._over: collections.deque[str] = collections.deque(maxlen=SESSIONS)
        self._polls = 0
        #: what ends the wait of the poll that is parked now
        self._wake: Callable[[], None] | None = None
        #: while a poll is parked, when it ends at the latest; otherwise when the last one ended
        self._heard_until: float | None = None
        self._closed = False

    # ------------------------------------------------------------------------------------------------ callers

    def call(self, method: str, parameters: msgspec.Raw, timeout: float, first_dial: float = 0.0) -> Result:
        """Have the host do something, and wait for it, `timeout` seconds at most.

        Raises `HostUnreachable` at once where the host is silent, and as soon as it is while it had the call; one that has
        never come is given `first_dial` seconds for it from when this mailbox was made.
        """
        if not self._came.is_set():
            self._came.wait(max(0.0, self._made_at + first_dial - self._clock.now()))
        letter = self._put(method, parameters)
        deadline = self._clock.now() + timeout
        while True:
            try:
                return letter.done.result(LOOK)
            except TimeoutError:
                now = self._clock.now()
                self.sweep(now)
                if now >= deadline:
                    self._withdraw(letter, f"Host {self.host} has not done {method} within {timeout:.0f} seconds.")

    def _put(self, method: str, parameters: msgspec.Raw) -> _Letter:
        letter = _Letter(Given(ids.new_uuid(), method, parameters), concurrent.futures.Future())
        with self._lock:
            if not self._is_there(self._clock.now()):
                raise HostUnreachable(f"Host {self.host} does not answer.")
            self._letters[letter.given.id] = letter
            wake = self._wake
        if wake is not None:
            wake()
        return letter

    def _withdraw(self, letter: _Letter, why: str) -> None:
        with self._lock:
            self._letters.pop(letter.given.id, None)
            if not letter.done.done():
                letter.done.set_exception(HostUnreachable(why))

    def sweep(self, now: float) -> None:
        """Tell every caller if the host has fallen silent."""
        with self._lock:
            if not self._is_there(now):
                self._fail(lambda _letter: True, f"Host {self.host} has fallen silent.")

    def is_there(self) -> bool:
        """Whether the host has been heard of lately."""
        with self._lock:
            return self._is_there(self._clock.now())

    def _is_there(self, now: float) -> bool:
        return self._heard_until is not None and now <= self._heard_until + GRACE

    def _fail(self, which: Callable[[_Letter], bool], why: str) -> None:
        for call_id, letter in list(self._letters.items()):
            if which(letter):
                del self._letters[call_id]
                if not letter.done.done():
                    letter.done.set_exception(HostUnreachable(why))

    # ------------------------------------------------------------------------------------------------ the host's polls

    def begin(self, poll: Poll, wake: Callable[[], None], park: float) -> tuple[int, bool]:
        """Take in what a poll brings. Returns its number, and whether it is the first of its session.

        `wake` is called, from any thread, when there may be something to collect; `park` is how long the host may be kept waiting.
        Raises `Conflict` for a session that is over.
        """
        now = self._clock.now()
        with self._lock:
            if poll.session in self._over:
                raise Conflict(f"This agent is over: it took its leave, or another one speaks for host {self.host} since.")
            self._came.set()
            self._polls += 1
            number = self._polls
            began = poll.session != self._session
            if began:
                if self._session is not None:
                    self._over.append(self._session)
                self._session = poll.session
                why = f"The agent on host {self.host} began anew while the call was with it."
                self._fail(lambda letter: letter.with_poll is not None, why)
            for result in poll.results:
                letter = self._letters.pop(result.id, None)
                if letter is not None and not letter.done.done():
                    letter.done.set_result(result)
            busy = set(poll.running)
            for call_id, letter in self._letters.items():
                if call_id not in busy:
                    letter.with_poll = None
            superseded, self._wake = self._wake, wake
            self._heard_until = now + park
            if poll.leaving:
                self._heard_until = now
                self._fail(lambda letter: letter.with_poll is None, f"The agent on host {self.host} is ending.")
                if not poll.running:
                    self._heard_until = self._session = None
                    self._over.append(poll.session)
        if superseded is not None:
            superseded()
        return number, began

    def collect(self, number: int) -> list[Given]:
        """The calls for a poll; none for one that another has taken the place of."""
        with self._lock:
            if number != self._polls:
                return []
            waiting = [letter for letter in self._letters.values() if letter.with_poll is None]
            for letter in waiting:
                letter.with_poll = number
            return [letter.given for letter in waiting]

    def must_wait(self, number: int) -> bool:
        """Whether there is nothing yet to answer a poll with."""
        with self._lock:
            if number != self._polls or self._closed:
                return False
            return all(letter.with_poll is not None for letter in self._letters.values())

    def end(self, number: int) -> None:
        """A poll is over: answered, or its host gone. From now on the host has `GRACE` seconds to come again."""
        with self._lock:
            if number == self._polls:
                self._wake = None
                if self._heard_until is not None:
                    self._heard_until = min(self._heard_until, self._clock.now())

    def expect_nobody(self) -> None:
        """Let nobody wait any more for a host that has never come."""
        self._came.set()

    def nudge(self) -> None:
        """Have the poll that is parked answered, with whatever there is."""
        with self._lock:
            wake = self._wake
        if wake is not None:
            wake()

    def close(self) -> None:
        """Let go of the poll that is parked, and of all to come: this process is ending."""
        with self._lock:
            self._closed = True
            wake = self._wake
        if wake is not None:
            wake()
