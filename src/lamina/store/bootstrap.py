"""What is there from the first start: the domain, the roles, two projects, and a user of each."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lamina.model import ids
from lamina.store import passwords
from lamina.store.identity import derived_id
from lamina.store.role_assignments import SYSTEM, assign
from lamina.store.roles import BOOTSTRAP_ROLES
from lamina.store.tables.identity import projects, roles, tokens, users


def bootstrap(tx: sa.Connection, admin_password: str, demo_password: str, now: float) -> None:
    """Make what ``keystone-manage bootstrap`` makes, and the project and user ``demo``; what is there is left as it is.

    Tokens that ran out before `now` are thrown away. Passwords are set only for users made here.
    """
    tx.execute(sa.delete(tokens).where(tokens.c.expires_at <= now))
    held = {name: _ensure(tx, roles, name, id=derived_id("role", name)) for name in BOOTSTRAP_ROLES}
    for name, password, role in (("admin", admin_password, "admin"), ("demo", demo_password, "member")):
        project_id = _ensure(tx, projects, name, id=ids.new_identity_id(), description=f"The project {name}, made at the first start.")
        known = tx.scalar(sa.select(users.c.id).where(users.c.name == name))
        if known is None:
            known = ids.new_identity_id()
            tx.execute(
                sa.insert(users).values(id=known, name=name, password_hash=passwords.hashed(password), default_project_id=project_id)
            )
            assign(tx, known, held[role], project_id)
            if role == "admin":
                assign(tx, known, held[role], SYSTEM)


def _ensure(tx: sa.Connection, table: sa.Table, name: str, **values: Any) -> str:
    known: str | None = tx.scalar(sa.select(table.c.id).where(table.c.name == name))
    if known is not None:
        return known
    tx.execute(sa.insert(table).values(name=name, **values))
    made: str = values["id"]
    return made
