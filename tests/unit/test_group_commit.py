"""Writers that stand in line share a commit, and nothing else: each goes on only when its own is on disk, or fails alone."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lamina.model.errors import Conflict, Unavailable
from lamina.store import group_commit
from lamina.store.database import Database

NAMES = sa.table("names", sa.column("name", sa.String))
FAR = 60.0


class Line:
    """One database of one table, with threads that write to it and a count of the commits."""

    def __init__(self, db: Database, pool: concurrent.futures.ThreadPoolExecutor) -> None:
        self.db = db
        self._pool = pool
        self.commits = 0
        assert db._line is not None
        self._line = db._line
        sa.event.listen(db.engine, "commit", self._committed)

    def _committed(self, _connection: sa.Connection) -> None:
        self.commits += 1

    def writes(self, name: str, then: Callable[[sa.Connection], None] = lambda _tx: None, *, settled: bool = False) -> None:
        with self.db.write(settled=settled) as tx:
            tx.execute(sa.insert(NAMES).values(name=name))
            then(tx)

    def begins(self, name: str, then: Callable[[sa.Connection], None] = lambda _tx: None) -> concurrent.futures.Future[None]:
        """A thread writes; it stands in line when this returns."""
        before = self._line.in_line
        future = self._pool.submit(self.writes, name, then)
        self.until_in_line(before + 1)
        return future

    def until_in_line(self, number: int) -> None:
        waited = threading.Event()
        for _ in range(10_000):
            if self._line.in_line >= number:
                return
            waited.wait(0.001)
        raise AssertionError(f"{self._line.in_line} in line, not {number}")

    @contextlib.contextmanager
    def held(self) -> Iterator[sa.Connection]:
        """A writer whose turn lasts as long as the block; what the others in line do is done when it has been left."""
        with self.db.write() as tx:
            tx.execute(sa.insert(NAMES).values(name="first"))
            yield tx

    @property
    def kept(self) -> list[str]:
        with self.db.read() as tx:
            return list(tx.scalars(sa.select(NAMES.c.name)))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    db = Database.at(tmp_path)
    with db.write() as tx:
        tx.execute(sa.text("CREATE TABLE names (name TEXT PRIMARY KEY)"))
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        yield Line(db, pool)
    db.close()


def test_those_who_stand_in_line_share_one_commit(line: Line) -> None:
    with line.held():
        others = [line.begins(name) for name in "abc"]
    for other in others:
        other.result(FAR)
    assert sorted(line.kept) == ["a", "b", "c", "first"]
    assert line.commits == 1


def test_one_alone_waits_for_nobody(line: Line) -> None:
    line.writes("a")
    line.writes("b")
    assert (line.kept, line.commits) == (["a", "b"], 2)


def test_nobody_goes_on_before_the_commit(line: Line) -> None:
    seen: list[list[str]] = []

    def look(_tx: sa.Connection) -> None:
        seen.append(line.kept)

    with line.held():
        other = line.begins("a", look)
    assert sorted(line.kept) == ["a", "first"]
    other.result(FAR)
    assert seen == [[]], "what the first wrote was not committed in the second's turn, and the first had not gone on"


def test_one_that_fails_takes_back_its_own_alone(line: Line) -> None:
    def fail(_tx: sa.Connection) -> None:
        raise Conflict("no")

    with line.held():
        before, failing, after = line.begins("a"), line.begins("b", fail), line.begins("c")
    before.result(FAR)
    after.result(FAR)
    with pytest.raises(Conflict):
        failing.result(FAR)
    assert sorted(line.kept) == ["a", "c", "first"]


def test_the_first_that_fails_leaves_the_line_to_the_others(line: Line) -> None:
    others = []

    def fail() -> None:
        with line.held():
            others.append(line.begins("a"))
            raise Conflict("no")

    with pytest.raises(Conflict):
        fail()
    for other in others:
        other.result(FAR)
    assert line.kept == ["a"]


def test_the_last_that_fails_commits_for_the_others(line: Line) -> None:
    def fail(_tx: sa.Connection) -> None:
        raise Conflict("no")

    with line.held():
        failing = line.begins("a", fail)
    with pytest.raises(Conflict):
        failing.result(FAR)
    assert (line.kept, line.commits) == (["first"], 1)


def test_a_statement_that_fails_takes_back_its_writers_own_alone(line: Line) -> None:
    with line.held():
        again = line.begins("first")
        other = line.begins("a")
    with pytest.raises(sa.exc.IntegrityError):
        again.result(FAR)
    other.result(FAR)
    assert sorted(line.kept) == ["a", "first"]


def test_a_savepoint_within_a_turn_is_the_writers_own(line: Line) -> None:
    def nested(tx: sa.Connection) -> None:
        with contextlib.suppress(sa.exc.IntegrityError), tx.begin_nested():
            tx.execute(sa.insert(NAMES).values(name="b"))
            tx.execute(sa.insert(NAMES).values(name="first"))

    with line.held():
        other = line.begins("a", nested)
    other.result(FAR)
    assert sorted(line.kept) == ["a", "first"]


def test_all_learn_that_the_commit_failed(line: Line) -> None:
    def refuse(_connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, OSError("disk I/O error"))

    sa.event.listen(line.db.engine, "commit", refuse)
    with pytest.raises(Unavailable), line.held():
        others = [line.begins(name) for name in "ab"]
    for other in others:
        with pytest.raises(Unavailable):
            other.result(FAR)
    sa.event.remove(line.db.engine, "commit", refuse)
    assert line.kept == []
    line.writes("after")
    assert line.kept == ["after"]


def test_all_learn_that_sqlite_took_everything_back(line: Line) -> None:
    def fill_the_disk(tx: sa.Connection) -> None:
        # what SQLite does by itself when the disk is full in mid-transaction
        tx.exec_driver_sql("ROLLBACK")
        raise sa.exc.OperationalError("INSERT", {}, OSError("database or disk is full"))

    with pytest.raises(Unavailable), line.held():
        other = line.begins("a", fill_the_disk)
    with pytest.raises(Unavailable):
        other.result(FAR)
    assert line.kept == []
    line.writes("after")
    assert line.kept == ["after"]


def test_a_settled_writer_finds_all_others_committed(line: Line) -> None:
    seen: list[list[str]] = []

    def settled() -> None:
        line.writes("b", lambda _tx: seen.append(sorted(line.kept)), settled=True)

    with line.held():
        other = line.begins("a")
        last = line._pool.submit(settled)
        line.until_in_line(2)
    other.result(FAR)
    last.result(FAR)
    assert all("b" not in names and ("a" in names) <= ("first" in names) for names in seen)
    assert seen[0][-1:] == ["first"], "the turn before it was committed"
    assert sorted(line.kept) == ["a", "b", "first"]


def test_no_group_grows_without_end(line: Line) -> None:
    with line.held():
        others = [line.begins(f"n{number}") for number in range(group_commit.MOST + 4)]
    for other in others:
        other.result(FAR)
    assert len(line.kept) == group_commit.MOST + 5
    assert line.commits == 2


def test_one_interrupted_in_line_leaves_nobody_waiting(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the line is counted as waiting and never comes: the writer before it commits by itself."""
    monkeypatch.setattr(group_commit, "_LOOK_EVERY", 0.01)
    line._line._in_line = 1

    def leave() -> None:
        with line._line._arriving:
            line._line._in_line -= 1

    timer = threading.Timer(0.05, leave)
    timer.start()
    line.writes("a")
    timer.join()
    assert line.kept == ["a"]
