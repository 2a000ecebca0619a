"""How often each project may ask, counted in the memory of this process; another process counts for itself.

A token of no project counts for its user, and who shows no good token for its address. Hosts that dial in are not counted:
there are as many as were let in, and what they bring is Lamina's own work.
"""

from __future__ import annotations

import collections
import ipaddress
import threading

from lamina.api.routing import Context
from lamina.model import rates
from lamina.model.errors import TooManyRequests
from lamina.model.rates import SECOND, Bucket, Rate

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
        self._rate = rate
        self._lock = threading.Lock()
        self._known: collections.OrderedDict[str, Bucket] = collections.OrderedDict()
        self._addresses: collections.OrderedDict[str, Bucket] = collections.OrderedDict()

    def count(self, context: Context, address: str, method: str, now: float) -> None:
        """Count a request of this method; `now` is in seconds. Raises `TooManyRequests`."""
        if self._rate is None or context.host:
            return
        if context.user_id:
            wait = self._taken(self._known, self._rate, context.project_id or context.user_id, method, now)
            who = "This project" if context.project_id else "This user"
        else:
            wait = self._taken(self._addresses, self._rate, network_of(address), method, now)
            who = "This address"
        if wait:
            raise TooManyRequests(
                f"{who} asks more often than it may, {self._rate.per_second} reads a second in the long run; a call that changes "
                f"something counts as {WRITE}. Ask again in {wait:.1f} seconds.",
                wait,
                project=context.project_id,
                user=context.user_id,
                address=address,
            )

    def _taken(self, kept: collections.OrderedDict[str, Bucket], rate: Rate, key: str, method: str, now: float) -> float:
        """The seconds to wait, 0 where the request may pass."""
        moment, cost = int(now * SECOND), READ if method in ("GET", "HEAD", "OPTIONS") else WRITE
        with self._lock:
            before = kept.get(key) or rates.new(rate, moment)
            kept[key], wait = rates.take(before, rate, cost, moment)
            kept.move_to_end(key)
            if len(kept) > MOST_KEPT:
                kept.popitem(last=False)  # who has not asked for the longest time, whose bucket is the fullest
        return float(wait)


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
