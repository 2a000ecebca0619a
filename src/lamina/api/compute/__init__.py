"""The Compute API, microversions 2.1 to 2.96 (source: Compute API reference and its version history)."""

from __future__ import annotations

from lamina.api.compute import (
    aggregates,
    availability_zones,
    flavors,
    hypervisors,
    instance_actions,
    keypairs,
    limits,
    migrations,
    not_here,
    quota_sets,
    server_actions,
    server_attributes,
    server_consoles,
    server_groups,
    server_vgpus,
    servers,
    services,
    versions,
)
from lamina.api.compute.answers import MICROVERSIONS, PREFIX, fault
from lamina.api.routing import Room

_REQUEST_ID = ("X-Openstack-Request-Id", "X-Compute-Request-Id")

VERSIONS = Room(name="compute-versions", prefix="/compute", routes=versions.ALL, fault=fault, request_id_headers=_REQUEST_ID)

ROOM = Room(
    name="compute",
    prefix=PREFIX,
    routes=(
        *versions.ONE,
        *flavors.ROUTES,
        *servers.ROUTES,
        *server_actions.ROUTES,
        *server_attributes.ROUTES,
        *server_vgpus.ROUTES,
        *server_consoles.ROUTES,
        *instance_actions.ROUTES,
        *hypervisors.ROUTES,
        *services.ROUTES,
        *aggregates.ROUTES,
        *availability_zones.ROUTES,
        *server_groups.ROUTES,
        *migrations.ROUTES,
        *limits.ROUTES,
        *quota_sets.ROUTES,
        *keypairs.ROUTES,
        *not_here.ROUTES,
    ),
    fault=fault,
    microversions=MICROVERSIONS,
    request_id_headers=_REQUEST_ID,
)
