"""The index: the field of all hosts, as current as the database at the moment of asking.

A look begins with the numbers of `lamina.store.tree_changes`: trees whose number is new are read again, and nothing else
is. It decides nothing for good: a claim proves in its own transaction what it found here.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from lamina.model import resources
from lamina.model.driver_advisories import DriverTrust
from lamina.model.policies import PolicyName
from lamina.model.providers import Candidate, ProviderTree
from lamina.model.requests import CandidateRequest
from lamina.scheduling.choice import Choice, choose
from lamina.scheduling.field import Field
from lamina.scheduling.filters import Wanted
from lamina.scheduling.policies import Demand
from lamina.store import flavors, servers, snapshots, tree_changes
from lamina.store.database import Database
from lamina.store.snapshots import Snapshot
from lamina.store.tree_changes import TreeChange, What

#: seconds for which what is expected stays as it is
_LEARN_EVERY = 300.0


class Index:
    """One process's field, kept current. Safe for threads."""

    def __init__(self, db: Database, trust: DriverTrust | None = None) -> None:
        self._db = db
        self.trust = trust
        self._lock = threading.Lock()
        #: how many looks at the database have begun
        self._looks = 0
        #: the last of them that has been taken in
        self._seen = 0
        #: the number of the last change that is in here; None before the first look
        self._number: int | None = None
        self._field = Field(trust=trust)
        self._learnt_at = -math.inf

    def refresh(self) -> None:
        """Take in what has been committed since the last time.

        Read in a transaction of its own, always: what a caller has written and not yet committed must not stay here.
        """
        looks = self._looks
        with self._lock:
            if self._seen > looks:
                return  # another's look, begun since this was called
            self._looks += 1
            look = self._looks
            with self._db.read() as tx:
                if self._number is None:
                    number = tree_changes.newest(tx)
                    for snapshot in snapshots.load(tx):
                        self._field.put(snapshot)
                else:
                    number, changes = tree_changes.since(tx, self._number)
                    self._take_in(tx, changes)
                self._number = number
            self._seen = look

    def _take_in(self, tx: sa.Connection, changes: list[TreeChange]) -> None:
        used: list[Snapshot] = []
        shaped: set[str] = set()
        for change in changes:
            known = self._field.snapshot(change.root_id)
            if change.what is What.USAGE and known is not None:
                used.append(known)
            else:
                shaped.add(change.root_id)
        fresh = snapshots.load(tx, shaped) if shaped else []
        # what is gone goes first: its providers may stand in another tree by now
        for root_id in shaped - {snapshot.tree.root.id for snapshot in fresh}:
            self._field.remove(root_id)
        for snapshot in [*fresh, *(snapshots.with_usage(tx, used) if used else ())]:
            self._field.put(snapshot)

    def unsure(self, classes: Iterable[str], traits: Iterable[str]) -> tuple[set[str], set[str]]:
        """Those of the names that are not standard and that no provider has: nobody may have created them."""
        with self._lock:
            stock = self._field.stock
            return (
                {name for name in classes if name not in resources.STANDARD_CLASSES and not stock.has_class(name)},
                {name for name in traits if name not in resources.standard_traits() and not stock.has_trait(name)},
            )

    def candidates(self, request: CandidateRequest) -> Iterator[Candidate]:
        """Every candidate, by the names of the roots, found as they are asked for."""
        with self._lock:
            return self._field.candidates(request)

    def tree_of(self, provider_id: str) -> ProviderTree | None:
        """The tree that a provider stands in, or None where there is no such provider."""
        return self._field.stock.tree_of(provider_id)

    def choose(self, wanted: Wanted, policy: PolicyName, down: frozenset[str]) -> Choice:
        """The best host by the policy; `down` names hosts whose compute service is down. Raises `NoValidHost`."""
        lot = 0 if self._db.is_sqlite else secrets.randbits(30)
        with self._lock:
            return choose(self._field, wanted, policy, down, lot)

    def learn(self, tx: sa.Connection, now: float) -> None:
        """Expect of the future what `expected` says, and look again now and then."""
        if now - self._learnt_at < _LEARN_EVERY:
            return
        self._learnt_at = now
        requests = expected(tx)
        with self._lock:
            self._field.expect(requests)

    @property
    def demand(self) -> Demand | None:
        """What is expected to be asked for."""
        return self._field.demand


def expected(tx: sa.Connection) -> list[tuple[CandidateRequest, float]]:
    """What will be asked for, and how often each: of the future is expected what there is, every flavor once and once more
    for each server that has it.
    """
    servers_of = servers.count_by_flavor(tx)
    return [(flavor.request, 1.0 + servers_of.get(flavor.id, 0)) for flavor in flavors.all_flavors(tx)]
