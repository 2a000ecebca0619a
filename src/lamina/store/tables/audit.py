"""The audit trail. It only grows: the database itself refuses to change or remove a row.

An event whose outcome is learnt later has two rows of one ``event_id``, of which the later one counts.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Table

from lamina.store.tables.base import metadata

audit_events = Table(
    "audit_events",
    metadata,
    Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", sa.String(36), nullable=False, index=True),
    Column("at", sa.Float, nullable=False, index=True),
    Column("action", sa.String(255), nullable=False),
    Column("outcome", sa.String(16), nullable=False),
    Column("status", sa.Integer),
    Column("initiator_kind", sa.String(64), nullable=False),
    Column("initiator_id", sa.String(255), nullable=False),
    Column("initiator_name", sa.String(255), nullable=False),
    Column("project_id", sa.String(64)),
    Column("address", sa.String(64)),
    Column("agent", sa.String(255)),
    Column("target_kind", sa.String(255), nullable=False),
    Column("target_id", sa.String(255), nullable=False),
    Column("target_of", sa.String(255)),
    Column("observer", sa.String(64), nullable=False),
    Column("request_id", sa.String(64)),
    Column("global_request_id", sa.String(64)),
    Column("path", sa.Text),
    Column("more", sa.JSON, nullable=False),
    sqlite_autoincrement=True,  # a number is not used again, even of the last row of a trail that was pruned
)

_REFUSALS = {
    "sqlite": (
        "CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events"
        " BEGIN SELECT RAISE(ABORT, 'audit_events only grows'); END",
        "CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events"
        " BEGIN SELECT RAISE(ABORT, 'audit_events only grows'); END",
        # INSERT OR REPLACE removes the row before without asking the trigger of DELETE
        "CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events"
        " WHEN EXISTS (SELECT 1 FROM audit_events WHERE seq = NEW.seq)"
        " BEGIN SELECT RAISE(ABORT, 'audit_events only grows'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_events_only_grows() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'audit_events only grows'; END $$",
        "CREATE TRIGGER audit_events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_events_only_grows()",
        "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_events_no_change",
    ),
}


@sa.event.listens_for(audit_events, "after_create")
def _refuse_changes(_table: Table, connection: sa.Connection, **_more: object) -> None:
    for statement in _REFUSALS[connection.dialect.name]:
        connection.exec_driver_sql(statement)
