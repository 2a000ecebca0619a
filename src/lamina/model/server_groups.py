"""Server groups: which servers belong together or apart, and what that means for a host. Pure.

Source: Compute API reference, "Server groups"; Nova, ServerGroupAffinityFilter, ServerGroupAntiAffinityFilter and their
weighers. Stricter than Nova in one point: a server between two hosts counts on both until its move is confirmed or
reverted, so that neither ending can break the policy.
"""

from __future__ import annotations

import dataclasses
import enum


class GroupPolicy(enum.StrEnum):
    """The hard ones hold, or no host is valid; the soft ones are wishes."""

    AFFINITY = "affinity"
    ANTI_AFFINITY = "anti-affinity"
    SOFT_AFFINITY = "soft-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"

    @property
    def hard(self) -> bool:
        return self in (GroupPolicy.AFFINITY, GroupPolicy.ANTI_AFFINITY)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerGroup:
    """A group without its members."""

    id: str
    name: str
    project_id: str
    user_id: str
    policy: GroupPolicy
    #: how many servers of an anti-affinity group a host may have; one where nobody said
    max_server_per_host: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Company:
    """The group of a server that looks for a host, and where the others of it are."""

    group: ServerGroup
    #: for each of the others that has a place: the host it is on, or both where it is between two
    places: tuple[frozenset[str], ...]

    def refuses(self, host: str) -> str | None:
        """Why the server cannot go to this host beside the others, or None."""
        if self.group.policy is GroupPolicy.ANTI_AFFINITY:
            most, there = self.group.max_server_per_host or 1, self._on(host)
            if there >= most:
                return f"has {there} of at most {most} servers of anti-affinity group {self.group.id}"
        if self.group.policy is GroupPolicy.AFFINITY:
            apart = next((places for places in self.places if places != {host}), None)
            if apart is not None:
                hosts = sorted(apart)
                where = hosts[0] if len(hosts) == 1 else f"between {' and '.join(hosts)} until its move is confirmed or reverted"
                return f"affinity group {self.group.id} has a server on another host ({where})"
        return None

    def dislike(self, host: str) -> int:
        """How little a soft policy wishes for this host; 0 where there is nothing to wish."""
        if self.group.policy is GroupPolicy.SOFT_ANTI_AFFINITY:
            return self._on(host)
        return -self._on(host) if self.group.policy is GroupPolicy.SOFT_AFFINITY else 0

    def _on(self, host: str) -> int:
        return sum(host in places for places in self.places)
