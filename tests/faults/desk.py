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
        #: by name: a database, files by their paths, and the rest of what a world was
        self._places: dict[str, tuple[sqlite3.Connection, dict[str, bytes], tuple[float, str]]] = {}

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

    def keeps(self, name: str) -> bool:
        """Whether something was kept by this name."""
        return name in self._places

    def keep_place(self, name: str, place: Path, more: tuple[float, str]) -> None:
        """A place as it is now, with the database and `more`."""
        files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        self._places[name] = self.kept(), files, more

    def place_again(self, name: str) -> tuple[Path, tuple[float, str]]:
        """Another place like the one that was kept, and the database, as it was then."""
        database, files, more = self._places[name]
        self.put_back(database)
        place = Path(tempfile.mkdtemp(dir=self.folder))
        for file, content in files.items():
            (place / file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (place / file).write_bytes(content)
        (place / "images").mkdir(exist_ok=True)
        return place, more

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
