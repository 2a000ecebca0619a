"""A whole Lamina for one schedule: a `World` on machines in memory and on a database that is put back for the next schedule.

What costs time and means nothing on one thread is left out: files are in memory, commits do not wait for a disk, and the
schema, the hosts and the first reports come from a template.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

from lamina.agent import journal
from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.hosts.directory import Compute, Hosts
from lamina.model.errors import HostUnreachable, LaminaError
from lamina.model.flavors import Flavor
from lamina.model.settings import Settings
from lamina.operations import attach, reconcile, resize, shelve
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.saga.log import State
from lamina.saga.probe import Probe
from lamina.saga.steps import Effect, Kind
from lamina.store import hosts, sagas
from tests.faults.desk import Desk
from tests.faults.simulator.machines import Line, Site, replace_in_memory
from tests.faults.simulator.trouble import Trouble
from tests.faults.world import CALLER, Killed, VirtualClock, World, described, fleet

#: seconds since the epoch: when the servers that stand already were made, and when every schedule begins
BEGINNING, PREPARED = 1_700_000_000.0, 1_700_001_000.0


_UNDER_WAY = "SELECT id, kind, state, owner FROM sagas WHERE state IN ('running', 'unwinding', 'stuck', 'waiting') ORDER BY seq"
#: what a server that stands from the beginning has become last
SHELVED: Final = "shelved"
#: and what it may have been given
ATTACHED: Final = "attached"
#: servers that stand from the beginning, each by its sizes; of one that has been resized, which nobody has confirmed, both are told
Servers = Sequence[Sequence[Flavor | Literal["shelved", "attached"]]]


class UnderWay(NamedTuple):
    """An operation that has not ended, as far as a schedule must know it."""

    id: str
    kind: str
    state: str
    owner: str | None


class FixedClock(VirtualClock):
    def __init__(self) -> None:
        self._now = BEGINNING


class Stage(Desk):
    """What schedules of one process share; for each beginning of schedules a database that is kept."""

    def __init__(self) -> None:
        super().__init__()
        tempfile.tempdir = str(self.folder)
        self._asked = sqlite3.connect(self.folder / "lamina.db", isolation_level=None)
        #: beginning -> the database, the contents of images, and each host's machine and journal
        self._kept: dict[str, tuple[sqlite3.Connection, dict[str, bytes], dict[str, tuple[bytes, bytes]]]] = {}

    def begin(self, beginning: str) -> dict[str, tuple[bytes, bytes]] | None:
        """Have the database as it is at this beginning. The machines and journals that go with it; None where there is none such yet."""
        for name in ("depot", "images"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "images").mkdir()
        database, contents, hosts = self._kept.get(beginning, (None, {}, None))
        self.put_back(database)
        for name, content in contents.items():
            (self.folder / "images" / name).write_bytes(content)
        return hosts

    def keep(self, beginning: str, hosts: dict[str, tuple[bytes, bytes]]) -> None:
        contents = {path.name: path.read_bytes() for path in (self.folder / "images").iterdir()}
        self._kept[beginning] = self.kept(), contents, hosts

    def ask(self, sql: str) -> list[Any]:
        """What is committed."""
        return self._asked.execute(sql).fetchall()

    def close(self) -> None:
        tempfile.tempdir = None
        self._asked.close()
        super().close()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Ids are drawn from the seed, journals are in memory."""
    numbers = random.Random(seed)  # noqa: S311 - a schedule, no secret
    real_uuid4, real_replace = uuid.uuid4, journal.replace_durably
    uuid.uuid4 = lambda: uuid.UUID(int=numbers.getrandbits(128), version=4)
    journal.replace_durably = replace_in_memory
    try:
        yield
    finally:
        uuid.uuid4, journal.replace_durably = real_uuid4, real_replace


class Overtaking:
    """The probe of a control plane: a place where it may die, or where another takes its operations over under its hands."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def at(self, point: str, saga_id: str, step: str) -> None:
        scene = self._scene
        scene.trouble.passing("step")
        if point != "after-do" or self._outside(saga_id, step):
            scene.trouble.passing("outside")

    def _outside(self, saga_id: str, step: str) -> bool:
        """Whether no transaction is open here."""
        found = [kind.step(step) for kind in self._scene.kinds if kind.step(step) is not None]
        return all(isinstance(one, Effect) for one in found)


class Scene(World):
    """A `World` whose hosts are `Site`s. Events of a schedule move it; see `schedule`."""

    def __init__(self, stage: Stage, framework: str, standing: Servers, kinds: Iterable[Kind[ControlPlane, Any]] = KINDS) -> None:
        """Hosts with this kind of cards, and servers on them."""
        self.stage, self.state, self.framework = stage, stage.folder, framework
        self.kinds = tuple(kinds)
        self.clock = FixedClock()
        self.fleet = fleet(described(framework))
        self.trouble = Trouble()
        self.late: list[tuple[str, Callable[[], Any]]] = []
        self.trace: list[str] = []
        #: whether somebody else has made a vGPU where one of ours may have been planned
        self.squeezed = False
        #: the servers of which somebody else left a domain behind, and those whose guests shut down
        self.left_over: set[str] = set()
        self.shut_down: set[str] = set()
        beginning = f"{framework} {[[size.name if isinstance(size, Flavor) else size for size in sizes] for sizes in standing]}"
        kept = stage.begin(beginning)
        neighbours: dict[str, SimulatedHypervisor] = {}
        self.sites = {host.name: Site(host, self.state, self.clock, self.trouble, neighbours) for host in self.fleet.hosts}
        self.hosts = self.sites  # type: ignore[assignment]
        self.lines = {name: Line(site, self.late) for name, site in self.sites.items()}
        if kept is None:
            self._prepare(standing)
            stage.keep(beginning, {name: site.written() for name, site in self.sites.items()})
        else:
            for name, site in self.sites.items():
                site.read(*kept[name])
        self.clock.sleep(PREPARED - self.clock.now())
        self._assemble(alone=True)

    def _prepare(self, standing: Servers) -> None:
        """The first look at hosts, and these servers."""
        with seeded(0):
            for name, site in self.sites.items():
                site.machine.state.boot_id = f"boot of {name}"
            self._assemble(alone=True)
            self.look_at_hosts()
            for sizes in standing:
                first, *later = sizes
                assert isinstance(first, Flavor)
                server = self.created(first)
                for size in later:
                    if size == SHELVED:
                        shelve.request(self.plane, CALLER, server.id)
                    elif size == ATTACHED:
                        attach.request(self.plane, CALLER, server.id, self.small)
                    else:
                        resize.request(self.plane, CALLER, server.id, size)
                    self.settle()
            self.clock.sleep(PREPARED - 1 - self.clock.now())
            self.look_at_hosts()

    def _assemble(self, *, alone: bool) -> None:
        directory = Hosts()
        for name, line in self.lines.items():
            directory.join(name, line, self.sites[name].reboot)
        settings = Settings(state=self.state)
        self.plane = ControlPlane.assemble(
            settings, self.stage.db, self.clock, directory, self.kinds, alone=alone, probe=Overtaking(self)
        )

    def begin(
        self,
        kinds: Iterable[Kind[ControlPlane, Any]] = KINDS,
        *,
        probe: Probe | None = None,
        wrap: Callable[[Compute], Compute] = lambda compute: compute,
        alone: bool = True,
    ) -> ControlPlane:
        """A new control plane on the records that are there; alone, or another process beside the one before."""
        for site in self.sites.values():
            if site.dead:
                site.begin()
        self._assemble(alone=alone)
        self.plane.runner.take_over()
        return self.plane

    def under_way(self) -> list[UnderWay]:
        """Those of `operations`, in the same order; asked for all the time."""
        return [UnderWay(*row) for row in self.stage.ask(_UNDER_WAY)]

    # ------------------------------------------------------------------------------------------------ moves

    def look_at_hosts(self) -> bool:
        """Every host's report is taken in. Whether one called for repairs."""
        return sum(self.look_at(name) for name in self.sites) > 0

    def look_at(self, name: str) -> bool:
        try:
            return reconcile.host(self.plane, name).begun
        except HostUnreachable:
            return False

    def call_down(self, name: str, *, silent: bool) -> None:
        """An operator says that a host is down; it may be right."""
        with self.plane.db.write() as tx:
            hosts.update_host(tx, name, forced_down=True)
        if silent:
            self.lines[name].cut = True
            self.trouble.struck["cut"] += 1

    def call_up(self) -> None:
        """Hosts are what they are again."""
        with self.plane.db.write() as tx:
            for name in hosts.silent(tx, 0.0):
                hosts.update_host(tx, name, forced_down=False)

    def move(self, saga_id: str) -> str:
        """One turn of one operation, as the runner's own threads take it."""
        try:
            return "goes on" if self.plane.runner.advance(saga_id) else "rests"
        except sagas.LostLease:
            return "lost"
        except LaminaError as error:
            return error.code

    def rest(self, most: int = 200) -> None:
        """Advance until nothing moves."""
        if self.under_way():
            self.plane.runner.take_over()
        for _ in range(most):
            rows = [row for row in self.under_way() if row.state in (State.RUNNING, State.UNWINDING)]
            if not rows:
                return
            for row in rows:
                if row.owner != self.plane.runner.me:
                    self.clock.sleep(self.plane.settings.lease + 1)
                    self.plane.runner.take_over()
                else:
                    self.move(row.id)
        raise AssertionError("operations do not come to an end")

    def kill(self) -> None:
        """The whole process dies: control plane and, as with `lamina up`, the compute services in it."""
        for site in self.sites.values():
            site.dead = True
        raise Killed

    def overtaken(self, moves: int) -> None:
        """Another control plane takes over while this one is in the middle of a step; `moves` of its turns come first."""
        self.clock.sleep(self.plane.settings.lease + 1)
        self.begin(alone=False)
        for _ in range(moves):
            rows = [row for row in self.under_way() if row.owner == self.plane.runner.me]
            if rows:
                self.move(rows[0].id)

    def tell(self, line: str) -> None:
        self.trace.append(line)


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
