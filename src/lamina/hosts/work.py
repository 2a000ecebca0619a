"""The calls of one control plane on a host: each is done once in a session, and its answer kept until it has arrived.

A call that comes again is being done, or was done: then what it had is answered once more.
"""

from __future__ import annotations

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Iterable

import msgspec
import structlog

from lamina.hosts.directory import Compute
from lamina.hosts.wire import METHODS, Failure, Given, Result
from lamina.model.errors import HostError, LaminaError

log = structlog.get_logger()

#: answers kept after they arrived, for calls that were handed out again meanwhile
KEPT = 64


class Work:
    """Thread-safe. `news` is called, from any thread, whenever there is an answer to be fetched."""

    def __init__(self, compute: Compute, pool: concurrent.futures.Executor, news: Callable[[], None]) -> None:
        self._compute = compute
        self._pool = pool
        self._news = news
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._done: collections.OrderedDict[str, Result] = collections.OrderedDict()
        #: ids of answers that are to be sent
        self._unsent: list[str] = []

    def take(self, calls: Iterable[Given]) -> None:
        """Begin those that are new, and answer those that were done."""
        for given in calls:
            with self._lock:
                if given.id in self._running:
                    continue
                if given.id in self._done:
                    self._unsent.append(given.id)
                    repeated = True
                else:
                    self._running.add(given.id)
                    repeated = False
            if repeated:
                self._news()
            else:
                self._pool.submit(self._do, given)

    def running(self) -> list[str]:
        with self._lock:
            return sorted(self._running)

    def fetch(self) -> list[Result]:
        """The answers to be sent; they count as sent until they are put back."""
        with self._lock:
            ids, self._unsent = dict.fromkeys(self._unsent), []
            results = [self._done[call_id] for call_id in ids if call_id in self._done]
            while len(self._done) > KEPT + len(results):
                self._done.popitem(last=False)
            return results

    def put_back(self, results: Iterable[Result]) -> None:
        """These did not arrive."""
        with self._lock:
            for result in results:
                self._done[result.id] = result
                self._unsent.append(result.id)

    def _do(self, given: Given) -> None:
        result = self._result(given)
        with self._lock:
            self._running.discard(given.id)
            self._done[given.id] = result
            self._unsent.append(given.id)
        self._news()

    def _result(self, given: Given) -> Result:
        method = METHODS.get(given.method)
        if method is None:
            return Result(given.id, failure=Failure.of(HostError(f"The agent does not know {given.method}; bring it to the same version.")))
        try:
            return Result(given.id, method.call(self._compute, given.parameters))
        except LaminaError as error:
            log.info("call failed", method=given.method, why=error.message, **error.context)
            return Result(given.id, failure=Failure.of(error))
        except msgspec.ValidationError as error:
            return Result(given.id, failure=Failure.of(HostError(f"The agent cannot read {given.method}: {error}")))
        except Exception:
            log.exception("call failed", method=given.method)
            return Result(given.id, failure=Failure.of(LaminaError("The agent met an unexpected error; its log on the host tells more.")))
