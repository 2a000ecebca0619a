"""Which provider trees have changed: how an index in memory, here and in every other replica, stays current.

A transaction that changes a tree notes it, and takes the next number of one counter for all that it noted as the last
thing before its commit. The counter's row is locked from then on, so numbers are in the order of the commits, and a
reader who has seen a number has seen everything below it. One row for each tree, however often it changes.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

import sqlalchemy as sa

from lamina.store.tables.control_planes import counters
from lamina.store.tables.placement import tree_changes

#: the execution option of a writing connection that holds what its transaction has changed: root id -> `What`
NOTES = "lamina_tree_changes"


class What(enum.IntEnum):
    """How much of a tree has to be read again."""

    #: who holds how much of it, which moves with every claim
    USAGE = 1
    #: its providers, their inventories, traits and aggregates, the host and the GPUs behind it
    SHAPE = 2


_COUNTER = "tree_changes"
_NEXT = sa.update(counters).where(counters.c.name == _COUNTER).values(value=counters.c.value + 1).returning(counters.c.value)
_OF_ROOT = sa.update(tree_changes).where(tree_changes.c.root_id == sa.bindparam("of_root"))
_CHANGED = {
    What.USAGE: _OF_ROOT.values(usage=sa.bindparam("number")),
    What.SHAPE: _OF_ROOT.values(usage=sa.bindparam("number"), shape=sa.bindparam("number")),
}
_SINCE = sa.select(tree_changes).where(tree_changes.c.usage > sa.bindparam("known"))


@dataclasses.dataclass(frozen=True, slots=True)
class TreeChange:
    root_id: str
    what: What


def note(tx: sa.Connection, root_ids: Iterable[str], what: What) -> None:
    """Say that these trees change with this transaction. Raises KeyError in a transaction that only reads."""
    notes: dict[str, What] = tx.get_execution_options()[NOTES]
    for root_id in root_ids:
        notes[root_id] = max(what, notes.get(root_id, what))


def number(tx: sa.Connection, notes: dict[str, What]) -> None:
    """Give the noted changes their number. Called once, when nothing else is left to do before the commit."""
    if not notes:
        return
    value = tx.scalar(_NEXT)
    for root_id, what in sorted(notes.items()):
        if tx.execute(_CHANGED[what], {"of_root": root_id, "number": value}).rowcount == 0:
            tx.execute(sa.insert(tree_changes).values(root_id=root_id, usage=value, shape=value if what is What.SHAPE else 0))


def newest(tx: sa.Connection) -> int:
    """The number of the last commit that changed a tree."""
    return tx.scalar(sa.select(counters.c.value).where(counters.c.name == _COUNTER)) or 0


def since(tx: sa.Connection, known: int) -> tuple[int, list[TreeChange]]:
    """What changed after the number `known`, and the number to ask with the next time."""
    rows = tx.execute(_SINCE, {"known": known}).all()
    changes = [TreeChange(row.root_id, What.SHAPE if row.shape > known else What.USAGE) for row in rows]
    return max((row.usage for row in rows), default=known), changes
