"""Inserting what may be there already, so that a transaction which finds it there can go on (PostgreSQL ends one that breaks a rule)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def insert_or_leave(tx: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> int:
    """Insert these rows, all with the same columns, but those of which a unique column or index has the like; how many were inserted.

    One that another transaction is just inserting is waited for.
    """
    if not rows:
        return 0
    kind = sqlite if tx.dialect.name == "sqlite" else postgresql
    # of an INSERT no driver need count rows, so those that were inserted are counted as they come back
    return len(tx.execute(kind.insert(table).on_conflict_do_nothing().returning(sa.literal(1)), rows).all())
