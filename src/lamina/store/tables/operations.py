"""Durable operations and what each did."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, PrimaryKeyConstraint, Table, UniqueConstraint

from lamina.store.tables.base import metadata

sagas = Table(
    "sagas",
    metadata,
    Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    Column("id", sa.String(36), nullable=False, unique=True),
    Column("kind", sa.String(32), nullable=False),
    #: what it works on, a server's id: one saga at a time holds it
    Column("subject", sa.String(36), nullable=False, index=True),
    Column("params", sa.JSON, nullable=False),
    #: names of the steps, in order, as they were when it began: a later version changes nothing under its feet
    Column("steps", sa.JSON, nullable=False),
    #: waiting, running, unwinding, stuck, done, undone or abandoned (`lamina.saga.log.State`)
    Column("state", sa.String(16), nullable=False),
    #: why it unwinds or is stuck: {code, message}
    Column("error", sa.JSON),
    Column("cancelled", sa.Boolean, nullable=False, default=False),
    #: who runs it now, until when, and how the hosts order its calls
    Column("owner", sa.String(64)),
    Column("lease_expires_at", sa.Float),
    Column("epoch", sa.BigInteger, nullable=False, default=0),
    #: who asked, and the instance action that it is shown as
    Column("action", sa.String(64), nullable=False),
    Column("request_id", sa.String(64), nullable=False, index=True),
    Column("global_request_id", sa.String(64)),
    Column("project_id", sa.String(64), nullable=False),
    Column("user_id", sa.String(64), nullable=False),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float, nullable=False),
    #: why an operator gave it up; only and always set with the state "abandoned"
    Column("abandoned_reason", sa.Text),
    CheckConstraint("(state = 'abandoned') = (abandoned_reason IS NOT NULL)", name="abandoned_with_reason"),
)
Index(
    "ux_sagas_one_at_a_time",
    sagas.c.subject,
    unique=True,
    sqlite_where=sagas.c.state.in_(["running", "unwinding", "stuck"]),
    postgresql_where=sagas.c.state.in_(["running", "unwinding", "stuck"]),
)
Index("ix_sagas_state", sagas.c.state, sagas.c.lease_expires_at)
saga_events = Table(
    "saga_events",
    metadata,
    Column("saga_id", ForeignKey("sagas.id"), nullable=False),
    Column("step", sa.String(64), nullable=False),
    #: done, failed, undone or undo-failed (`lamina.saga.log.Event`)
    Column("event", sa.String(16), nullable=False),
    Column("number", sa.Integer, nullable=False),
    Column("output", sa.JSON),
    Column("error", sa.JSON),
    Column("host", sa.String(255)),
    Column("started_at", sa.Float, nullable=False),
    Column("finished_at", sa.Float, nullable=False),
    PrimaryKeyConstraint("saga_id", "step", "event"),
    UniqueConstraint("saga_id", "number"),
)
