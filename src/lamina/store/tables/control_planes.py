"""What control planes share: counters, who of them runs, who waits for room."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Table

from lamina.store.tables.base import metadata

#: numbers that only grow: the epoch of fences, the number of changes to provider trees
counters = Table("counters", metadata, Column("name", sa.String(64), primary_key=True), Column("value", sa.BigInteger, nullable=False))

#: the control planes that run on this database
replicas = Table(
    "replicas",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    Column("public_url", sa.Text, nullable=False),
    Column("agents_url", sa.Text),
    Column("version", sa.String(64), nullable=False),
    Column("started_at", sa.Float, nullable=False),
    Column("heard_at", sa.Float, nullable=False),
)

#: servers that wait for room, and when each project last got something out of the queue
queue = Table(
    "queue",
    metadata,
    Column("server_id", sa.String(36), primary_key=True),
    Column("project_id", sa.String(64), nullable=False),
    Column("user_id", sa.String(64), nullable=False),
    Column("request_id", sa.String(64), nullable=False),
    Column("global_request_id", sa.String(64)),
    Column("queued_at", sa.Float, nullable=False),
    Column("expires_at", sa.Float, nullable=False),
    Column("reason", sa.Text, nullable=False),
    #: of the operation that creates it
    Column("params", sa.JSON, nullable=False),
)
queue_turns = Table(
    "queue_turns", metadata, Column("project_id", sa.String(64), primary_key=True), Column("served_at", sa.Float, nullable=False)
)
