"""GPUs by the state they are in: equal cards with equal layouts are one state, and what a vGPU does to a state is worked out once.

A fleet has tens of thousands of GPUs in some hundreds of states. The partitioner is asked about each state and each kind
of vGPU a single time; after that a policy works on arrays of states' numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from lamina.model import partitioners
from lamina.model.gpus import Gpu, Layout, VgpuType
from lamina.model.ids import PciAddress
from lamina.model.requests import CandidateRequest, RequestGroup
from lamina.scheduling import vgpus

#: number of a state -> number of a state, or a figure of one
States = npt.NDArray[np.int32]
Figures = npt.NDArray[np.float64]

#: the state of a GPU that is not there: nothing is free on it, nothing fits
ABSENT = 0
#: not worked out yet
_UNKNOWN = -1
_ANYWHERE = PciAddress.parse("0000:00:00.0")


@dataclasses.dataclass(frozen=True, slots=True)
class Want:
    """The vGPUs that one request group wants of one GPU."""

    resource_class: str
    amount: int
    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()


class GpuStates:
    """Numbers for states, handed out as they turn up. Not safe for threads by itself."""

    def __init__(self) -> None:
        self._cards: dict[Gpu, Gpu] = {}
        self._number_of: dict[tuple[int, Layout], int] = {}
        self._states: list[tuple[Gpu, Layout] | None] = [None]
        self._free = np.zeros(1)
        self._whole = np.zeros(1)
        self._after: dict[Want, States] = {}
        self._fits: dict[tuple[Want, ...], Figures] = {}
        #: (a card's id, want) -> types
        self._allowed: dict[tuple[int, Want], tuple[VgpuType, ...]] = {}

    def number(self, gpu: Gpu, layout: Layout) -> int:
        """The number of a state."""
        card = self._cards.get(gpu)
        if card is None:
            alike = dataclasses.replace(gpu, address=_ANYWHERE, numa_node=None)
            card = self._cards[gpu] = self._cards.setdefault(alike, alike)
        return self._number(card, layout)

    def _number(self, card: Gpu, layout: Layout) -> int:
        layout = layout.in_order()
        key = (id(card), layout)
        if key not in self._number_of:
            self._number_of[key] = len(self._states)
            self._states.append((card, layout))
        return self._number_of[key]

    def free(self) -> Figures:
        """Free framebuffer by state, in MiB."""
        self._look()
        return self._free

    def whole(self) -> Figures:
        """Framebuffer by state, in MiB."""
        self._look()
        return self._whole

    def _look(self) -> None:
        if self._free.size < len(self._states):
            fresh = [s for s in self._states[self._free.size :] if s is not None]
            whole = [gpu.framebuffer_mb for gpu, _ in fresh]
            free = [max(0, gpu.framebuffer_mb - sum(t.framebuffer_mb for t in layout.all)) for gpu, layout in fresh]
            self._whole, self._free = np.append(self._whole, whole), np.append(self._free, free)

    def after(self, want: Want, states: States) -> States:
        """The states that these come to when `want` is placed; `ABSENT` where it cannot be. Same shape as `states`."""
        table = self._after.get(want)
        if table is None or table.size < len(self._states):
            grown = np.full(max(16, 2 * len(self._states)), _UNKNOWN, np.int32)
            grown[: 0 if table is None else table.size] = () if table is None else table
            grown[ABSENT] = ABSENT
            self._after[want] = table = grown
        found = table[states]
        if (found == _UNKNOWN).any():
            for state in np.unique(states[found == _UNKNOWN]).tolist():
                table[state] = self._place(state, want)
            found = self._after[want][states]
        return found

    def fit_table(self, wants: tuple[Want, ...]) -> Figures:
        """States x wants: 1 where the want can be placed, else 0."""
        table = self._fits.get(wants, np.zeros((0, len(wants))))
        if len(table) < len(self._states):
            fresh = [[self._fit(known, want) for want in wants] for known in self._states[len(table) :]]
            self._fits[wants] = table = np.concatenate([table, np.array(fresh, np.float64)])
        return table

    def _fit(self, known: tuple[Gpu, Layout] | None, want: Want) -> bool:
        if known is None:
            return False
        gpu, layout = known
        return any(partitioners.room(gpu, layout, t) >= want.amount for t in self._types(gpu, want))

    def _types(self, gpu: Gpu, want: Want) -> tuple[VgpuType, ...]:
        """The enabled types that a want can be met with on such a card, whatever stands on it."""
        key = (id(gpu), want)  # cards are interned
        if key not in self._allowed:
            group = RequestGroup("", {}, want.required, want.forbidden)
            matching = gpu.resource_class == want.resource_class
            self._allowed[key] = vgpus.allowed_types(gpu, Layout(), group) if matching else ()
        return self._allowed[key]

    def _place(self, state: int, want: Want) -> int:
        known = self._states[state]
        if known is None:
            return ABSENT
        gpu, layout = known
        if gpu.resource_class != want.resource_class:
            return ABSENT
        group = RequestGroup("", {}, want.required, want.forbidden)
        spots = partitioners.fill(gpu, layout, vgpus.allowed_types(gpu, layout, group), want.amount)
        if spots is None:
            return ABSENT
        for spot in spots:
            layout = layout.plus(*spot)
        return self._number(gpu, layout)


def wants(request: CandidateRequest, gpu_classes: Iterable[str]) -> list[Want]:
    """What a request wants of GPUs, an entry for each GPU that it may take."""
    classes = frozenset(gpu_classes)
    found = []
    for group in request.groups:
        for name, amount in sorted(group.resources.items()):
            if name in classes:
                found.append(Want(name, amount, group.required, group.forbidden))
    return found


def other_amounts(request: CandidateRequest, gpu_classes: Iterable[str]) -> Mapping[str, int]:
    """What a request takes of everything that is no GPU: resource class -> amount."""
    classes = frozenset(gpu_classes)
    return {name: amount for name, amount in request.total().items() if name not in classes}
