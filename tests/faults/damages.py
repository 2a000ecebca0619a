"""Ways in which a record can be damaged: every column that is more than a text or a number, made nothing that can be read.

They are found in the tables and in what rows are read as, so that a column which is added is damaged too.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import pkgutil
import sqlite3
import types
import typing
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from lamina import store
from lamina.model.audit import Event as AuditEvent
from lamina.model.audit import Initiator
from lamina.model.ids import PciAddress
from lamina.model.repairs import Repair
from lamina.store.audit import EVENTS
from lamina.store.hosts import GPUS
from lamina.store.reading import Reader
from lamina.store.repairs import REPAIRS
from lamina.store.tables import control_planes, metadata, operations

#: JSON that breaks off, that is of another kind, and that is nothing
TORN, OTHER, NOTHING = '{"torn', "7", "null"


@dataclasses.dataclass(frozen=True)
class Damage:
    table: str
    column: str
    value: str | int
    #: which of the table's records: the oldest or the newest
    newest: bool = True

    def __str__(self) -> str:
        return f"{'newest' if self.newest else 'oldest'} {self.table}.{self.column}={self.value}"

    def put(self, connection: sqlite3.Connection) -> str:
        """Do it; what the record is called."""
        connection.execute("DROP TRIGGER IF EXISTS audit_events_no_update")
        which = f"rowid = (SELECT {'max' if self.newest else 'min'}(rowid) FROM {self.table})"  # noqa: S608 - names of tables
        assert connection.execute(f"UPDATE {self.table} SET {self.column} = ? WHERE {which}", (self.value,)).rowcount == 1  # noqa: S608
        row = connection.execute(f"SELECT {', '.join(KEYS[self.table])} FROM {self.table} WHERE {which}").fetchone()  # noqa: S608
        connection.commit()
        return "/".join(map(str, row))


def readers() -> list[Reader[Any]]:
    """Every reader of the store, by its table's name."""
    modules = [importlib.import_module(f"{store.__name__}.{found.name}") for found in pkgutil.iter_modules(store.__path__)]
    found = {value.table.name: value for module in modules for value in vars(module).values() if isinstance(value, Reader)}
    return [found[name] for name in sorted(found)]


#: table -> the columns that name a record
KEYS = {reader.table.name: reader.key for reader in readers()} | {"queue": ("server_id",), "saga_events": ("saga_id",)}
#: of these the oldest is that of a server at rest, and the newest of one half way through an operation
TWICE = frozenset({"servers", "vgpus", "migrations", "gpus"})


def every() -> Iterator[Damage]:
    for one in _newest():
        yield one
        if one.table in TWICE and one.value not in (OTHER, NOTHING):
            yield dataclasses.replace(one, newest=False)


def _newest() -> Iterator[Damage]:
    for reader in readers():
        for column in reader.table.c:
            yield from _of(reader, column)
    # these are read where it is known what should be in them
    yield from (Damage(control_planes.queue.name, "params", value) for value in (TORN, OTHER, NOTHING))
    yield from (Damage(operations.saga_events.name, "event", "torn"), Damage(operations.saga_events.name, "output", TORN))
    yield from (Damage(operations.saga_events.name, "error", value) for value in (TORN, OTHER))


def json_columns() -> set[tuple[str, str]]:
    return {(t.name, c.name) for t in metadata.tables.values() for c in t.c if isinstance(c.type, sa.JSON)}


def _of(reader: Reader[Any], column: sa.Column[Any]) -> Iterator[Damage]:
    table, name = reader.table.name, column.name
    if isinstance(column.type, sa.JSON):
        yield Damage(table, name, TORN)
        yield Damage(table, name, OTHER if column.nullable else NOTHING)
    elif any(isinstance(one, type) and issubclass(one, enum.IntEnum) for one in _types(reader, name)):
        yield Damage(table, name, 99)
    elif any(isinstance(one, type) and issubclass(one, enum.Enum | PciAddress) for one in _types(reader, name)) or (table, name) == (
        operations.sagas.name,
        "state",
    ):
        yield Damage(table, name, "torn")


def _types(reader: Reader[Any], column: str) -> tuple[Any, ...]:
    """What a column is read as, whichever part of the value it is in."""
    if reader is EVENTS:
        hints = typing.get_type_hints(AuditEvent) | {f"initiator_{k}": v for k, v in typing.get_type_hints(Initiator).items()}
    elif reader is REPAIRS:
        hints = typing.get_type_hints(Repair)
    else:
        hints = typing.get_type_hints(reader.type)
    hint = hints.get(column)
    if reader is GPUS and column == "address":
        return (PciAddress,)
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
