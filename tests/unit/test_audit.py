"""The audit trail itself: what an event looks like, that it only grows, and that it is one commit with what it tells of."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from lamina.api.refusals import MOST_KEPT, MOST_OF_ALL, MOST_OF_ONE, WINDOW, Refusals
from lamina.model import audit as model
from lamina.model import ids
from lamina.model.audit import Event, Initiator, Outcome, Target, cadf, line
from lamina.model.errors import Unavailable
from lamina.store import audit, audit_ledger
from lamina.store.audit import Sought
from lamina.store.audit_ledger import Ledger
from lamina.store.database import Database
from lamina.store.tables.audit import audit_events
from lamina.store.tables.control_planes import counters

EVENT = Event(
    id="00000000-0000-4000-8000-000000000001",
    at=1_800_000_000.25,
    action="delete/os_compute_api:servers:delete",
    outcome=Outcome.SUCCESS,
    initiator=Initiator(id="u", name="ann", project_id="p", address="192.0.2.1", agent="openstacksdk"),
    target=Target("service/compute/servers/server", "s"),
    observer="compute",
    request_id="req-1",
    status=204,
    path="/compute/v2.1/servers/s",
)


def everything(db: Database, **sought: Any) -> list[Event]:
    with db.read() as tx:
        return [event for _, event in audit.page(tx, Sought(**sought), limit=1000, marker=None, direction="asc")]


def add(db: Database, *events: Event) -> None:
    with db.write() as tx:
        for event in events:
            audit.record(tx, event)


def change(tx: sa.Connection) -> None:
    tx.execute(sa.update(counters).where(counters.c.name == "epoch").values(value=counters.c.value + 1))


def _change_and_fail(tx: sa.Connection) -> None:
    change(tx)
    raise ZeroDivisionError


def _record_and_fail(tx: sa.Connection) -> None:
    audit.record(tx, EVENT)
    raise ZeroDivisionError


# ---------------------------------------------------------------------------------------------------- an event


def test_an_event_is_what_cadf_calls_one() -> None:
    event = dataclasses.replace(EVENT, global_request_id="req-2", more={"left_out": 3})
    told = cadf(event)
    observer = told.pop("observer")
    assert told == {
        "typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event",
        "eventType": "activity",
        "id": EVENT.id,
        "eventTime": "2027-01-15T08:00:00.250000+0000",
        "action": "delete/os_compute_api:servers:delete",
        "outcome": "success",
        "reason": {"reasonCode": "204", "reasonType": "HTTP"},
        "initiator": {
            "id": "u",
            "typeURI": "service/security/account/user",
            "name": "ann",
            "project_id": "p",
            "request_id": "req-1",
            "global_request_id": "req-2",
            "host": {"address": "192.0.2.1", "agent": "openstacksdk"},
        },
        "target": {"id": "s", "typeURI": "service/compute/servers/server"},
        "requestPath": "/compute/v2.1/servers/s",
        "attachments": [{"typeURI": "lamina/left_out", "name": "left_out", "content": 3}],
    }
    assert ids.is_uuid(observer.pop("id"))
    assert observer == {"typeURI": "service/compute", "name": "lamina"}


@given(st.text())
@pytest.mark.weakness(117)
def test_no_name_begins_a_line_of_its_own(name: str) -> None:
    event = dataclasses.replace(EVENT, initiator=Initiator(name=name, agent=name), target=Target(id=name))
    told = line(event)
    assert told.isascii()
    assert told.isprintable()
    assert json.loads(told)["initiator"]["name"] == name


def test_what_lamina_does_by_itself_says_so() -> None:
    told = cadf(model.own(1.0, "restore/lamina:repair:restore", model.server("s"), why="it is gone", operation_id=None))
    assert told["initiator"].keys() == {"id", "typeURI", "name"}
    assert (told["initiator"]["typeURI"], told["initiator"]["name"]) == ("service/compute", "lamina")
    assert [one["name"] for one in told["attachments"]] == ["why"]


# ---------------------------------------------------------------------------------------------------- the trail


@pytest.mark.databases
def test_what_was_recorded_comes_back(database: Database) -> None:
    add(database, EVENT, dataclasses.replace(EVENT, id="2", more={"why": "ä"}, request_id=None, target=Target("k", "t", "of")))
    assert everything(database)[0] == EVENT
    assert everything(database)[1].more == {"why": "ä"}


@pytest.mark.databases
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET outcome = 'failure'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "REPLACE INTO audit_events (seq, event_id, at, action, outcome, initiator_kind, initiator_id, initiator_name,"
        " target_kind, target_id, observer, more) VALUES (1, 'x', 0, 'forged', 'success', 'k', 'i', 'n', 'k', 't', 'o', '{}')",
    ],
)
@pytest.mark.weakness(117)
def test_the_database_itself_refuses_to_change_the_trail(database: Database, statement: str) -> None:
    add(database, EVENT)
    with pytest.raises(sa.exc.DBAPIError) as told, database.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(statement)
    known = not (database.is_sqlite and "TRUNCATE" in statement) and (database.is_sqlite or "REPLACE" not in statement)
    assert ("audit_events only grows" in str(told.value)) == known, "the other database has no such statement"
    assert everything(database) == [EVENT]


@pytest.mark.databases
def test_of_an_event_the_later_row_counts(database: Database) -> None:
    add(database, dataclasses.replace(EVENT, outcome=Outcome.PENDING, status=None))
    assert [event.outcome for event in everything(database)] == [Outcome.PENDING]
    add(database, EVENT)
    assert everything(database) == [EVENT]
    assert everything(database, outcome=Outcome.PENDING) == []


@pytest.mark.databases
def test_the_trail_is_searched_and_paged(database: Database) -> None:
    other = Event(
        id="x",
        at=1_800_000_100.0,
        action="update/os_compute_api:servers:action/os-stop",
        outcome=Outcome.FAILURE,
        initiator=Initiator(id="v", name="bob", project_id="q"),
        target=Target("service/compute/servers/server/tags/tag", "t", "s"),
        observer="compute",
        request_id="req-3",
        global_request_id="req-4",
    )
    add(database, EVENT, other)
    for sought in (
        {"user": "v"},
        {"user": "bob"},
        {"project": "q"},
        {"target": "t"},
        {"action": "os-stop"},
        {"outcome": Outcome.FAILURE},
        {"since": 1_800_000_100.0},
        {"request": "req-3"},
        {"request": "req-4"},
    ):
        assert everything(database, **sought) == [other], sought
    assert everything(database, until=1_800_000_100.0) == [EVENT]
    assert everything(database, target="s") == [EVENT, other]
    assert everything(database, action="os%stop") == []
    with database.read() as tx:
        ((first, newest),) = audit.page(tx, Sought(), limit=1, marker=None, direction="desc")
        ((_, oldest),) = audit.page(tx, Sought(), limit=5, marker=first, direction="desc")
    assert (newest, oldest) == (other, EVENT)


def _pruning(sqlite: bool, trigger: str) -> list[str]:
    """The statements that the page for operators gives, but for the connection's own."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    (told,) = re.findall(r"`(BEGIN IMMEDIATE;[^`]*)`" if sqlite else r"`(BEGIN; ALTER[^`]*)`", page)
    statements = [one for part in told.split(";") if (one := part.strip()) and not one.startswith(("BEGIN", "COMMIT"))]
    return [*statements, trigger] if sqlite else statements


@pytest.mark.databases
def test_the_trail_is_pruned_as_the_page_says_and_refuses_changes_again(database: Database) -> None:
    old, new = (dataclasses.replace(EVENT, id=str(days), at=time.time() - days * 86400) for days in (401, 399))
    add(database, old, new)
    trigger = "SELECT sql FROM sqlite_master WHERE name = 'audit_events_no_delete'"
    with database.write() as tx:
        made = tx.exec_driver_sql(trigger).scalar_one() if database.is_sqlite else ""
        for statement in _pruning(database.is_sqlite, made):
            tx.exec_driver_sql(statement)
    assert [event.id for event in everything(database)] == ["399"]
    with pytest.raises(sa.exc.DBAPIError, match="only grows"), database.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("DELETE FROM audit_events")
    add(database, EVENT)
    assert len(everything(database)) == 2


# ---------------------------------------------------------------------------------------------------- one commit


@pytest.mark.databases
def test_a_change_and_its_record_are_one_commit(database: Database) -> None:
    asked = dataclasses.replace(EVENT, outcome=Outcome.PENDING)
    with audit.accompanied(lambda: asked):
        with pytest.raises(ZeroDivisionError), database.write() as tx:
            _change_and_fail(tx)
        assert everything(database) == []
        with database.write() as tx:
            change(tx)
        assert everything(database) == [asked]
        with database.write() as tx:
            change(tx)
    assert everything(database) == [asked], "it is recorded once"
    with database.write() as tx:
        change(tx)
    assert everything(database) == [asked]


def test_a_transaction_that_changes_nothing_is_no_change(database: Database) -> None:
    with audit.accompanied(lambda: EVENT), database.write():
        pass
    assert everything(database) == []


def test_events_are_passed_on_once_they_are_committed_and_ended(database: Database) -> None:
    told: list[Event] = []
    database.on_event = told.append
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        _record_and_fail(tx)
    add(database, dataclasses.replace(EVENT, outcome=Outcome.PENDING))
    assert told == []
    add(database, EVENT)
    assert told == [EVENT]


# ---------------------------------------------------------------------------------------------------- what may wait


def test_a_ledger_that_is_not_started_lets_nothing_wait(database: Database) -> None:
    ledger = Ledger(database)
    assert not ledger.later(EVENT)
    ledger.now(EVENT)
    assert everything(database) == [EVENT]


def test_what_waits_is_written_together_and_all_of_it_before_the_end(database: Database) -> None:
    ledger = Ledger(database)
    writes = database.count_writes(frozenset({audit_events}))
    ledger.start()
    events = [dataclasses.replace(EVENT, id=str(n)) for n in range(100)]
    assert all(ledger.later(event) for event in events)
    ledger.stop()
    assert everything(database) == events
    assert writes() < 10
    assert not ledger.later(EVENT)


def test_what_the_database_does_not_take_is_kept_and_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, trouble, tried = Ledger(database), [Unavailable("The disk is full.")] * 2, threading.Event()
    now = ledger.now

    def write(*events: Event) -> None:
        if trouble:
            raise trouble.pop()
        now(*events)
        tried.set()

    monkeypatch.setattr(ledger, "now", write)
    monkeypatch.setattr(audit_ledger, "PAUSE", 0.0)
    ledger.start()
    assert ledger.later(EVENT)
    assert tried.wait(30)
    assert everything(database) == [EVENT]
    assert capsys.readouterr().out.count("events wait to be written") == 2
    ledger.stop()


@pytest.mark.weakness(770)
def test_not_more_waits_than_there_is_room_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_ledger, "MOST", 2)
    monkeypatch.setattr(audit_ledger, "GATHER", 3600.0)
    ledger = Ledger(database)
    ledger.start()
    assert [ledger.later(EVENT) for _ in range(3)] == [True, True, False]
    ledger.stop()


# ---------------------------------------------------------------------------------------------------- floods


@pytest.mark.weakness(770)
def test_of_a_flood_a_few_are_recorded_and_the_rest_counted() -> None:
    refusals = Refusals()
    assert [refusals.admit("a", 100.0) for _ in range(MOST_OF_ONE)] == [0] * MOST_OF_ONE
    assert {refusals.admit("a", 100.0 + n / 100) for n in range(50)} == {None}
    assert refusals.admit("b", 101.0) == 0
    assert refusals.admit("a", 100.0 + WINDOW) == 50
    assert refusals.admit("a", 100.0 + WINDOW) == 0


@pytest.mark.weakness(770)
def test_a_flood_from_everywhere_is_bounded_too() -> None:
    refusals = Refusals()
    answers = [refusals.admit(f"address {n}", 100.0) for n in range(3 * MOST_KEPT)]
    assert sum(answer is not None for answer in answers) == MOST_OF_ALL
    assert len(refusals._of) <= MOST_KEPT
    told = [refusals.admit(f"address {n}", 100.0 + 2 * WINDOW) for n in range(3 * MOST_KEPT)]
    assert sum(answer or 0 for answer in told) >= 3 * MOST_KEPT - MOST_OF_ALL - MOST_KEPT, "those left out are counted"
