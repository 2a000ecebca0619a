"""The Placement API, microversions 1.0 to 1.39 (source: Placement API reference and its version history).

What differs from OpenStack's is in docs/api.md, and held to it by ``make compat``.
"""

from __future__ import annotations

from lamina.api.placement import (
    aggregates,
    allocations,
    candidates,
    inventories,
    providers,
    reshaper,
    resource_classes,
    root,
    traits,
    usages,
)
from lamina.api.placement.answers import MICROVERSIONS, PREFIX, fault
from lamina.api.routing import Room

ROOM = Room(
    name="placement",
    prefix=PREFIX,
    routes=(
        *root.ROUTES,
        *resource_classes.ROUTES,
        *providers.ROUTES,
        *inventories.ROUTES,
        *usages.ROUTES,
        *aggregates.ROUTES,
        *traits.ROUTES,
        *allocations.ROUTES,
        *candidates.ROUTES,
        *reshaper.ROUTES,
    ),
    fault=fault,
    microversions=MICROVERSIONS,
)
