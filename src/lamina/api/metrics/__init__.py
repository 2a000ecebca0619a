"""What those who watch Lamina ask: one page of figures in Prometheus' text format."""

from lamina.api.metrics.room import OPEN, ROOM

__all__ = ["OPEN", "ROOM"]
