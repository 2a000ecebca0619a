"""Limits of projects and of users within them, and who stands in line to be judged by them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Table, UniqueConstraint

from lamina.store.tables.base import metadata

#: what holds for every project that has no limit of its own
registered_limits = Table(
    "registered_limits",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    #: `lamina.model.limits.Resource`: its key and its name
    Column("resource", sa.String(300), nullable=False, unique=True),
    Column("resource_name", sa.String(255), nullable=False),
    Column("amount", sa.Integer, nullable=False),
    Column("description", sa.Text),
    Column("region_id", sa.String(255)),
)
limits = Table(
    "limits",
    metadata,
    Column("id", sa.String(32), primary_key=True),
    Column("project_id", sa.String(64), nullable=False),
    #: the one user of the project that it is for; empty where it is for the project as a whole
    Column("user_id", sa.String(64), nullable=False),
    Column("resource", sa.String(300), nullable=False),
    Column("resource_name", sa.String(255), nullable=False),
    Column("amount", sa.Integer, nullable=False),
    Column("description", sa.Text),
    Column("region_id", sa.String(255)),
    UniqueConstraint("project_id", "user_id", "resource"),
)
#: a row for each project, and each user, of whom something limited was ever taken; it says nothing of how much
quota_turns = Table(
    "quota_turns",
    metadata,
    Column("owner_id", sa.String(64), primary_key=True),
    Column("generation", sa.BigInteger, nullable=False),
)
