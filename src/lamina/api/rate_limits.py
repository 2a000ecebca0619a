"""How often each project may ask, counted in the memory of this process; another process counts for itself.

A token of no project counts for its user, and who shows no good token for its address. Hosts that dial in are not counted:
there are as many as were let in, and what they bring is Lamina's own work.
"""

from __future__ import annotations

import ipaddress
import threading

from lamina.api.routing import UNCHANGING, Context
from lamina.model.errors import TooManyRequests
from lamina.model.rates import SECOND, Buckets, Rate

#: tokens that a request costs
READ, WRITE = 1, 5
#: buckets remembered at most of those who are known, and as many of addresses: a flood of these forgets none of those
MOST_KEPT = 10_000
#: bits of an IPv6 address that say whose it is; with the others its owner does as it likes (RFC 6177)
_NETWORK = 64


class RateLimits:
    """Safe for threads."""

    def __init__(self, rate: Rate | None) -> None:
        """`rate` is that of each, in reads; None counts nothing."""
        self._lock = threading.Lock()
        self._known = Buckets(rate, MOST_KEPT) if rate is not None else None
        self._addresses = Buckets(rate, MOST_KEPT) if rate is not None else None

    def count(self, context: Context, address: str, method: str, now: float) -> None:
        """Count a request of this method; `now` is in seconds. Raises `TooManyRequests`."""
        if self._known is None or self._addresses is None or context.host:
            return
        if context.user_id:
            buckets, key = self._known, context.project_id or context.user_id
            who = "This project" if context.project_id else "This user"
        else:
            buckets, key = self._addresses, network_of(address)
            who = "This address"
        with self._lock:
            wait = float(buckets.take(key, READ if method in UNCHANGING else WRITE, int(now * SECOND)))
        if wait:
            raise TooManyRequests(
                f"{who} asks more often than it may, {buckets.rate.per_second} reads a second in the long run; a call that changes "
                f"something counts as {WRITE}. Ask again in {wait:.1f} seconds.",
                wait,
                project=context.project_id,
                user=context.user_id,
                address=address,
            )


def network_of(address: str) -> str:
    """What of an address stands for its owner: all of IPv4, the network of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _NETWORK), strict=False))
