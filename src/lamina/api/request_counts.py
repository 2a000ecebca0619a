"""What this process has counted of requests, for those who watch it. Labels are rooms and methods, never paths, projects or users."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter("lamina_requests", "Requests answered; 401, 403 and 429 are refusals.", ["room", "method", "status"])
SECONDS = Histogram(
    "lamina_request_seconds",
    "From a request's head to the end of its answer.",
    ["room"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


def answered(room: str, method: str, status: int, seconds: float) -> None:
    REQUESTS.labels(room, method, status).inc()
    SECONDS.labels(room).observe(max(0.0, seconds))
