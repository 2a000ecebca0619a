"""Cards whose memory is a row of slots, where a type may start at some of them only.

Mixed-size mode and MIG are both of this kind and differ in the shapes of their types. A set of slots is an int, one bit
each. Because the starts are fixed, such a card fragments: where a vGPU goes decides what fits beside it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable

from lamina.model.gpus import Gpu, Layout, VgpuType
from lamina.model.partitioners.rule import MOST_VGPUS


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What a type takes of the row: ``size`` slots from one of its ``starts``, ascending. No starts: it cannot be made."""

    size: int
    starts: tuple[int, ...]

    def at(self, start: int) -> int:
        """The slots it takes from `start` on."""
        return ((1 << self.size) - 1) << start

    def free(self, taken: int) -> tuple[int, ...]:
        """The starts at which it finds all its slots free."""
        block = (1 << self.size) - 1
        return tuple(start for start in self.starts if not taken >> start & block)

    def most(self, taken: int) -> int:
        """The most of this shape that fit beside one another: of intervals of one size, those that end first."""
        count = end = 0
        for start in self.free(taken):
            if start >= end:
                count, end = count + 1, start + self.size
        return count


class Slots:
    """The rule of a row of slots; `slots` tells how many a GPU has, `shape` what a type takes of them."""

    def __init__(self, slots: Callable[[Gpu], int], shape: Callable[[Gpu, VgpuType], Shape]) -> None:
        self._slots = slots
        self._shape = shape

    def slots(self, gpu: Gpu) -> int:
        return self._slots(gpu)

    def offered(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> bool:
        return self.room(gpu, layout, vgpu_type) > 0

    def room(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        return min(self._allowed(layout, vgpu_type), self._shape(gpu, vgpu_type).most(self._taken(gpu, layout)))

    def room_repacked(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int:
        ours = frozenset(Counter(self._shape(gpu, t) for t in layout.ours).items())
        there = self._taken(gpu, Layout(foreign=layout.foreign, foreign_starts=layout.foreign_starts))
        packed = most_packed(self._slots(gpu), there, ours, self._shape(gpu, vgpu_type))
        return max(self.room(gpu, layout, vgpu_type), min(self._allowed(layout, vgpu_type), packed))

    def placements(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> tuple[int, ...]:
        if not self._allowed(layout, vgpu_type):
            return ()
        return self._shape(gpu, vgpu_type).free(self._taken(gpu, layout))

    def best_start(self, gpu: Gpu, layout: Layout, vgpu_type: VgpuType) -> int | None:
        """The start after which the enabled types could still use most of the card.

        Measured as the slots that each shape of an enabled type could fill if it had the rest for itself, summed over
        the shapes; of equal starts it is the lowest, where the driver would have gone by itself.
        """
        shape = self._shape(gpu, vgpu_type)
        taken = self._taken(gpu, layout)
        shapes = {self._shape(gpu, t) for t in gpu.enabled}

        def left(start: int) -> int:
            after = taken | shape.at(start)
            return sum(other.size * other.most(after) for other in shapes)

        return max(self.placements(gpu, layout, vgpu_type), key=left, default=None)

    @staticmethod
    def _allowed(layout: Layout, vgpu_type: VgpuType) -> int:
        """How many more the driver makes wherever they go."""
        same = sum(1 for other in layout.all if other.name == vgpu_type.name)
        return max(0, min(vgpu_type.max_instances - same, MOST_VGPUS - len(layout.all)))

    def _taken(self, gpu: Gpu, layout: Layout) -> int:
        """The slots that are not free. What stands nobody knows where is where the driver would have put it, at the first
        free start, the largest of them first; and where it can be nowhere, the card is taken for full.
        """
        taken = 0
        somewhere = []
        for vgpu_type, start in layout.spots:
            shape = self._shape(gpu, vgpu_type)
            if start is None:
                somewhere.append(shape)
            else:
                taken |= shape.at(start)
        for shape in sorted(somewhere, key=lambda s: (-s.size, s.starts)):
            starts = shape.free(taken)
            if not starts:
                return (1 << self._slots(gpu)) - 1
            taken |= shape.at(starts[0])
        return taken


@functools.lru_cache(maxsize=1 << 14)
def most_packed(slots: int, taken: int, held: frozenset[tuple[Shape, int]], more: Shape) -> int:
    """The most of `more` that fit into a row of `slots`, `taken` ones excepted, together with all that is `held`, anyhow placed.

    `held` has each shape with how many of it there are.

    0 where the held alone do not fit. Exact: goes along the row and keeps, for every combination of the held that can
    be placed so far, the most of `more` placed beside it.
    """
    shapes = [shape for shape, _ in held]
    #: by slot: how many of each shape are still to be placed -> the most of `more` placed so far
    reached: list[dict[tuple[int, ...], int]] = [{} for _ in range(slots + 1)]
    reached[0][tuple(count for _, count in held)] = 0
    for slot in range(slots):
        fits = [i for i, shape in enumerate(shapes) if slot in shape.starts and not taken & shape.at(slot)]
        more_fits = slot in more.starts and not taken & more.at(slot)
        for waiting, count in reached[slot].items():
            if sum(n * shape.size for n, shape in zip(waiting, shapes, strict=True)) > slots - slot:
                continue
            if more_fits:
                _keep(reached[slot + more.size], waiting, count + 1)
            for i in fits:
                if waiting[i]:
                    _keep(reached[slot + shapes[i].size], (*waiting[:i], waiting[i] - 1, *waiting[i + 1 :]), count)
            _keep(reached[slot + 1], waiting, count)
        reached[slot].clear()
    return reached[slots].get((0,) * len(shapes), 0)


def _keep(states: dict[tuple[int, ...], int], waiting: tuple[int, ...], count: int) -> None:
    if count > states.get(waiting, -1):
        states[waiting] = count
