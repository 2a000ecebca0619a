"""A database and folders in memory, empty again for each world: no commit waits for a disk, no statement is compiled twice."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lamina.store.database import Database
from tests.empty_database import empty_database


class Desk:
    """One of a process. Its database outlives the control planes on it; a process that dies is simply dropped."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - a file system in memory, where there is one
        self.folder = Path(tempfile.mkdtemp(prefix="lamina-faults-", dir=memory if memory.is_dir() else None))
        (self.folder / "lamina.db").write_bytes(empty_database())
        self.db = Database.at(self.folder)
        sa.event.listen(self.db.engine, "connect", _careless)
        self._empty = self.kept()

    def kept(self) -> sqlite3.Connection:
        """The database as it is now, to be put back later."""
        copy = sqlite3.connect(":memory:")
        with self.raw() as connection:
            connection.backup(copy)
        return copy

    def put_back(self, kept: sqlite3.Connection | None = None) -> None:
        """Have the database as it was kept, or empty."""
        self.db._counters.clear()
        with self.raw() as connection:
            (kept or self._empty).backup(connection)

    def place(self) -> Path:
        """An empty folder, and an empty database."""
        self.put_back()
        return Path(tempfile.mkdtemp(dir=self.folder))

    @contextmanager
    def raw(self) -> Iterator[sqlite3.Connection]:
        pooled = self.db.engine.raw_connection()
        try:
            yield pooled.driver_connection  # type: ignore[misc]
        finally:
            pooled.close()

    def close(self) -> None:
        self.db.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _careless(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")
