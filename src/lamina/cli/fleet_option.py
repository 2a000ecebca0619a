"""The option ``--fleet FILE|demo``: simulated hosts."""

from __future__ import annotations

from pathlib import Path

from lamina.agent.simulated import fleet as fleets
from lamina.model.errors import BadRequest


def load_fleet(named: str | None) -> fleets.Fleet:
    """The simulated hosts. Raises `BadRequest`; without a fleet it says what this machine lacks."""
    if named is None:
        raise BadRequest(
            "this build runs servers on simulated hosts only: say --fleet demo, or --fleet FILE; "
            "'lamina doctor' tells what this machine has"
        )
    return fleets.demo_fleet() if named == "demo" else fleets.load_fleet(Path(named))
