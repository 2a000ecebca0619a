"""Tokens that were found good, remembered until anything that they rest on is written to.

What a token rests on is its own row, its user, its scope, their domains, and the roles its user has there, by groups too. On
SQLite one process owns the database, so it sees every such write; where other processes write too nothing is remembered and each
look is a query.
"""

from __future__ import annotations

import threading

from lamina.store import tokens
from lamina.store.database import Database
from lamina.store.tables import identity as tables
from lamina.store.tokens import Token

_RESTS_ON = frozenset(
    {
        tables.application_credential_roles,
        tables.application_credentials,
        tables.domains,
        tables.group_members,
        tables.group_role_assignments,
        tables.projects,
        tables.role_assignments,
        tables.roles,
        tables.tokens,
        tables.user_groups,
        tables.users,
    }
)
#: tokens remembered at most
_MOST_KEPT = 10_000


class GoodTokens:
    """Safe for threads."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._writes = db.count_writes(_RESTS_ON) if db.is_sqlite else None
        self._counted = 0
        self._kept: dict[str, Token] = {}

    def find(self, hash_: str, now: float) -> Token | None:
        """As `tokens.find_token`."""
        if self._writes is None:
            return self._look(hash_, now)
        # counted before the look: what is written while it lasts makes its answer too old to be kept
        counted = self._writes()
        with self._lock:
            if counted != self._counted or len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
                self._counted = counted
            kept = self._kept.get(hash_)
        if kept is not None:
            return kept if _is_good(kept, now) else None
        found = self._look(hash_, now)
        if found is not None:
            with self._lock:
                if counted == self._counted:
                    self._kept[hash_] = found
        return found

    def _look(self, hash_: str, now: float) -> Token | None:
        with self._db.read() as tx:
            return tokens.find_token(tx, hash_, now)


def _is_good(token: Token, now: float) -> bool:
    """What time alone can have changed."""
    return now < token.expires_at and (token.credential is None or token.credential.is_good(now))
