"""The lines of the log as the database has them, read as values."""

from __future__ import annotations

from collections.abc import Iterable

from lamina.model.errors import LaminaError
from lamina.saga.log import CorruptLog, Entry, Event
from lamina.saga.steps import SagaError
from lamina.store.reading import Torn
from lamina.store.sagas import EventRow, SagaRow


def read(rows: Iterable[EventRow]) -> list[Entry]:
    """Raises `CorruptLog`."""
    rows = list(rows)
    for row in rows:
        if isinstance(row.output, Torn) or not (row.error is None or isinstance(row.error, dict)):
            raise CorruptLog(f"line {row.number} of the log of operation {row.saga_id} cannot be read")
    try:
        return [Entry(e.step, Event(e.event), e.number, e.started_at, e.finished_at, e.output, e.error, e.host) for e in rows]
    except ValueError as error:
        raise CorruptLog(f"a line of the log cannot be read: {error}") from error


def must_be_readable(row: SagaRow) -> None:
    """Raises `CorruptLog` for an operation of which nobody knows what its steps were."""
    if not isinstance(row.steps, list) or not all(isinstance(step, str) for step in row.steps):
        raise CorruptLog(f"the steps of operation {row.id} cannot be read")


def first_failure(entries: Iterable[Entry]) -> SagaError:
    """Why the saga turned back, whatever went wrong on the way."""
    for entry in entries:
        if entry.event is Event.FAILED and entry.error is not None:
            return SagaError(**entry.error)
    return SagaError(LaminaError.code, "the operation failed")
