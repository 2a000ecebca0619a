"""The Placement API, microversions 1.0 to 1.39 (source: Placement API reference and its version history).

Not answered: ``POST /reshaper`` (1.30), with 501; Lamina moves its own inventories in its own transactions.
"""

from __future__ import annotations

from lamina.api.placement import aggregates, allocations, candidates, inventories, providers, resource_classes, root, traits, usages
from lamina.api.placement.answers import MICROVERSIONS, PREFIX, fault, route
from lamina.api.routing import Reply, Request, Room
from lamina.model.errors import NotImplementedHere


def reshape(_request: Request) -> Reply:
    raise NotImplementedHere("POST /reshaper is not answered here: change inventories and allocations one by one.")


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
        route("POST", "/reshaper", reshape, "reshaper:reshape", since=30),
    ),
    fault=fault,
    microversions=MICROVERSIONS,
)
