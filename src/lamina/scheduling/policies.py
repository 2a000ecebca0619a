"""Policies: in which order hosts are tried, and on a host its GPUs. Small pure functions over arrays; less is better.

- ``spread``: the emptiest host in what is asked for. Nova's default, which looks at memory, vCPUs and disk, counting what
  is asked of GPUs like everything else; on the host the first GPU.
- ``first-fit``: hosts by name, GPUs by address.
- ``pack``: the fullest host, the fullest GPU.
- ``best-fit``: the host and the GPU that have least left once the server is there.
- ``fragmentation``: the host and the GPU where the free framebuffer that typical requests cannot use grows least: the
  gradient of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023), over every kind of request that is known, those
  that want several GPUs at once included. Growth is told in steps of a part of a card: what differs by less is equal, and
  equals are tried in order, so that hosts are filled one after the other and whole ones stay whole for those who need them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from lamina.model.policies import PolicyName
from lamina.scheduling.gpu_states import ABSENT, Figures, GpuStates, States, Want

#: growth of fragmentation that differs by less than this part of the largest card is equal; found by replays of a trace
_STEP = 0.08


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request: what it takes of everything but GPUs, and what it wants of GPUs."""

    amounts: tuple[tuple[str, int], ...]
    wants: tuple[Want, ...]


class Demand:
    """What is expected to be asked for: m kinds of request, who between them want w different things of GPUs."""

    def __init__(self, weights: Mapping[Ask, float]) -> None:
        """How much each kind weighs against the others; each wants something of GPUs, and of all its GPUs the same."""
        kinds = list(weights)
        self.wants = tuple(dict.fromkeys(kind.wants[0] for kind in kinds))
        #: m: which of the wants each kind has, and of how many GPUs
        self.want_of = np.array([self.wants.index(kind.wants[0]) for kind in kinds], np.int64)
        self.gpus_of = np.array([len(kind.wants) for kind in kinds])
        #: m: parts of 1
        self.weights = np.array([weights[kind] for kind in kinds]) / sum(weights.values())
        #: resource class -> m: how much of it each kind takes
        self.needs = {name: np.zeros(len(kinds)) for kind in kinds for name, _ in kind.amounts}
        for place, kind in enumerate(kinds):
            for name, amount in kind.amounts:
                self.needs[name][place] = amount


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Some hosts as policies see them, n of them with at most g GPUs."""

    #: resource class -> what each host has left of it, and has in all; arrays of n
    left: Mapping[str, Figures]
    whole: Mapping[str, Figures]
    #: n x g, `ABSENT` where a host has fewer GPUs
    gpus: States
    states: GpuStates
    #: what is expected to be asked for
    demand: Demand | None = None

    @property
    def hosts(self) -> int:
        return int(self.gpus.shape[0])


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """Of n hosts, and of their GPUs (n x g)."""

    hosts: Figures
    gpus: Figures


class Policy(Protocol):
    def __call__(self, view: View, ask: Ask) -> Scores: ...


def first_fit(view: View, ask: Ask) -> Scores:
    return Scores(np.zeros(view.hosts), np.zeros(view.gpus.shape))


def spread(view: View, ask: Ask) -> Scores:
    return Scores(-_free_shares(view, ask), np.zeros(view.gpus.shape))


def pack(view: View, ask: Ask) -> Scores:
    return Scores(_free_shares(view, ask), _left_on_gpu(view, ask))


def best_fit(view: View, ask: Ask) -> Scores:
    after = sum((_share(view, name, amount) for name, amount in ask.amounts), np.zeros(view.hosts))
    gpus = _left_on_gpu(view, ask)
    free = view.states.free()
    whole = max(1.0, float(free.max()))
    return Scores(after + free[view.gpus].sum(axis=1) / whole, gpus)


def _share(view: View, name: str, amount: int = 0) -> Figures:
    """Which part of a class each host has left, less `amount`."""
    whole = np.maximum(view.whole[name], 1.0)
    share: Figures = (view.left[name] - amount) / whole
    return share


def _free_shares(view: View, ask: Ask) -> Figures:
    shares = sum((_share(view, name) for name, _ in ask.amounts), np.zeros(view.hosts))
    if ask.wants:
        free, whole = (figures[view.gpus].sum(axis=1) for figures in (view.states.free(), view.states.whole()))
        shares = shares + free / np.maximum(whole, 1.0)
    return shares


def _left_on_gpu(view: View, ask: Ask) -> Figures:
    """Free framebuffer of each GPU: the tightest that still takes it comes first."""
    free: Figures = view.states.free()[view.gpus]
    return free


def fragmentation(view: View, ask: Ask) -> Scores:
    if view.demand is None:
        return best_fit(view, ask)
    # asked first: it may come to states that were not seen before
    after = view.states.after(ask.wants[0], view.gpus) if ask.wants else None
    waste = _Waste(view, view.demand)
    left = {name: figures - dict(ask.amounts).get(name, 0) for name, figures in view.left.items()}
    able = waste.able(left)
    step = _STEP * max(1.0, float(view.states.whole().max()))
    if after is None:
        return Scores(np.round((waste.as_they_are(able) - waste.now) / step), np.zeros(view.gpus.shape))
    growth = np.round((waste.with_each(able, after) - waste.now[:, None]) / step)
    gpus = np.where(after == ABSENT, np.inf, growth)
    return Scores(np.sort(gpus, axis=1)[:, : len(ask.wants)].sum(axis=1), gpus)


def waste(view: View) -> Figures:
    """The free framebuffer of each host that the demand cannot use, in MiB; nothing where no demand is known."""
    return _Waste(view, view.demand).now if view.demand is not None else np.zeros(view.hosts)


class _Waste:
    """The free framebuffer of n hosts with g GPUs that the m kinds of the demand cannot use."""

    def __init__(self, view: View, demand: Demand) -> None:
        self._demand = demand
        self._table = view.states.fit_table(demand.wants)
        self._of_state = view.states.free()
        #: n x g: free on each GPU; n x g x w: whether it takes each want
        self._free = self._of_state[view.gpus]
        self._fits = self._table[view.gpus]
        #: n: all that is free; n x w: how many GPUs take each want, and what is free on those
        self._all = self._free.sum(axis=1)
        self._fit = self._fits.sum(axis=1)
        self._usable = np.einsum("ng,ngw->nw", self._free, self._fits)
        self.now = self.as_they_are(self.able(view.left))

    def able(self, left: Mapping[str, Figures]) -> Figures:
        """n x m: whether the host has enough of everything that is no GPU for one of each kind."""
        able = np.ones((self._all.size, self._demand.weights.size))
        for name, needs in self._demand.needs.items():
            able *= left[name][:, None] >= needs
        return able

    def as_they_are(self, able: Figures) -> Figures:
        """n: what is wasted with the GPUs as they are."""
        wasted: Figures = self._all - self._served(able, self._fit, self._usable)
        return wasted

    def with_each(self, able: Figures, after: States) -> Figures:
        """n x g: what is wasted when this one of the GPUs has come to its state in `after`."""
        free, fits = self._of_state[after], self._table[after]
        fit = self._fit[:, None, :] - self._fits + fits
        usable = self._usable[:, None, :] - self._free[:, :, None] * self._fits + free[:, :, None] * fits
        wasted: Figures = self._all[:, None] - self._free + free - self._served(able[:, None, :], fit, usable)
        return wasted

    def _served(self, able: Figures, fit: Figures, usable: Figures) -> Figures:
        """What the demand can use, by the weights of its kinds."""
        demand = self._demand
        served: Figures = (able * (fit[..., demand.want_of] >= demand.gpus_of) * usable[..., demand.want_of]) @ demand.weights
        return served


POLICIES: Mapping[PolicyName, Policy] = {
    PolicyName.SPREAD: spread,
    PolicyName.FIRST_FIT: first_fit,
    PolicyName.PACK: pack,
    PolicyName.BEST_FIT: best_fit,
    PolicyName.FRAGMENTATION: fragmentation,
}
