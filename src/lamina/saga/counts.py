"""What this process has counted of operations, for those who watch it. Labels are names of kinds, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

BEGUN = Counter("lamina_operations_begun", "Operations that began to run.", ["kind"])
ENDED = Counter("lamina_operations_ended", "Operations that ended: done, undone, or abandoned.", ["kind", "outcome"])
STUCK = Counter("lamina_operations_stuck", "Times that an operation came to wait for an operator.", ["kind"])
TAKEN_OVER = Counter("lamina_operations_taken_over", "Operations taken over whose process was gone: their lease had run out.", ["kind"])
SECONDS = Histogram(
    "lamina_operation_seconds",
    "From the request for an operation to its end.",
    ["kind", "outcome"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)


def ended(kind: str, outcome: str, seconds: float) -> None:
    ENDED.labels(kind, outcome).inc()
    SECONDS.labels(kind, outcome).observe(max(0.0, seconds))
