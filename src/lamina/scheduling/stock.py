"""What every provider has left, as columns of numbers: which trees could serve a request, told by masks and not by search.

One row for each provider. A column for each resource class, trait and aggregate holds, for every row, what of the class
is left and its units, whether it has the trait, whether it is a member. A request becomes a few operations on whole
columns. The answer leaves out no tree that has a candidate; the few it names beside those are for the exact search of
`lamina.scheduling.candidates` to turn down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lamina.model.providers import Inventory, Provider, ProviderTree
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.scheduling.candidates import SHARES, pieces

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]

#: rows to begin with; their number doubles when they are full
_FIRST_ROWS = 256
#: the slot of rows that nobody uses; row 0 is always one
_NOBODY = 0


@dataclasses.dataclass(slots=True)
class _Class:
    """One resource class over all rows. A provider without an inventory of it has less than nothing left."""

    left: Numbers
    whole: Numbers
    most: Numbers
    least: Numbers
    step: Numbers
    #: rows whose least or step is not 1
    uneven: int = 0

    @classmethod
    def of(cls, rows: int) -> _Class:
        return cls(np.full(rows, -1), np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.ones(rows, np.int64), np.ones(rows, np.int64))

    def grow(self, rows: int) -> None:
        more = _Class.of(rows - self.left.size)
        for name in ("left", "whole", "most", "least", "step"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(more, name)]))

    def put(self, row: int, inventory: Inventory, used: int) -> None:
        self.clear(row)
        self.whole[row] = inventory.capacity
        self.left[row] = inventory.capacity - used
        self.most[row] = inventory.max_unit
        self.least[row] = inventory.min_unit
        self.step[row] = inventory.step_size
        self.uneven += inventory.min_unit > 1 or inventory.step_size > 1

    def clear(self, row: int) -> None:
        self.uneven -= bool(self.least[row] > 1 or self.step[row] > 1)
        self.left[row], self.whole[row], self.most[row], self.least[row], self.step[row] = -1, 0, 0, 1, 1

    def fits(self, amount: int) -> Mask:
        """The rows that `amount` could be taken from."""
        fit: Mask = (self.left >= amount) & (self.most >= amount)
        if self.uneven:
            fit &= (self.least <= amount) & (amount % self.step == 0)
        return fit


class Stock:
    """The columns, and the trees they were made from. Not safe for threads by itself."""

    def __init__(self) -> None:
        self._rows = _FIRST_ROWS
        #: row -> the slot of its tree; slots number the trees
        self._slots = np.full(self._rows, _NOBODY, np.int64)
        self._free_rows = list(range(self._rows - 1, 0, -1))
        #: slot -> its tree, its rows with the root's first
        self._trees: dict[int, ProviderTree] = {}
        self._rows_of: dict[int, list[int]] = {}
        self._free_slots: list[int] = []
        self._most_slots = _NOBODY + 1
        #: slot -> the row of its root; longer than there are slots
        self._root_rows = np.zeros(_FIRST_ROWS, np.int64)
        #: the slot of a tree by the id of any of its providers
        self._slot_of: dict[str, int] = {}
        self._providers: dict[int, Provider] = {}
        self._classes: dict[str, _Class] = {}
        self._traits: dict[str, Mask] = {}
        self._aggregates: dict[str, Mask] = {}
        self._sharing: set[int] = set()
        #: slots in the order of their roots' names; None when that has to be found anew
        self._order: Numbers | None = None

    def __len__(self) -> int:
        """How many trees there are."""
        return len(self._trees)

    # ------------------------------------------------------------------------------------------------ keeping

    def put(self, tree: ProviderTree) -> int:
        """Have this tree, in place of what was known under its root's id. Its slot."""
        slot = self._slot_of.get(tree.root.id)
        if slot is not None and not _same_members(self._trees[slot], tree):
            self.remove(tree.root.id)
            slot = None
        if slot is None:
            slot = self._enter(tree)
        elif self._trees[slot].root.name != tree.root.name:
            self._order = None
        self._trees[slot] = tree
        for row, provider in zip(self._rows_of[slot], tree.providers, strict=True):
            self._write(row, provider)
        return slot

    def remove(self, root_id: str) -> None:
        """Forget the tree of this root, if it is known."""
        slot = self.slot_of(root_id)
        if slot is None:
            return
        for row, provider in zip(self._rows_of.pop(slot), self._trees.pop(slot).providers, strict=True):
            self._clear(row)
            self._slots[row] = _NOBODY
            self._free_rows.append(row)
            if self._slot_of.get(provider.id) == slot:  # it may stand in another tree by now
                del self._slot_of[provider.id]
        self._free_slots.append(slot)
        self._order = None

    def _enter(self, tree: ProviderTree) -> int:
        while len(self._free_rows) < len(tree.providers):
            self._grow()
        if not self._free_slots:
            self._free_slots.append(self._most_slots)
            self._most_slots += 1
            if self._most_slots > self._root_rows.size:
                self._root_rows = np.concatenate([self._root_rows, np.zeros_like(self._root_rows)])
        slot = self._free_slots.pop()
        self._rows_of[slot] = rows = [self._free_rows.pop() for _ in tree.providers]
        self._slots[rows] = slot
        self._root_rows[slot] = rows[0]
        self._slot_of |= dict.fromkeys((p.id for p in tree.providers), slot)
        self._order = None
        return slot

    def _grow(self) -> None:
        before, self._rows = self._rows, self._rows * 2
        self._free_rows[:0] = range(self._rows - 1, before - 1, -1)
        self._slots = np.concatenate([self._slots, np.full(before, _NOBODY, np.int64)])
        for column in self._classes.values():
            column.grow(self._rows)
        for marks in (self._traits, self._aggregates):
            for name, mask in marks.items():
                marks[name] = np.concatenate([mask, np.zeros(before, np.bool_)])

    def _write(self, row: int, provider: Provider) -> None:
        old = self._providers.get(row)
        if old is None or (old.inventories, old.traits, old.aggregates) != (provider.inventories, provider.traits, provider.aggregates):
            self._clear(row)
            for name, inventory in provider.inventories.items():
                if name not in self._classes:
                    self._classes[name] = _Class.of(self._rows)
                self._classes[name].put(row, inventory, provider.used.get(name, 0))
            for marks, names in ((self._traits, provider.traits), (self._aggregates, provider.aggregates)):
                for name in names:
                    if name not in marks:
                        marks[name] = np.zeros(self._rows, np.bool_)
                    marks[name][row] = True
            if SHARES in provider.traits:
                self._sharing.add(row)
        elif old.used != provider.used:
            for name, inventory in provider.inventories.items():
                self._classes[name].left[row] = inventory.capacity - provider.used.get(name, 0)
        self._providers[row] = provider

    def _clear(self, row: int) -> None:
        old = self._providers.pop(row, None)
        if old is None:
            return
        for name in old.inventories:
            self._classes[name].clear(row)
        for marks, names in ((self._traits, old.traits), (self._aggregates, old.aggregates)):
            for name in names:
                marks[name][row] = False
        self._sharing.discard(row)

    # ------------------------------------------------------------------------------------------------ the world

    @property
    def sharing(self) -> Sequence[Provider]:
        return [self._providers[row] for row in sorted(self._sharing)]

    def slot_of(self, root_id: str) -> int | None:
        """The slot of the tree with this root."""
        slot = self._slot_of.get(root_id)
        return slot if slot is not None and self._trees[slot].root.id == root_id else None

    def tree_of(self, provider_id: str) -> ProviderTree | None:
        """The tree that a provider stands in."""
        slot = self._slot_of.get(provider_id)
        return self._trees.get(slot) if slot is not None else None

    def all(self) -> list[ProviderTree]:
        """Every tree, by the names of the roots."""
        return [self._trees[slot] for slot in self.in_order().tolist()]

    # ------------------------------------------------------------------------------------------------ asking

    def promising(self, request: CandidateRequest) -> Numbers:
        """The slots of the trees that could serve the request, as far as numbers tell, by the names of their roots."""
        order = self.in_order()
        chosen: Numbers = order[self.could(request)[order]]
        return chosen

    def has_class(self, name: str) -> bool:
        """Whether some provider has an inventory of this class."""
        return name in self._classes and bool((self._classes[name].most > 0).any())

    def has_trait(self, name: str) -> bool:
        """Whether some provider has this trait."""
        return name in self._traits and bool(self._traits[name].any())

    def sums(self, name: str) -> tuple[Figures, Figures]:
        """slot -> what is left of a class in the whole tree, and what there is of it in all."""
        column = self._classes.get(name)
        if column is None:
            nothing = np.zeros(self._most_slots)
            return nothing, nothing
        left: Figures = np.bincount(self._slots, weights=np.maximum(column.left, 0), minlength=self._most_slots).astype(np.float64)
        whole: Figures = np.bincount(self._slots, weights=column.whole, minlength=self._most_slots).astype(np.float64)
        return left, whole

    @property
    def slots(self) -> int:
        """One more than the largest slot there has been."""
        return self._most_slots

    def tree_at(self, slot: int) -> ProviderTree | None:
        """The tree of a slot, or None where it has gone meanwhile."""
        return self._trees.get(slot)

    def in_order(self) -> Numbers:
        """The slots in the order of their roots' names."""
        if self._order is None:
            self._order = np.array(sorted(self._trees, key=lambda slot: self._trees[slot].root.name), np.int64)
        return self._order

    def could(self, request: CandidateRequest) -> Mask:
        """slot -> whether its tree could serve the request, as far as numbers tell."""
        could: Mask = np.ones(self._most_slots, np.bool_)
        for name in request.root_required | request.root_forbidden:
            roots = self._any(self._traits, [name])[self._root_rows[: self._most_slots]]
            could &= roots if name in request.root_required else ~roots
        for group, times in _distinct(request):
            for piece in pieces(group):
                could &= self._serving(group, piece) >= times
            if not group.suffix:
                for choice in group.required:
                    could &= self._per_tree(self._any(self._traits, choice)) > 0
        return could

    def _serving(self, group: RequestGroup, piece: Mapping[str, int]) -> Numbers:
        """slot -> how many providers, of the tree or shared with it, could serve this piece of a group by themselves."""
        could: Mask = self._slots != _NOBODY
        for name, amount in piece.items():
            if name not in self._classes:
                return np.zeros(self._most_slots, np.int64)
            could &= self._classes[name].fits(amount)
        if group.in_tree is not None:
            could &= self._slots == self._slot_of.get(group.in_tree, -1)
        if group.forbidden:
            could &= ~self._any(self._traits, group.forbidden)
        if group.suffix:
            for choice in group.required:
                could &= self._any(self._traits, choice)
        if group.member_of or group.not_member_of:
            could &= self._members(group)
        return self._per_tree(could)

    def _members(self, group: RequestGroup) -> Mask:
        """The rows that may be where ``member_of`` wants them; without a suffix, a root's aggregates are its tree's too.

        A row that shares may serve any root's tree, and only its own aggregates speak against it.
        """
        wanted: Mask = np.ones(self._rows, np.bool_)
        for choice in group.member_of:
            wanted &= self._any(self._aggregates, choice)
        unwanted = self._any(self._aggregates, group.not_member_of)
        if not group.suffix:
            of_root, sharing = self._root_rows[self._slots], list(self._sharing)
            shared = unwanted[sharing]
            wanted |= wanted[of_root]
            unwanted |= unwanted[of_root]
            unwanted[sharing] = shared
        return wanted & ~unwanted

    def _any(self, marks: Mapping[str, Mask], names: Iterable[str]) -> Mask:
        """The rows that have any of the names."""
        found: Mask = np.zeros(self._rows, np.bool_)
        for name in names:
            if name in marks:
                found |= marks[name]
        return found

    def _per_tree(self, rows: Mask) -> Numbers:
        """slot -> how many of these rows are in the tree, or shared with it."""
        counts: Numbers = np.bincount(self._slots[rows], minlength=self._most_slots)
        for row in self._sharing:
            if rows[row]:
                reached = np.unique(self._slots[self._any(self._aggregates, self._providers[row].aggregates)])
                counts[reached[reached != self._slots[row]]] += 1
        counts[_NOBODY] = 0
        return counts


def _same_members(one: ProviderTree, other: ProviderTree) -> bool:
    return [p.id for p in one.providers] == [p.id for p in other.providers]


def _distinct(request: CandidateRequest) -> list[tuple[RequestGroup, int]]:
    """The groups, each with how many providers of its kind it takes: isolated groups that are alike take one each."""
    if request.group_policy != "isolate":
        return [(group, 1) for group in request.groups]
    found: list[tuple[RequestGroup, int]] = []
    for group in request.groups:
        for place, (known, times) in enumerate(found):
            if group.suffix and known.suffix and dataclasses.replace(group, suffix=known.suffix) == known:
                found[place] = (known, times + 1)
                break
        else:
            found.append((group, 1))
    return found
