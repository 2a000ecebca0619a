"""Policies: in which order hosts are tried, and on a host its GPUs. Small pure functions over arrays; less is better.

- ``spread``: the emptiest host in what is asked for. Nova's default, which looks at memory, vCPUs and disk, counting what
  is asked of GPUs like everything else; on the host the first GPU.
- ``first-fit``: hosts by name, GPUs by address.
- ``pack``: the fullest host, the fullest GPU.
- ``best-fit``: the host and the GPU that have least left once the server is there.
- ``fragmentation``: the host and the GPU where the free framebuffer that typical requests cannot use grows least: the
  gradient of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023), with each kind of request weighed by how much GPU
  it asks for and not by how often it comes, so that the rare large ones are not forgotten; what is equal in that goes
  where it fits best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from lamina.model.policies import PolicyName
from lamina.scheduling.gpu_states import ABSENT, Figures, GpuStates, States, Want


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request: what it takes of everything but GPUs, and what it wants of GPUs."""

    amounts: tuple[tuple[str, int], ...]
    wants: tuple[Want, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request that is expected, and how much it weighs."""

    ask: Ask
    weight: float


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
    demand: Sequence[Kind] = ()

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
    if not view.demand:
        return best_fit(view, ask)
    waste = _Waste(view)
    left = {name: view.left[name] for name in view.left}
    for name, amount in ask.amounts:
        left[name] = left[name] - amount
    able = waste.able(left)
    tight = best_fit(view, ask)
    if not ask.wants:
        return Scores(waste.as_they_are(able) - waste.now + _slight(tight.hosts), tight.gpus)
    gpus = np.full(view.gpus.shape, np.inf)
    for column in range(view.gpus.shape[1]):
        after = view.states.after(ask.wants[0], view.gpus[:, column])
        gpus[:, column] = np.where(after == ABSENT, np.inf, waste.with_gpu(able, column, after) - waste.now)
    gpus += _slight(tight.gpus)
    best = np.sort(gpus, axis=1)[:, : len(ask.wants)].sum(axis=1)
    return Scores(best + _slight(tight.hosts), gpus)


def waste(view: View) -> Figures:
    """The free framebuffer of each host that the demand cannot use, in MiB; nothing where no demand is known."""
    return _Waste(view).now if view.demand else np.zeros(view.hosts)


def _slight(scores: Figures) -> Figures:
    """Made so small that they only tell equals apart."""
    return scores * 1e-6


class _Waste:
    """The free framebuffer of each host that the demand cannot use, by the weights of its kinds."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._free = view.states.free()
        self._weights = np.array([kind.weight for kind in view.demand])
        self._weights /= self._weights.sum()
        self._counts = np.array([len(kind.ask.wants) for kind in view.demand])
        self._amounts = [dict(kind.ask.amounts) for kind in view.demand]
        #: n x g x m: whether each GPU takes a vGPU of each kind
        fits = self._fits(view.gpus)
        free = self._free[view.gpus]
        self._free_of, self._fits_of = free, fits
        #: n: all that is free; n x m: how many GPUs take each kind, how much is free on those
        self._all = free.sum(axis=1)
        self._fit = fits.sum(axis=1)
        self._usable = np.einsum("ng,ngm->nm", free, fits)
        self.now = self.as_they_are(self.able(view.left))

    def _fits(self, gpus: States) -> Figures:
        stacked = [
            self._view.states.fits(kind.ask.wants[0], gpus) if kind.ask.wants else np.ones(gpus.shape, np.bool_)
            for kind in self._view.demand
        ]
        return np.stack(stacked, axis=-1).astype(np.float64)

    def able(self, left: Mapping[str, Figures]) -> Figures:
        """n x m: whether the host has enough of everything else for one of each kind."""
        able = np.ones((self._view.hosts, len(self._amounts)), np.bool_)
        for place, amounts in enumerate(self._amounts):
            for name, amount in amounts.items():
                able[:, place] &= left[name] >= amount if name in left else False
        return able.astype(np.float64)

    def as_they_are(self, able: Figures) -> Figures:
        """n: what is wasted with the GPUs as they are."""
        served = able * (self._fit >= self._counts)
        waste: Figures = self._all - (served * self._usable) @ self._weights
        return waste

    def with_gpu(self, able: Figures, column: int, after: States) -> Figures:
        """n: what is wasted when the GPU of `column` has come to the states `after`."""
        fits = self._fits(after)
        free = self._free[after]
        was_free, was_fit = self._free_of[:, column], self._fits_of[:, column]
        fit = self._fit - was_fit + fits
        usable = self._usable - was_free[:, None] * was_fit + free[:, None] * fits
        served = able * (fit >= self._counts)
        waste: Figures = self._all - was_free + free - (served * usable) @ self._weights
        return waste


POLICIES: Mapping[PolicyName, Policy] = {
    PolicyName.SPREAD: spread,
    PolicyName.FIRST_FIT: first_fit,
    PolicyName.PACK: pack,
    PolicyName.BEST_FIT: best_fit,
    PolicyName.FRAGMENTATION: fragmentation,
}
