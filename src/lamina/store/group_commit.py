"""Group commit: on SQLite, writers that stand in line share one commit.

SQLite has one writer at a time, and a commit that lasts waits for the disk. Writers take turns in one transaction, all
but the first behind a savepoint of its own, and the one behind whom nobody stands commits for all. Nobody goes on before
what it wrote is on disk; one that fails takes back its own writes alone. (DeWitt et al., "Implementation Techniques for
Main Memory Database Systems", SIGMOD 1984, section 5.2; SQLite, "Savepoints".)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import Unavailable

#: most writers that share one commit: the first of them waits for all
MOST = 16
#: seconds after which one that waits for a commit looks whether there is still somebody to make it
_LOOK_EVERY = 1.0


class GroupCommit:
    """The one line of writers of a process. Safe for threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine.execution_options(lamina_write=True)
        self._turn = threading.Lock()
        #: the transaction that the next writer joins; only he whose turn it is looks at it
        self._open: _Group | None = None
        self._arriving = threading.Lock()
        self._in_line = 0

    @property
    def in_line(self) -> int:
        """Writers that wait for their turn."""
        return self._in_line

    @contextlib.contextmanager
    def write(self, options: Mapping[str, Any], *, settled: bool) -> Iterator[sa.Connection]:
        """One writer's turn; on disk when the block has been left, or taken back when it raises.

        The connection has the execution options given. With `settled` all that others wrote before is committed when
        the block begins. Raises `Unavailable` where the commit fails, for all that share it.
        """
        with self._my_turn():
            if settled and self._open is not None:
                self._commit(self._open)
            group = self._open or _Group(self._engine)
            self._open = group
            try:
                with group.member(options) as connection:
                    yield connection
            finally:
                if group.ended:
                    self._open = None
                elif self._in_line == 0 or group.members >= MOST:
                    self._commit(group)
        while not group.wait(_LOOK_EVERY):
            # whoever was to come next was interrupted while it stood in line
            with self._my_turn():
                if self._open is group:
                    self._commit(group)

    @contextlib.contextmanager
    def _my_turn(self) -> Iterator[None]:
        with self._arriving:
            self._in_line += 1
        try:
            self._turn.acquire()
        finally:
            with self._arriving:
                self._in_line -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _commit(self, group: _Group) -> None:
        self._open = None
        group.commit()


class _Group:
    """One transaction that writers take turns in. Raises `sqlalchemy.exc.OperationalError` where it cannot begin."""

    def __init__(self, engine: sa.Engine) -> None:
        self.members = 0
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._connection = engine.connect()
        try:
            self._transaction = self._connection.begin()
        except BaseException:
            self._connection.close()
            raise

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @contextlib.contextmanager
    def member(self, options: Mapping[str, Any]) -> Iterator[sa.Connection]:
        connection = self._connection.execution_options(**options)
        savepoint = connection.begin_nested() if self.members else None
        try:
            yield connection
            if savepoint is not None:
                savepoint.commit()
        except BaseException:
            self._take_back(savepoint)
            raise
        self.members += 1

    def _take_back(self, savepoint: sa.NestedTransaction | None) -> None:
        """The failed member's writes, or everybody's where that is no longer possible.

        SQLite itself rolls the whole transaction back when the disk is full or fails ("Transaction", section 3).
        """
        try:
            if savepoint is not None:
                savepoint.rollback()
                return
        except sa.exc.SQLAlchemyError as error:
            self._failure = error
        self._end(self._transaction.rollback)

    def commit(self) -> None:
        """Raises nothing: every member learns in `wait` how it went."""
        self._end(self._transaction.commit)

    def _end(self, how: Callable[[], None]) -> None:
        try:
            with self._connection:
                try:
                    how()
                except BaseException:
                    # it may hold a transaction still, of which the pool would know nothing
                    self._connection.invalidate()
                    raise
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended. Raises `Unavailable` where it ended without a commit."""
        ended = self._ended.wait(seconds)
        if self._failure is not None:
            raise Unavailable("The database refuses to write; try again.", cause=str(self._failure)) from self._failure
        return ended
