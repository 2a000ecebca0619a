"""Weighers: in which order the hosts that remain are tried. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from lamina.model.providers import ProviderTree
from lamina.scheduling.filters import HostState, Wanted


def free_share(tree: ProviderTree, resource_class: str) -> Fraction:
    """Which part of a class is free over the whole tree, from 0 to 1; 0 where there is none."""
    capacity = used = 0
    for provider in tree.providers:
        inventory = provider.inventories.get(resource_class)
        if inventory is not None:
            capacity += inventory.capacity
            used += provider.used.get(resource_class, 0)
    return Fraction(capacity - used, capacity) if capacity > 0 else Fraction(0)


def spread(hosts: Iterable[HostState], trees: Mapping[str, ProviderTree], wanted: Wanted) -> list[HostState]:
    """The emptiest host in what is asked for comes first, by name among equals; the last resort comes last.

    Nova's default spreads over memory, vCPUs and disk and is blind to vGPUs; here every class asked for counts alike.
    """
    classes = sorted(wanted.request.total())

    def weight(host: HostState) -> Fraction:
        return sum((free_share(trees[host.provider_id], name) for name in classes), Fraction(0))

    return sorted(hosts, key=lambda h: (h.name == wanted.last_resort, -weight(h), h.name))
