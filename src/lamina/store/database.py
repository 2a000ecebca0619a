"""The database: one engine, read and write transactions, SQLite and PostgreSQL alike.

On SQLite: WAL, ``synchronous=FULL`` (a lost commit would be a vGPU given twice), foreign keys on, and every write
transaction begun IMMEDIATE, its writers in one line (`lamina.store.group_commit`), so that they wait for each other
instead of failing (SQLite, "Write-Ahead Logging" and "Transaction"; SQLAlchemy, "SQLite: transactional isolation").
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.model.audit import Event, Outcome
from lamina.model.errors import ConcurrentUpdate, Unavailable
from lamina.store import audit, reading, tree_changes
from lamina.store.group_commit import GroupCommit
from lamina.store.tables.control_planes import counters

#: seconds after which a connection is asked whether it still is one
_RESTED = 5.0
#: seconds that a writer waits for another process on the same SQLite file
_BUSY_TIMEOUT = 30


def _dump(value: Any) -> str:
    return msgspec.json.encode(value).decode()


#: SQLSTATE of a transaction that is ended for others' sake: serialization_failure, deadlock_detected
#: (PostgreSQL, "Appendix A. PostgreSQL Error Codes")
_GIVES_WAY = frozenset({"40001", "40P01"})
#: holds, to the end of the transaction, the row that queued writers stand in line for
_QUEUE = sa.update(counters).where(counters.c.name == "queue").values(value=counters.c.value + 1)

#: the execution option of a writing connection that holds the tables that its transaction has written to
_WROTE = "lamina_wrote"


@dataclasses.dataclass(slots=True)
class _Writes:
    """How often some tables were written to."""

    tables: frozenset[sa.Table]
    number: int = 0


def _note_write(connection: sa.Connection, statement: Any, *_rest: Any) -> None:
    if isinstance(statement, sa.UpdateBase):
        wrote = connection.get_execution_options().get(_WROTE)
        if wrote is not None:
            wrote.add(statement.table)


class Database:
    """Hands out connections inside transactions. Safe for threads; one object per process."""

    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_TIMEOUT}} if self.is_sqlite else {}
        options |= {"json_serializer": _dump, "json_deserializer": reading.json_of, "pool_size": 32, "max_overflow": 64}
        self.engine = sa.create_engine(url, **options)
        # a transaction would cost two more ways to the server and back, and see no more
        self._reader = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._line = GroupCommit(self.engine) if self.is_sqlite else None
        #: told of every event of the audit trail once it is committed and known how it ended; raises nothing
        self.on_event: Callable[[Event], None] = _tell_nobody
        self._counters: list[_Writes] = []
        self._counting = threading.Lock()
        sa.event.listen(self.engine, "after_execute", _note_write)
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            sa.event.listen(self.engine, "checkin", _note_rest)
            sa.event.listen(self.engine, "checkout", _must_answer)

    @classmethod
    def at(cls, directory: Path) -> Database:
        """The SQLite database of a state directory."""
        return cls(f"sqlite:///{directory / 'lamina.db'}")

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection to read from; nothing may be written here.

        On SQLite all that is read is of one moment, on PostgreSQL what each statement reads is.
        """
        with _told(), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self, *, settled: bool = False, queued: bool = False) -> Iterator[sa.Connection]:
        """One transaction: all of it is kept when the block ends, none of it when the block raises.

        With `settled` a reader on another connection sees, all through the block, all that its writer sees of others. Of
        the queued ones of all processes one at a time is in its block. Raises `Unavailable`, and `ConcurrentUpdate` where
        the database chose it to give way to others.
        """
        notes: dict[str, tree_changes.What] = {}
        wrote: set[Any] = set()
        events: list[Event] = []
        options = {tree_changes.NOTES: notes, _WROTE: wrote, audit.RECORDED: events}
        try:
            with _told(), self._transaction(options, settled) as connection:
                if queued and not self.is_sqlite:  # where every writer is queued
                    connection.execute(_QUEUE)
                yield connection
                committed = audit.accompany(connection, wrote)
                tree_changes.number(connection, notes)
        finally:
            # one that failed too: a commit of which nobody knows whether it was one counts as one
            self._count(wrote)
        committed()
        for event in events:
            if event.outcome is not Outcome.PENDING:
                self.on_event(event)

    @contextlib.contextmanager
    def _transaction(self, options: dict[str, Any], settled: bool) -> Iterator[sa.Connection]:
        if self._line is not None:
            with self._line.write(options, settled=settled) as connection:
                yield connection
        else:
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection

    def _count(self, wrote: set[Any]) -> None:
        touched = [counter for counter in self._counters if counter.tables & wrote]
        if touched:
            # two at once must not both count from the same number: what was remembered at the lower one would come back
            with self._counting:
                for counter in touched:
                    counter.number += 1

    def count_writes(self, tables: frozenset[sa.Table]) -> Callable[[], int]:
        """What tells how many transactions of this process have written to any of these tables, those under way left out.

        A transaction is counted before the block that wrote it goes on.
        """
        counter = _Writes(tables)
        self._counters.append(counter)
        return lambda: counter.number

    def close(self) -> None:
        self.engine.dispose()


def _tell_nobody(_event: Event) -> None:
    pass


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) in _GIVES_WAY:
            raise ConcurrentUpdate("Others who write the same were let through first; try again.", cause=str(error)) from error
        raise Unavailable("The database does not answer or refuses to write; try again.", cause=str(error)) from error


def _note_rest(_connection: Any, record: Any) -> None:
    record.info["rested_since"] = time.monotonic()


def _must_answer(connection: Any, record: Any, _proxy: Any) -> None:
    """A connection that has rested may have ended meanwhile, with its server. One in steady use is not asked each time."""
    if time.monotonic() - record.info.get("rested_since", math.inf) > _RESTED:
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except Exception as error:  # whatever the driver says of a dead connection: another is tried
            raise sa.exc.DisconnectionError from error


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, never by the driver
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("lamina_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
