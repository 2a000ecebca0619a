"""The index: every provider tree, host and GPU layout in memory, as current as the database at the moment of asking.

A look begins with the numbers of `lamina.store.tree_changes`: trees whose number is new are read again, and nothing else
is. It decides nothing for good: a claim proves in its own transaction what it found here.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from lamina.model.providers import Candidate, Provider, ProviderTree
from lamina.model.requests import CandidateRequest
from lamina.scheduling.candidates import candidates
from lamina.scheduling.stock import Stock
from lamina.store import snapshots, tree_changes
from lamina.store.snapshots import Snapshot
from lamina.store.tree_changes import What


class Index:
    """What is known of all trees. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: the number of the last change that is in here; None before the first look
        self._number: int | None = None
        self._stock = Stock()
        self._snapshots: dict[str, Snapshot] = {}

    def refresh(self, tx: sa.Connection) -> None:
        """Take in what has been committed since the last time, as `tx` sees it."""
        with self._lock:
            if self._number is None:
                number = tree_changes.newest(tx)
                for snapshot in snapshots.load(tx):
                    self._put(snapshot)
                self._number = number
                return
            number, changes = tree_changes.since(tx, self._number)
            if not changes:
                return
            known = [self._snapshots[c.root_id] for c in changes if c.what is What.USAGE and c.root_id in self._snapshots]
            unknown = {c.root_id for c in changes} - {s.tree.root.id for s in known}
            if known:
                for snapshot in snapshots.with_usage(tx, known):
                    self._put(snapshot)
            if unknown:
                there = {s.tree.root.id: s for s in snapshots.load(tx, unknown)}
                for root_id in unknown - there.keys():
                    self._stock.remove(root_id)
                    self._snapshots.pop(root_id, None)
                for snapshot in there.values():
                    self._put(snapshot)
            self._number = number

    def _put(self, snapshot: Snapshot) -> None:
        self._stock.put(snapshot.tree)
        self._snapshots[snapshot.tree.root.id] = snapshot

    def candidates(self, request: CandidateRequest) -> Iterator[Candidate]:
        """Every candidate, by the names of the roots, found as they are asked for."""
        with self._lock:
            slots = self._stock.promising(request)
            sharing = tuple(self._stock.sharing)
        trees = (tree for slot in slots.tolist() if (tree := self._stock.tree_at(slot)) is not None)
        return candidates(trees, request, world=_World(self._stock, sharing))

    def tree_of(self, provider_id: str) -> ProviderTree | None:
        """The tree that a provider stands in, or None where there is no such provider."""
        return self._stock.tree_of(provider_id)


@dataclasses.dataclass(frozen=True, slots=True)
class _World:
    """What lies beyond one tree, while others go on taking changes in."""

    _stock: Stock
    sharing: Sequence[Provider]

    def root_of(self, provider_id: str) -> Provider | None:
        tree = self._stock.tree_of(provider_id)
        return tree.root if tree is not None else None
