"""What bounds guessing and floods of logins, whoever they name: failures of each address, and how many are checked at once.

Counted in the memory of this process; another process counts for itself. Beside it each user is locked out after failures of
his own, by whatever address (`lamina.store.login_failures`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from lamina.model.errors import TooManyRequests
from lamina.model.rates import SECOND, Buckets, Rate

#: addresses remembered at most
MOST_KEPT = 10_000


class LoginLimits:
    """Safe for threads."""

    def __init__(self, *, failures: int | None, window: int, at_once: int) -> None:
        """So many `failures` of one address in a `window` of seconds (None: as many as like), and so many logins in line `at_once`."""
        # a bucket of the window's seconds, of which a failure takes its share
        self._failed = Buckets(Rate(per_second=1, burst=window), MOST_KEPT)
        self._cost = max(1, window // failures) if failures is not None else 0
        self._places = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def turn(self, address: str, now: float) -> Iterator[None]:
        """A place in the line of those who are checked; `now` is in seconds.

        Raises `TooManyRequests` where there is none, or where too many of this address have failed. As many as are in line may
        fail beyond what an address may.
        """
        with self._lock:
            wait = self._failed.wait(address, self._cost, int(now * SECOND))
        if wait:
            sentence = f"Too many logins from this address have failed. Ask again in {float(wait):.1f} seconds."
            raise TooManyRequests(sentence, float(wait), address=address)
        if not self._places.acquire(blocking=False):
            raise TooManyRequests("Too many log in at once. Ask again in a second.", 1.0, address=address)
        try:
            yield
        finally:
            self._places.release()

    def failed(self, address: str, now: float) -> None:
        """Count a login that was refused."""
        with self._lock:
            self._failed.take(address, self._cost, int(now * SECOND))
