"""Rounds: every host is looked at again and again, and what servers and migrations hold that are over."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterable

import structlog

from lamina.model.errors import HostUnreachable, LaminaError
from lamina.operations import auto_confirm, reconcile
from lamina.operations.control_plane import ControlPlane
from lamina.store import damage, hosts

log = structlog.get_logger()

#: hosts asked side by side
WORKERS = 8
#: part of the interval between rounds in which a host that another control plane has heard is not asked again
LATELY = 0.9


class Reconciler:
    """Goes round all hosts at an interval, and to a host at once when it has something to tell.

    Hosts are asked side by side, so that a slow one holds up nobody but itself; one that is still being asked is not
    asked again.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pool = concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="reconcile")
        self._lock = threading.Lock()
        self._hinted: set[str] = set()
        self._asked: set[str] = set()
        self._silent: set[str] = set()

    def all_hosts(self) -> None:
        """One round; a host that does not answer is left for the next."""
        concurrent.futures.wait(self._round())

    def _round(self) -> list[concurrent.futures.Future[None]]:
        once = [self._pool.submit(self._confirm), self._pool.submit(self._release)]
        return [*once, *self._ask(self._unheard())]

    def _unheard(self) -> list[str]:
        """The hosts that no other control plane has heard lately; what one of them has taken in is known to all."""
        plane = self._plane
        names = plane.hosts.names()
        if plane.db.is_sqlite:  # there is no other
            return names
        since = plane.clock.now() - LATELY * plane.settings.report_interval
        try:
            with plane.db.read() as tx:
                heard = hosts.heard_by_others(tx, plane.runner.me, since)
        except LaminaError:
            return names
        return [name for name in names if name not in heard]

    def _confirm(self) -> None:
        try:
            auto_confirm.overdue(self._plane)
        except Exception:
            log.exception("nothing confirmed in this round")

    def name_damage(self) -> None:
        """Say of every damaged record that it is passed over, those too that no round comes to."""
        try:
            with self._plane.db.read() as tx:
                damage.name_all(tx)
        except Exception:
            log.exception("damaged records were not looked for")

    def _release(self) -> None:
        try:
            reconcile.idle(self._plane)
        except LaminaError as error:
            log.warning("what is on no host was not looked at", why=error.message, **error.context)
        except Exception:
            log.exception("what is on no host was not looked at")

    def _ask(self, names: Iterable[str]) -> list[concurrent.futures.Future[None]]:
        asked = []
        for name in names:
            with self._lock:
                if name in self._asked:
                    continue
                self._asked.add(name)
            asked.append(self._pool.submit(self._host, name))
        return asked

    def _host(self, name: str) -> None:
        try:
            reconcile.host(self._plane, name)
            self._silent.discard(name)
        except HostUnreachable as error:
            if name not in self._silent:  # told once, not in every round
                log.warning("host silent", host=name, why=error.message, **error.context)
            self._silent.add(name)
        except LaminaError as error:
            log.warning("host not reconciled", host=name, why=error.message, **error.context)
        except Exception:
            log.exception("host not reconciled", host=name)
        finally:
            with self._lock:
                self._asked.discard(name)
                if name in self._hinted:
                    self._news.set()

    def start(self) -> None:
        self._pool.submit(self.name_damage)
        self.all_hosts()
        self._plane.hosts.on_change(self.wake)
        self._thread = threading.Thread(target=self._loop, name="reconcile", daemon=True)
        self._thread.start()

    def wake(self, name: str) -> None:
        """Go to this host at once."""
        with self._lock:
            self._hinted.add(name)
        self._news.set()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _loop(self) -> None:
        clock = self._plane.clock
        next_round = clock.now() + self._plane.settings.report_interval
        while not self._stopping.is_set():
            self._news.wait(max(0.0, next_round - clock.now()))
            self._news.clear()
            if self._stopping.is_set():
                return
            if clock.now() >= next_round:
                self._round()
                next_round = clock.now() + self._plane.settings.report_interval
            with self._lock:
                # one that is being asked now may have changed since it was: it is asked again afterwards
                hinted = self._hinted - self._asked
                self._hinted -= hinted
            self._ask(hinted)
