"""Filters: which hosts are out of the question, each with a sentence that says why. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from lamina.model.requests import CandidateRequest
from lamina.model.server_groups import Company


@dataclasses.dataclass(frozen=True, slots=True)
class HostState:
    """What filters see of a host."""

    name: str
    provider_id: str
    zone: str
    enabled: bool
    up: bool
    networks: frozenset[str] = frozenset()
    #: the resource classes of its GPUs, and why none of them is given out anew, if that is so
    gpu_classes: frozenset[str] = frozenset()
    untrusted: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a server asks of the scheduler."""

    request: CandidateRequest
    zone: str | None = None
    #: the one host an administrator named
    host: str | None = None
    #: hosts that have refused already, or that the server must leave
    excluded: frozenset[str] = frozenset()
    #: taken only when no other host will do: where the server is now
    last_resort: str | None = None
    #: names of the networks that the server has ports on
    networks: frozenset[str] = frozenset()
    #: what its flavor asks of aggregates -> names of the hosts that are in one which has it
    aggregates: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    #: its group, and where the others of it are
    company: Company | None = None
    #: hosts where it cannot be for a reason of its own -> the reason
    unfit: Mapping[str, str] = dataclasses.field(default_factory=dict)


Filter = Callable[[HostState, Wanted], str | None]


def asked_host(host: HostState, wanted: Wanted) -> str | None:
    return f"not the host asked for ({wanted.host})" if wanted.host is not None and host.name != wanted.host else None


def not_excluded(host: HostState, wanted: Wanted) -> str | None:
    return "excluded: tried already, or to be left" if host.name in wanted.excluded else None


def fit(host: HostState, wanted: Wanted) -> str | None:
    return wanted.unfit.get(host.name)


def service_up(host: HostState, _wanted: Wanted) -> str | None:
    return None if host.up else "its compute service is down"


def service_enabled(host: HostState, wanted: Wanted) -> str | None:
    return None if host.enabled else "its compute service is disabled"


def zone(host: HostState, wanted: Wanted) -> str | None:
    return f"not in availability zone {wanted.zone}" if wanted.zone is not None and host.zone != wanted.zone else None


def networks(host: HostState, wanted: Wanted) -> str | None:
    lacking = min(wanted.networks - host.networks, default=None)
    return f"has no network {lacking}" if lacking is not None else None


def aggregates(host: HostState, wanted: Wanted) -> str | None:
    lacking = next((spec for spec, names in wanted.aggregates.items() if host.name not in names), None)
    return f"in no aggregate whose metadata has {lacking}" if lacking is not None else None


def driver(host: HostState, wanted: Wanted) -> str | None:
    """A host whose driver is not trusted takes no new vGPU; what needs none is none of a driver's business."""
    return host.untrusted if host.untrusted is not None and host.gpu_classes & wanted.request.total().keys() else None


def company(host: HostState, wanted: Wanted) -> str | None:
    return wanted.company.refuses(host.name) if wanted.company is not None else None


#: in this order; the first that says no gives the reason
FILTERS: tuple[Filter, ...] = (asked_host, not_excluded, fit, service_up, service_enabled, zone, networks, aggregates, driver, company)


def why_not(host: HostState, wanted: Wanted) -> str | None:
    """Why a host is out of the question, or None."""
    return next((said for check in FILTERS if (said := check(host, wanted)) is not None), None)
