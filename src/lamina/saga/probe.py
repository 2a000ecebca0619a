"""Probes: whoever wants to be told how far a saga has come."""

from __future__ import annotations

from typing import Protocol


class Probe(Protocol):
    """Told where a saga is; fault tests raise or kill here."""

    def at(self, point: str, saga_id: str, step: str) -> None:
        """`point`: before-do, after-do, before-undo, after-undo (the effect happened, nothing is logged yet), logged."""
        ...


class NoProbe:
    def at(self, point: str, saga_id: str, step: str) -> None:
        pass
