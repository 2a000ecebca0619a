"""Every table. Times are seconds since the epoch; ids that clients see are uuids in text.

The migrations in ``store/migrations`` build exactly this (a test compares them).
"""

from __future__ import annotations

from lamina.store.tables import audit, compute, control_planes, hosts, identity, limits, operations, placement
from lamina.store.tables.base import metadata

__all__ = ["audit", "compute", "control_planes", "hosts", "identity", "limits", "metadata", "operations", "placement"]
