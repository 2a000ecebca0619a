"""Fleet API v1, Lamina's own: hosts, GPUs with their layouts, vGPUs, operations. For administrators."""

from lamina.api.fleet.room import ROOM

__all__ = ["ROOM"]
