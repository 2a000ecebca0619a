"""Several replays of one policy as one row: means over the seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from lamina.cli.simulation.replay import FILL, Result

CLASSES = ("shared", "full", "multi")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """Shares are of 1. Those that a load does not have are None."""

    policy: str
    seeds: int
    allocated: float
    allocated_at_end: float | None
    deviation: float
    unallocated: float
    first_refusal: float | None
    refused: dict[str, float]
    refused_demand: float
    refused_deviation: float
    fragmentation: float
    #: of one replay; GiB of framebuffer
    moves: float
    moved_gib: float
    decisions_per_second: float


def summary(policy: str, results: Sequence[Result]) -> Row:
    """The row of a policy's results, which are of one load."""
    first = min(results[0].allocated)
    last = max(results[0].allocated)
    ends = [r.allocated[last] for r in results]
    demand = [r.refused_demand for r in results]
    refusals = [r.first_refusal for r in results if r.first_refusal is not None]
    return Row(
        policy=policy,
        seeds=len(results),
        allocated=statistics.mean(r.allocated[first] for r in results),
        allocated_at_end=statistics.mean(ends) if last == FILL else None,
        deviation=statistics.stdev(ends) if len(ends) > 1 else 0.0,
        unallocated=1 - statistics.mean(ends),
        first_refusal=statistics.mean(refusals) if refusals else None,
        refused={name: statistics.mean(r.refused_share(name) for r in results) for name in CLASSES},
        refused_demand=statistics.mean(demand),
        refused_deviation=statistics.stdev(demand) if len(demand) > 1 else 0.0,
        fragmentation=statistics.mean(r.fragmentation for r in results),
        moves=statistics.mean(r.moves for r in results),
        moved_gib=statistics.mean(r.moved_mb for r in results) / 1024,
        decisions_per_second=sum(r.decisions for r in results) / max(1e-9, sum(r.seconds for r in results)),
    )
