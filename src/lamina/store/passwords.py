"""Passwords: argon2id, and the same time spent whether or not there is anything to compare with.

Cost after OWASP, "Password Storage Cheat Sheet": 19 MiB and two passes, some 20 ms; at most as many at once as there
are processors, so that a flood of logins cannot take the machine's memory.
"""

from __future__ import annotations

import functools
import os
import threading

import argon2

_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_AT_ONCE = threading.BoundedSemaphore(os.cpu_count() or 1)


def hashed(password: str) -> str:
    """The encoded hash to keep, its salt and cost within."""
    with _AT_ONCE:
        return _HASHER.hash(password)


def matches(kept: str | None, password: str) -> bool:
    """Whether `password` is the one whose hash was kept. None (no such user, or no password) costs as much and says no."""
    encoded = kept or _nobody()
    with _AT_ONCE:
        try:
            return _HASHER.verify(encoded, password) and kept is not None
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


@functools.cache
def _nobody() -> str:
    return hashed(os.urandom(16).hex())
