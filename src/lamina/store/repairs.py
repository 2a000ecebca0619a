"""Queries over what was repaired, and over what was seen to be out of order and is looked at once more before.

What became of a repair is nowhere written twice: it is where its operation stands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import BadRequest
from lamina.model.repairs import Key, Repair, What
from lamina.store.inserting import insert_or_leave
from lamina.store.reading import Reader
from lamina.store.tables.hosts import repairs, sightings
from lamina.store.tables.operations import sagas


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A repair as recorded. Times are seconds since the epoch; ``outcome`` is ``done``, ``under way`` or ``failed``."""

    id: int
    at: float
    repair: Repair
    outcome: str
    #: why it failed
    error: str | None


def note(tx: sa.Connection, repair: Repair, now: float) -> None:
    columns = dataclasses.asdict(repair) | {"what": str(repair.what), "at": now}
    tx.execute(sa.insert(repairs).values(**columns))


def page(tx: sa.Connection, *, host: str | None, limit: int, marker: int | None) -> list[Row]:
    """The newest repairs, of one host or of all, from behind the one whose id is `marker`, but damaged ones. Raises `BadRequest`."""
    joined = sa.select(repairs, sagas.c.state, sagas.c.error).join_from(repairs, sagas, repairs.c.operation_id == sagas.c.id, isouter=True)
    query = joined.order_by(repairs.c.id.desc())
    if host is not None:
        query = query.where(repairs.c.host == host)
    if marker is not None:
        if tx.scalar(sa.select(repairs.c.id).where(repairs.c.id == marker)) is None:
            raise BadRequest(f"marker [{marker}] not found")
        query = query.where(repairs.c.id < marker)
    return REPAIRS.page(tx, query, limit)


def count(tx: sa.Connection) -> dict[tuple[str, ...], int]:
    """(what, outcome) -> how many are on record."""
    alone = repairs.c.operation_id.is_(None).label("alone")
    query = (
        sa.select(repairs.c.what, alone, sagas.c.state, sa.func.count().label("number"))
        .join_from(repairs, sagas, repairs.c.operation_id == sagas.c.id, isouter=True)
        .group_by(repairs.c.what, alone, sagas.c.state)
    )
    counted: dict[tuple[str, ...], int] = {}
    for row in tx.execute(query):
        key = (row.what, "done" if row.alone else _outcome(row.state))
        counted[key] = counted.get(key, 0) + row.number
    return counted


def _row(row: dict[str, Any]) -> Row:
    repair = Repair(What(row["what"]), row["host"], row["object"], row["server_id"], row["why"], row["operation_id"])
    outcome = "done" if repair.operation_id is None else _outcome(row["state"])
    why = row["error"].get("message") if outcome != "done" and isinstance(row["error"], dict) else None
    return Row(row["id"], row["at"], repair, outcome, why)


#: of rows that are joined with their operations
REPAIRS = Reader(repairs, Row, decode=_row)


def _outcome(state: str | None) -> str:
    """Of a repair, by where its operation stands; None for one that is gone."""
    if state == "done":
        return "done"
    return "failed" if state in ("undone", "abandoned", None) else "under way"


def forget(tx: sa.Connection, before: float) -> None:
    """Those that were begun before a moment."""
    tx.execute(sa.delete(repairs).where(repairs.c.at < before))


# ---------------------------------------------------------------------------------------------------- sightings


_SEEN = sa.select(sightings.c.what, sightings.c.object, sightings.c.first_seen_at).where(sightings.c.host == sa.bindparam("host"))


def seen(tx: sa.Connection, host: str) -> dict[Key, float]:
    """What of a host (the empty name: of none) was out of order when it was last looked at -> since when."""
    return {(row.what, row.object): row.first_seen_at for row in tx.execute(_SEEN, {"host": host})}


def see(tx: sa.Connection, host: str, now: float, *, before: Mapping[Key, float], after: Set[Key]) -> None:
    """Make what is out of order exactly `after`, where it was `before`; of what stays, the time stays."""
    for what, thing in before.keys() - after:
        tx.execute(sa.delete(sightings).where(sightings.c.host == host, sightings.c.what == what, sightings.c.object == thing))
    rows = [{"host": host, "what": what, "object": thing, "first_seen_at": now} for what, thing in sorted(after - before.keys())]
    insert_or_leave(tx, sightings, rows)  # another that looks at the same time has seen the same
