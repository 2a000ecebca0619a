"""What a kind of request finds, kept for the trees that have not changed since: where it is worth looking, and the candidates there.

A tree is a value: while it is the same one, a request finds the same in it. Kept is only what depends on nothing else: no
tree that others share with, no group that names a tree.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator

import numpy as np

from lamina.model.providers import Candidate, ProviderTree
from lamina.model.requests import CandidateRequest
from lamina.scheduling.candidates import World, of_tree
from lamina.scheduling.stock import Mask, Numbers, Stock

#: kinds of request and, over all of them, trees that something is kept of, and most candidates of such a tree
MOST_KINDS = 256
MOST_TREES = 4096
MOST_OF_TREE = 16
#: trees that changed since it was found where to look; when there are more it is found anew
MOST_CHANGED = 64


class KeptCandidates:
    """Safe for threads, but for `where`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[Hashable, int] = {}
        #: number of a kind -> the version of the field at which it was found where to look, and by slot what was found
        self._where: dict[int, tuple[int, Mask]] = {}
        #: number of a kind and id of a root -> the tree, and all that the request finds in it; the oldest first
        self._found: dict[tuple[int, str], tuple[ProviderTree, list[Candidate]]] = {}

    def number(self, world: World, request: CandidateRequest) -> int | None:
        """Of the request's kind; None for one of which nothing is kept."""
        if world.sharing or any(group.in_tree is not None for group in request.groups):
            return None
        kind = _kind(request)
        with self._lock:
            if kind not in self._numbers and len(self._numbers) >= MOST_KINDS:
                for kept in (self._numbers, self._where, self._found):
                    kept.clear()
            return self._numbers.setdefault(kind, len(self._numbers))

    def where(self, number: int | None, request: CandidateRequest, stock: Stock, versions: Numbers, version: int) -> Numbers:
        """The slots of the trees that are worth a look, by the names of their roots; what has changed since always is.

        `versions` are those of the field, slot by slot, at their last changes; `version` is the newest.
        """
        if number is None:
            return stock.promising(request)
        known = self._where.get(number)
        changed = np.flatnonzero(versions[: stock.slots] > known[0]) if known is not None else None
        if known is None or changed is None or changed.size > MOST_CHANGED:
            could = stock.could(request)
            self._where[number] = version, could
        else:
            could = np.ones(stock.slots, np.bool_)  # a slot that is new since has changed too
            could[: known[1].size] = known[1]
            could[changed] = True
        order = stock.in_order()
        chosen: Numbers = order[could[order]]
        return chosen

    def in_tree(self, number: int | None, request: CandidateRequest, world: World, tree: ProviderTree) -> Iterator[Candidate]:
        """As `lamina.scheduling.candidates.of_tree`; kept once they have all been asked for, where there are not many."""
        if number is None:
            yield from of_tree(world, tree, request)
            return
        key = number, tree.root.id
        known = self._found.get(key)
        if known is not None and known[0] is tree:
            yield from known[1]
            return
        found: list[Candidate] = []
        for candidate in of_tree(world, tree, request):
            if len(found) <= MOST_OF_TREE:
                found.append(candidate)
            yield candidate
        if len(found) <= MOST_OF_TREE:
            self._keep(key, tree, found)

    def _keep(self, key: tuple[int, str], tree: ProviderTree, found: list[Candidate]) -> None:
        with self._lock:
            self._found.pop(key, None)
            while len(self._found) >= MOST_TREES:
                del self._found[next(iter(self._found))]
            self._found[key] = tree, found


def _kind(request: CandidateRequest) -> Hashable:
    groups = tuple(
        (g.suffix, frozenset(g.resources.items()), g.required, g.forbidden, g.member_of, g.not_member_of) for g in request.groups
    )
    return groups, request.group_policy, request.same_subtree, request.root_required, request.root_forbidden
