"""How often somebody has failed to prove who he is, in a row: what guessing is limited by (OWASP, "Authentication Cheat Sheet")."""

from __future__ import annotations

import sqlalchemy as sa

from lamina.store.tables.identity import login_failures


def is_locked(tx: sa.Connection, user_id: str, *, since: float, most: int) -> bool:
    """Whether `most` attempts in a row have failed and the last of them after `since`."""
    query = sa.select(login_failures.c.count).where(login_failures.c.user_id == user_id, login_failures.c.last_at > since)
    return (tx.scalar(query) or 0) >= most


def add(tx: sa.Connection, user_id: str, *, since: float, now: float) -> int:
    """One more; those before `since` no longer count. How many there are in a row now."""
    here = login_failures.c.user_id == user_id
    counted = sa.case((login_failures.c.last_at > since, login_failures.c.count + 1), else_=1)
    if not tx.execute(sa.update(login_failures).where(here).values(count=counted, last_at=now)).rowcount:
        tx.execute(sa.insert(login_failures).values(user_id=user_id, count=1, last_at=now))
    return tx.scalar(sa.select(login_failures.c.count).where(here)) or 1


def forget(tx: sa.Connection, user_id: str) -> None:
    tx.execute(sa.delete(login_failures).where(login_failures.c.user_id == user_id))


def any_of(tx: sa.Connection, user_id: str) -> bool:
    return tx.scalar(sa.select(login_failures.c.count).where(login_failures.c.user_id == user_id)) is not None
