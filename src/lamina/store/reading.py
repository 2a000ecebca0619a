"""Reading: rows as values of the model, and what becomes of a row that can be none.

Who asks for one record is told by `CorruptRecord`, which names it. Who goes through many in the background, or lists them,
passes over the damaged ones: each is logged once in the life of a process, and told to whoever `gathered` it.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from lamina.model import decoding
from lamina.model.errors import CorruptRecord, LaminaError

T = TypeVar("T")
log = structlog.get_logger()

#: what decoders raise of values that they were not made for
UNREADABLE = (msgspec.MsgspecError, LaminaError, ValueError, TypeError, KeyError, AttributeError)
#: most characters of a damaged value that the log is told
_MOST_TOLD = 200
#: the column that msgspec complains about
_COLUMN = re.compile(r"`\$\.(\w+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Torn:
    """The text of a JSON column that is no JSON. No decoder takes it for anything else."""

    text: str


def json_of(text: str | bytes) -> Any:
    """The value of a JSON column. Damaged, it must not end the reading of the other rows, so it raises nothing."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Torn(str(text))


class is_json(GenericFunction[bool]):  # noqa: N801 - the name of a function in SQL
    """Whether a JSON column can be looked into: PostgreSQL lets nothing else in, SQLite ends a query that tries."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(is_json)
def _is_json(_element: Any, _compiler: Any, **_more: Any) -> str:
    return "(1 = 1)"


@compiles(is_json, "sqlite")
def _is_json_on_sqlite(element: Any, compiler: Any, **more: Any) -> str:
    return f"json_valid({compiler.process(element.clauses, **more)})"


def text_in(column: sa.Column[Any], name: str) -> sa.ColumnElement[Any]:
    """The text under this name in a JSON column; NULL where it is damaged."""
    return sa.case((is_json(column), column[name].as_string()))


@dataclasses.dataclass(frozen=True, slots=True)
class Reader(Generic[T]):
    """How the rows of one table become values. ``key`` are the columns that name a record to people."""

    table: sa.Table
    type: type[T]
    key: tuple[str, ...] = ("id",)
    #: from the columns by name; where there is none, they are the value's own fields
    decode: Callable[[dict[str, Any]], T] | None = None

    def one(self, row: sa.Row[Any]) -> T:
        """Raises `CorruptRecord`."""
        columns = {str(name): value for name, value in row._mapping.items()}  # SQLAlchemy's names are no plain strings to msgspec
        try:
            return decoding.from_plain(columns, self.type) if self.decode is None else self.decode(columns)
        except UNREADABLE as error:
            raise self._corrupt(columns, error) from error

    def every(self, rows: Iterable[sa.Row[Any]]) -> list[T]:
        """Raises `CorruptRecord` for the first that is damaged."""
        return [self.one(row) for row in rows]

    def readable(self, rows: Iterable[sa.Row[Any]]) -> Iterator[T]:
        """Those that are not damaged."""
        for row in rows:
            try:
                yield self.one(row)
            except CorruptRecord as error:
                pass_over(error)

    def page(self, tx: sa.Connection, query: sa.Select[Any], limit: int | None) -> list[T]:
        """The first `limit` that are not damaged: a page that were shorter for their sake would seem to be the last."""
        if limit is None:
            return list(self.readable(tx.execute(query)))
        more = 0
        while True:
            rows = tx.execute(query.limit(limit + more)).all()
            found = list(self.readable(rows))
            if len(found) >= limit or len(rows) < limit + more:
                return found[:limit]
            more = len(rows) - len(found)

    def _corrupt(self, columns: dict[str, Any], error: Exception) -> CorruptRecord:
        named = "/".join(str(columns.get(name)) for name in self.key)
        found = _COLUMN.search(str(error))
        value = columns.get(found[1]) if found is not None else None
        return corrupt(self.table.name, named, cause=str(error), value=repr(value)[:_MOST_TOLD])


def corrupt(table: str, key: str, **context: Any) -> CorruptRecord:
    """The error that names a record. What it says belongs into the context, for the log only."""
    return CorruptRecord(f"The record {key} in the table {table} is damaged and cannot be read.", table=table, key=key, **context)


# ---------------------------------------------------------------------------------------------------- passing over


_lock = threading.Lock()
#: table and key of what was logged -> the sentence that names it
_logged: dict[tuple[str, str], str] = {}
_gathering: contextvars.ContextVar[list[CorruptRecord] | None] = contextvars.ContextVar("lamina_damaged", default=None)


def pass_over(error: CorruptRecord) -> None:
    """Go on without a damaged record, and say so."""
    gathering = _gathering.get()
    if gathering is not None:
        gathering.append(error)
    name = error.context["table"], error.context["key"]
    with _lock:
        told = name in _logged
        _logged[name] = error.message
    if not told:
        log.error("damaged record passed over", **error.context)


def passed_over() -> list[str]:
    """What names the damaged records that this process has met since it began."""
    with _lock:
        return sorted(_logged.values())


@contextlib.contextmanager
def gathered() -> Iterator[list[CorruptRecord]]:
    """What is passed over in the block, by this thread."""
    found: list[CorruptRecord] = []
    token = _gathering.set(found)
    try:
        yield found
    finally:
        _gathering.reset(token)
