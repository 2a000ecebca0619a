"""Presence: the control planes of a fleet know of each other by the database, and their hosts of all of them.

Each writes down, every other second, that it is there, and reads who else is. There is no leader: what one of them knows of
the others it only passes on to hosts, which dial in everywhere; whose operation is whose is a matter of leases
(`lamina.saga.recovery`). Their clocks have to agree to within a few seconds.
"""

from __future__ import annotations

import importlib.metadata
import threading

import structlog

from lamina.model.errors import LaminaError
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.store import replicas
from lamina.store.replicas import Replica

log = structlog.get_logger()

#: seconds between two signs of life, after which one without them is taken for gone, and after which it is forgotten
BEAT, SILENT, FORGET = 2.0, 10.0, 86400.0


class Presence:
    """Of this process, from `start` to `stop`."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._started_at = plane.clock.now()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)

    def start(self) -> None:
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """The others hear of it at once."""
        self._stopping.set()
        self._thread.join()
        with self._plane.db.write() as tx:
            replicas.forget(tx, self._plane.runner.me)

    def beat(self) -> None:
        """One sign of life, and a look at the others'."""
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
        urls = tuple(dict.fromkeys(one.agents_url for one in there if one.agents_url is not None))
        if urls != plane.hosts.control_planes:
            log.info("control planes", agents=urls)
            plane.hosts.control_planes = urls
            enrolment.join_all(plane)
            enrolment.tell_all(plane)

    def _keep(self) -> None:
        while not self._stopping.wait(BEAT):
            try:
                self.beat()
            except LaminaError as error:
                log.warning("no sign of life", why=error.message, **error.context)
            except Exception:
                log.exception("no sign of life")
