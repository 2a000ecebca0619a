"""Pages by key: what comes after a marker in an order, without counting rows from the start."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

Direction = Literal["asc", "desc"]


def ordered(query: sa.Select[Any], keys: list[tuple[sa.ColumnElement[Any], Direction]], after: list[Any] | None) -> sa.Select[Any]:
    """`query` in the order of `keys`, from behind the row whose values of the keys are `after`.

    No key may be null, and the last one must tell all rows apart.
    """
    query = query.order_by(*(column.asc() if direction == "asc" else column.desc() for column, direction in keys))
    if after is None:
        return query
    behind: sa.ColumnElement[bool] = sa.false()
    for (column, direction), value in reversed(list(zip(keys, after, strict=True))):
        further = column > value if direction == "asc" else column < value
        behind = sa.or_(further, sa.and_(column == value, behind))
    return query.where(behind)
