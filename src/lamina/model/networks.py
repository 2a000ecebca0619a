"""Networks and ports.

A network is what hosts say they have under one name: a bridge or a network of the hypervisor's, of which nobody here
knows more. A port is a server's place on one, a MAC address; which IP addresses go with it is the business of whatever
serves that network.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from lamina.model import ids


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """A server's interface number ``position`` (from 0). It comes with its server and goes with it."""

    id: str
    server_id: str
    project_id: str
    network: str
    mac: str
    position: int
    created_at: float

    @property
    def network_id(self) -> str:
        return ids.network_id(self.network)


def commonest(of_hosts: Iterable[Iterable[str]]) -> str | None:
    """The network that most hosts have, the first by name among equals; None where no host has any."""
    count = Counter(name for names in of_hosts for name in set(names))
    return min(count, key=lambda name: (-count[name], name), default=None)
