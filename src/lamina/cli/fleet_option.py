"""The option ``--fleet FILE|demo``: simulated hosts."""

from __future__ import annotations

from pathlib import Path

from lamina.agent.simulated import fleet as fleets


def load_fleet(named: str) -> fleets.Fleet:
    """The simulated hosts. Raises `BadRequest`."""
    return fleets.demo_fleet() if named == "demo" else fleets.load_fleet(Path(named))
