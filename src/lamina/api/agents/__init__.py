"""Agents API v1, Lamina's own: where the compute services of other machines dial in. On a listener of its own, with mutual TLS."""

from lamina.api.agents.room import ROOM

__all__ = ["ROOM"]
