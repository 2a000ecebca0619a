"""The lines of the log as the database has them, read as values."""

from __future__ import annotations

from collections.abc import Iterable

from lamina.model.errors import LaminaError
from lamina.saga.log import CorruptLog, Entry, Event
from lamina.saga.steps import SagaError
from lamina.store.sagas import EventRow


def read(rows: Iterable[EventRow]) -> list[Entry]:
    """Raises `CorruptLog`."""
    try:
        return [Entry(e.step, Event(e.event), e.number, e.started_at, e.finished_at, e.output, e.error, e.host) for e in rows]
    except ValueError as error:
        raise CorruptLog(f"a line of the log cannot be read: {error}") from error


def first_failure(entries: Iterable[Entry]) -> SagaError:
    """Why the saga turned back, whatever went wrong on the way."""
    for entry in entries:
        if entry.event is Event.FAILED and entry.error is not None:
            return SagaError(**entry.error)
    return SagaError(LaminaError.code, "the operation failed")
