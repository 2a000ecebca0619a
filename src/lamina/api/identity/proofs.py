"""Passwords and secrets held against what is kept, and guessing made slow.

After so many failures of a user in a row nothing is right for a while, and after so many of an address nothing of it is looked at.
"""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from lamina.api.rate_limits import network_of
from lamina.api.routing import Request
from lamina.operations.control_plane import ControlPlane
from lamina.store import login_failures, passwords

log = structlog.get_logger()


def is_right(request: Request, user_id: str | None, kept: str | None, password: str) -> bool:
    """Whether this is the user's password, and the user is not locked out; takes as long for nobody as for somebody.

    A user who is locked out is told nothing else than that the password is wrong, even where it is right: an answer that
    tells the two apart would let the guessing go on. Raises `TooManyRequests` before anything is looked at.
    """
    plane = request.plane
    settings, now = plane.settings, plane.clock.now()
    since = now - settings.lockout
    matches = matches_secret(request, kept, password)
    if user_id is None or kept is None:
        return False
    with plane.db.read() as tx:
        locked = login_failures.is_locked(tx, user_id, since=since, most=settings.login_failures)
        failed_before = login_failures.any_of(tx, user_id)
    if matches and not locked:
        if failed_before:
            with plane.db.write() as tx:
                login_failures.forget(tx, user_id)
        return True
    if matches:
        plane.logins.failed(network_of(request.client), now)
    if not locked:
        _count(plane, user_id, since=since, now=now)
    return False


def matches_secret(request: Request, kept: str | None, secret: str) -> bool:
    """Whether this is what was kept, as `passwords.matches`, within the limits of the caller's address and of all together.

    Raises `TooManyRequests`.
    """
    logins, now, address = request.plane.logins, request.plane.clock.now(), network_of(request.client)
    with logins.turn(address, now):
        matches = passwords.matches(kept, secret)
    if not matches:
        logins.failed(address, now)
    return matches


def _count(plane: ControlPlane, user_id: str, *, since: float, now: float) -> None:
    try:
        with plane.db.write() as tx:
            count = login_failures.add(tx, user_id, since=since, now=now)
    except sa.exc.IntegrityError:  # deleted meanwhile, or another's first failure was counted at the same time
        return
    if count >= plane.settings.login_failures:
        log.warning("user locked out after failed logins", user=user_id, failures=count, seconds=plane.settings.lockout)
