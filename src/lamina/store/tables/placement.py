"""Providers, what they have, and what is allocated of it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, PrimaryKeyConstraint, Table

from lamina.store.tables.base import metadata

resource_classes = Table("resource_classes", metadata, Column("name", sa.String(255), primary_key=True))
traits = Table("traits", metadata, Column("name", sa.String(255), primary_key=True))
providers = Table(
    "providers",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    Column("name", sa.String(200), nullable=False, unique=True),
    Column("generation", sa.Integer, nullable=False, default=0),
    Column("root_id", ForeignKey("providers.id"), nullable=False, index=True),
    Column("parent_id", ForeignKey("providers.id"), index=True),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float, nullable=False),
)
inventories = Table(
    "inventories",
    metadata,
    Column("provider_id", ForeignKey("providers.id", ondelete="CASCADE"), nullable=False),
    Column("resource_class", sa.String(255), nullable=False, index=True),
    Column("total", sa.Integer, nullable=False),
    Column("reserved", sa.Integer, nullable=False),
    Column("min_unit", sa.Integer, nullable=False),
    Column("max_unit", sa.Integer, nullable=False),
    Column("step_size", sa.Integer, nullable=False),
    Column("allocation_ratio", sa.Float, nullable=False),
    PrimaryKeyConstraint("provider_id", "resource_class"),
)
provider_traits = Table(
    "provider_traits",
    metadata,
    Column("provider_id", ForeignKey("providers.id", ondelete="CASCADE"), nullable=False),
    Column("trait", sa.String(255), nullable=False, index=True),
    PrimaryKeyConstraint("provider_id", "trait"),
)
provider_aggregates = Table(
    "provider_aggregates",
    metadata,
    Column("provider_id", ForeignKey("providers.id", ondelete="CASCADE"), nullable=False),
    Column("aggregate_id", sa.String(36), nullable=False, index=True),
    PrimaryKeyConstraint("provider_id", "aggregate_id"),
)
consumers = Table(
    "consumers",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    Column("project_id", sa.String(255), nullable=False, index=True),
    Column("user_id", sa.String(255), nullable=False),
    #: INSTANCE, MIGRATION, …; "unknown" where nobody said (Placement microversion 1.38)
    Column("type", sa.String(255), nullable=False, default="unknown"),
    Column("generation", sa.Integer, nullable=False, default=0),
)
allocations = Table(
    "allocations",
    metadata,
    Column("consumer_id", ForeignKey("consumers.id"), nullable=False),
    Column("provider_id", ForeignKey("providers.id"), nullable=False, index=True),
    Column("resource_class", sa.String(255), nullable=False),
    Column("used", sa.Integer, nullable=False),
    PrimaryKeyConstraint("consumer_id", "provider_id", "resource_class"),
    CheckConstraint("used > 0", name="used_positive"),
)

#: the numbers of the last commits that changed a tree: its usage (the last of all), its shape; roots that are gone stay
tree_changes = Table(
    "tree_changes",
    metadata,
    Column("root_id", sa.String(36), primary_key=True),
    Column("usage", sa.BigInteger, nullable=False, index=True),
    Column("shape", sa.BigInteger, nullable=False),
)
