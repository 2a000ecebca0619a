"""Databases with this version's schema and nothing in them, migrated once for all tests of a process."""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from lamina.store import schema
from lamina.store.database import Database

TEMPLATE = "lamina"


@functools.cache
def empty_database() -> bytes:
    """The file of a SQLite database."""
    with tempfile.TemporaryDirectory() as folder:
        db = Database.at(Path(folder))
        schema.upgrade(db)
        db.close()  # the last connection's end brings the write-ahead log into the file
        return (Path(folder) / "lamina.db").read_bytes()


class Postgres:
    """A PostgreSQL server whose first database is the model of all others. `url` is that one's."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self._numbers = itertools.count(1)
        template = Database(url)
        schema.upgrade(template)
        template.close()
        self._server = sa.create_engine(self._url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """The URL of a database that is gone afterwards; with ``template0`` it has no schema."""
        name = f"test_{next(self._numbers)}"
        with self._server.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield self._url.set(database=name).render_as_string(hide_password=False)
        finally:
            with self._server.connect() as connection:
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
