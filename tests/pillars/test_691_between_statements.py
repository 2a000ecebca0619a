"""CWE-362 at its smallest: a call reads in several statements, and between any two of them others commit what empties a table.

On PostgreSQL each statement of a read sees what is committed by then. SQLite is made to do likewise here, so that it can be
tried between every two statements of every call.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from lamina.api.routing import Room
from lamina.store import database
from lamina.store.tables.audit import audit_events
from lamina.store.tables.base import metadata
from lamina.store.tables.control_planes import counters
from tests.pillars.calls import Call, calls
from tests.pillars.identities import ADMIN, AGENT_A, MEMBER, Identity
from tests.pillars.matrix import EVERY_ROOM, Door, opened

pytestmark = pytest.mark.weakness(691)

#: of these nothing is ever taken away
LASTING = {counters.name, audit_events.name}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(scope="module")
def others() -> Iterator[Others]:
    with opened() as door:
        made = Others(door)
        yield made
        made.close()


class Others:
    """Those who write while a call reads."""

    def __init__(self, door: Door) -> None:
        self.door = door
        db = door.cloud.plane.db
        sa.event.remove(db.engine, "begin", database._begin_sqlite)
        sa.event.listen(db.engine, "begin", _begin_writers_only)
        sa.event.listen(db.engine, "after_cursor_execute", self._after)
        db._reader = db.engine.execution_options(isolation_level="AUTOCOMMIT")
        # foreign keys are not looked at: what is in other tables for this one goes after it, and may not yet have gone
        self._connection = sqlite3.connect(str(db.engine.url.database), isolation_level=None, check_same_thread=False, timeout=0)
        self._read: list[str] = []
        self._after_number, self._table, self._came = 0, "", False

    def close(self) -> None:
        self._connection.close()

    def _after(self, connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if connection.get_execution_options().get("lamina_write"):
            return
        self._read.append(statement)
        if len(self._read) == self._after_number:
            with contextlib.suppress(sqlite3.OperationalError):  # the call is writing, elsewhere, at this moment
                self._connection.execute(f"DELETE FROM {self._table}")  # noqa: S608 - a name of the schema
                self._came = True

    def statements(self, identity: Identity, call: Call) -> list[str]:
        """What the call reads, undisturbed."""
        self._ask(identity, call, 0, "")
        return self._read

    def between(self, identity: Identity, call: Call, number: int, table: str) -> tuple[int, str] | None:
        """The answer where somebody empties a table after so many statements; None where nobody could."""
        answer = self._ask(identity, call, number, table)
        return answer if self._came else None

    def _ask(self, identity: Identity, call: Call, number: int, table: str) -> tuple[int, str]:
        self._read, self._after_number, self._table, self._came = [], number, table, False
        try:
            answer = self.door.ask(identity, call, self.door.cloud.own(identity))
        finally:
            self.door.cloud.put_back()
        return answer.status_code, answer.text


def _begin_writers_only(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("lamina_write"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@pytest.mark.parametrize("room", EVERY_ROOM, ids=lambda room: room.name)
@pytest.mark.weakness(362)
@pytest.mark.weakness(367)
@pytest.mark.weakness(755)
def test_what_goes_between_two_statements_of_a_call_is_missed_and_nothing_fails(
    others: Others, room: Room, record_property: Callable[[str, object], None]
) -> None:
    """The call answers as if it had come before or after, or that it was not to be; never that something unexpected has happened."""
    wrong, cells, rows = [], 0, calls(room)
    for call in rows:
        for identity in (AGENT_A,) if room.name == "agents" else (ADMIN, MEMBER):
            read = others.statements(identity, call)
            for number in range(1, len(read)):
                rest = " ".join(read[number:])
                for table in (name for name in metadata.tables if name in rest and name not in LASTING):
                    answer = others.between(identity, call, number, table)
                    cells += answer is not None
                    if answer is not None and answer[0] >= 500 and answer[0] != 501:
                        wrong.append(f"{call} by {identity.name}, without {table} after {number} of {len(read)}: {answer[1][:200]}")
    record_property("counted", ("tables emptied in between", len(rows), cells))
    assert not wrong, "\n".join(wrong)
