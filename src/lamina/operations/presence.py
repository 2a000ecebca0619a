"""Presence: the control planes of a fleet know of each other by the database, and their hosts of all of them.

Each writes down, every other second, that it is there, and reads who else is. There is no leader: what one of them knows of
the others it only passes on to hosts, which dial in everywhere; whose operation is whose is a matter of leases
(`lamina.saga.recovery`). Their clocks have to agree to within a few seconds.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Iterable

import structlog

from lamina.model.errors import LaminaError
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.store import hosts, replicas
from lamina.store.replicas import Replica

log = structlog.get_logger()

#: seconds between two signs of life, after which one without them is taken for gone, and after which it is forgotten
BEAT, SILENT, FORGET = 2.0, 10.0, 86400.0
#: seconds that a new one waits for the hosts of the others at most, and between its looks
DIAL, LOOK = 6.0, 0.1


class Presence:
    """Of this process, from `start` to `stop`."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._started_at = plane.clock.now()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)

    def start(self) -> None:
        """Where there are others, it returns when the hosts that they have are here too, or after `DIAL` seconds.

        So whoever restarts one after the other never has one that serves and reaches nobody.
        """
        others = self.beat()
        self._thread.start()
        end = self._plane.clock.now() + DIAL
        while others and self._plane.clock.now() < end and not self._has_all_hosts():
            self._stopping.wait(LOOK)

    def stop(self) -> None:
        """The others need not find out; and hosts, whose lines end after this, are told who is left."""
        self._stopping.set()
        self._thread.join()
        now = self._plane.clock.now()
        with self._plane.db.write() as tx:
            replicas.forget(tx, self._plane.runner.me)
            left = _agents_urls(replicas.heard_since(tx, now - SILENT))
        if left:
            self._plane.hosts.control_planes = left
            enrolment.tell_all(self._plane)

    def _has_all_hosts(self) -> bool:
        """Whether every host that is up has a line here."""
        with self._plane.db.read() as tx:
            down = hosts.silent(tx, self._plane.clock.now() - self._plane.settings.service_down)
        return enrolment.absent(self._plane) <= down

    def beat(self) -> bool:
        """One sign of life, and a look at the others'; whether there are any."""
        plane = self._plane
        now, settings = plane.clock.now(), plane.settings
        me = Replica(
            plane.runner.me, settings.public_url, settings.agents_url, importlib.metadata.version("lamina"), self._started_at, now
        )
        with plane.db.write() as tx:
            replicas.put(tx, me)
            replicas.forget_silent(tx, now - FORGET)
        with plane.db.read() as tx:
            there = replicas.heard_since(tx, now - SILENT)
        urls = _agents_urls(there)
        if urls != plane.hosts.control_planes:
            log.info("control planes", agents=urls)
            plane.hosts.control_planes = urls
            enrolment.join_all(plane)
            enrolment.tell_all(plane)
        return len(there) > 1

    def _keep(self) -> None:
        while not self._stopping.wait(BEAT):
            try:
                self.beat()
            except LaminaError as error:
                log.warning("no sign of life", why=error.message, **error.context)
            except Exception:
                log.exception("no sign of life")


def _agents_urls(there: Iterable[Replica]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.agents_url for one in there if one.agents_url is not None))
