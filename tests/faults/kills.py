"""Real SIGKILLs, on real database files and a real PostgreSQL, at every point and every pair of points of create and resize.

``python -m tests.faults.kills`` forks processes for each: one carries the operation out and kills itself at the first point, one
takes up what that left and kills itself at the second, and one carries it to its end and holds the promises against it. On SQLite
each is a restart, on PostgreSQL another control plane that takes over once the lease has run out.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from lamina.cli.own_postgres import own_postgres
from lamina.store import servers
from tests.empty_database import Postgres
from tests.faults.simulator.__main__ import quiet
from tests.faults.simulator.scene import processors
from tests.faults.stories import STORIES, Story
from tests.faults.test_every_step import BY_NAME
from tests.faults.world import FRAMEWORKS, At, World

POINTS = ("before-do", "after-do", "logged")
CHOSEN = {str(story): story for story in STORIES if str(story) in ("create", "resize")}
ENDS = {"create": "ACTIVE", "resize": "VERIFY_RESIZE"}
DATABASES = ("sqlite", "postgresql")
#: seconds by which the clock of each process is ahead of the one before: any lease has run out
LATER = 60.0
KILLED = -signal.SIGKILL


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    step: str
    place: str

    def __str__(self) -> str:
        return f"{self.step} {self.place}"


def points(story: Story) -> list[Point]:
    """In the order in which they are reached."""
    return [Point(step, place) for step in BY_NAME[story.kind].step_names for place in POINTS]


def reached_after(story: Story, first: Point) -> list[Point]:
    """What whoever takes up reaches, where the one before died at `first`: a step that is not logged is done again."""
    names = BY_NAME[story.kind].step_names
    at = names.index(first.step) + (first.place == "logged")
    return [point for point in points(story) if names.index(point.step) >= at]


def deaths(story: Story, *, pairs: bool) -> Iterator[tuple[Point, ...]]:
    """One at every point, and two at every pair of them."""
    for first in points(story):
        yield (first,)
        if pairs:
            yield from ((first, second) for second in reached_after(story, first))


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the machines and the records of one world are: a folder, and a database's URL where it is not in there."""

    state: Path
    framework: str
    url: str | None

    def world(self, *, fresh: bool = False, later: float = 0.0) -> World:
        world = World(self.state, self.framework, fresh=fresh, url=self.url)
        world.clock.sleep(later)
        return world

    def begin(self, world: World, point: Point | None = None) -> None:
        """A control plane that dies at this point."""
        probe = At(point.place, point.step, lambda: os.kill(os.getpid(), signal.SIGKILL)) if point else None
        world.begin(probe=probe, alone=self.url is None)


def forked(work: Callable[[], None], said: Path) -> int:
    """How a process of its own ends that does this; negative for a signal. What it says of a failure is in a file then."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            said.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepare(place: Place, story: Story) -> None:
    world = place.world(fresh=True)
    (place.state / "server").write_text(story.prepare(world))
    world.plane.db.close()


def ask_and_die(place: Place, story: Story, point: Point) -> None:
    world = place.world()
    place.begin(world, point)
    story.begin(world, (place.state / "server").read_text())
    world.settle()


def take_up_and_die(place: Place, point: Point) -> None:
    world = place.world(later=LATER)
    place.begin(world, point)
    world.settle()


def take_up_and_check(place: Place, story: Story) -> None:
    world = place.world(later=2 * LATER)
    place.begin(world)
    world.settle()
    world.check()
    with world.plane.db.read() as tx:
        (server,) = servers.page(tx)
    assert server.status == ENDS[str(story)], f"the server is {server.status}"


def die(place: Place, story: Story, where: tuple[Point, ...]) -> str | None:
    """Run one death or two. What went wrong, if anything did."""
    said = place.state / "said"
    works: list[Callable[[], None]] = [partial(ask_and_die, place, story, where[0])]
    works += [partial(take_up_and_die, place, second) for second in where[1:]]
    for work in works:
        if (code := forked(work, said)) != KILLED:
            return f"ended with {code} before the point: {said.read_text() if said.exists() else 'it was not reached'}"
    code = forked(partial(take_up_and_check, place, story), said)
    return None if code == 0 else said.read_text() if said.exists() else f"ended with {code}"


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Deaths of one story on one kind of cards and one database: all, or each ``every``-th."""

    story: str
    framework: str
    database: str
    pairs: bool
    every: int

    def __str__(self) -> str:
        return f"{self.story} on {self.framework} and {self.database}"


@dataclasses.dataclass
class Told:
    group: Group
    singles: int = 0
    pairs: int = 0
    processes: int = 0
    bad: list[str] = dataclasses.field(default_factory=list)


def run(group: Group) -> Told:
    story, told = CHOSEN[group.story], Told(group)
    with contextlib.ExitStack() as stack:
        memory = Path("/dev/shm")  # noqa: S108 - what a killed process has written is there, on a disk or not
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lamina-kills-", dir=memory if memory.is_dir() else None)))
        postgres = Postgres(stack.enter_context(own_postgres(durable=False))) if group.database == "postgresql" else None
        template = stack.enter_context(postgres.database()) if postgres else None
        prepared = Place(folder / "prepared", group.framework, template)
        assert forked(partial(prepare, prepared, story), folder / "said") == 0, (folder / "said").read_text()
        for number, where in enumerate(itertools.islice(deaths(story, pairs=group.pairs), 0, None, group.every)):
            state = folder / str(number)
            shutil.copytree(prepared.state, state)
            with contextlib.ExitStack() as one:
                url = one.enter_context(postgres.database(str(sa.make_url(template).database))) if postgres and template else None
                failure = die(Place(state, group.framework, url), story, where)
            shutil.rmtree(state)
            told.singles += len(where) == 1
            told.pairs += len(where) == 2
            told.processes += len(where) + 1
            if failure is not None:
                told.bad.append(f"{group}, killed at {' and at '.join(map(str, where))}: {failure}")
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=DATABASES, help="only on this")
    parser.add_argument("--singles", action="store_true", help="no pairs")
    parser.add_argument("--every", type=int, default=1, help="run each so-many-th only")
    parser.add_argument("--workers", type=int, default=processors())
    given = parser.parse_args()
    quiet()
    chosen = itertools.product(sorted(CHOSEN, reverse=True), FRAMEWORKS, [given.database] if given.database else DATABASES)
    groups = [Group(*names, pairs=not given.singles, every=given.every) for names in chosen]
    began, total, bad = time.monotonic(), Told(groups[0]), []
    with multiprocessing.get_context("fork").Pool(given.workers, quiet) as pool:
        for told in pool.imap_unordered(run, groups, chunksize=1):
            print(f"{told.group}: {told.singles} points, {told.pairs} pairs, {len(told.bad)} bad", flush=True)
            total.singles += told.singles
            total.pairs += told.pairs
            total.processes += told.processes
            bad += told.bad
        pool.close()
        pool.join()
    for one in bad[:5]:
        print(one)
    spent = time.monotonic() - began
    print(f"killed at {total.singles} points and {total.pairs} pairs of them, {total.processes} processes in {spent:.0f} s, {len(bad)} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
