"""Bringing a database to this version's schema."""

from __future__ import annotations

from lamina.store import tables
from lamina.store.database import Database


def upgrade(db: Database) -> None:
    with db.write() as tx:
        tables.metadata.create_all(tx)
