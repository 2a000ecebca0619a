"""What a server's group has to say in its claim.

The claims of one group under a hard policy come one after the other: each holds the group until it is committed, so the
next one sees where this one went. They would all try for the same host else, and all but one of them begin anew.
"""

from __future__ import annotations

import sqlalchemy as sa

from lamina.model.server_groups import Company
from lamina.store import server_groups


def company(tx: sa.Connection, server_id: str) -> Company | None:
    """The group of a server that is about to claim, with where the others of it are; None where it has no group.

    To be asked for before the claim's transaction writes to any provider: claims wait for groups first, then for providers.
    """
    group = server_groups.of_server(tx, server_id)
    if group is not None and group.policy.hard:
        group = server_groups.of_server(tx, server_id, hold=True)
    return Company(group, tuple(server_groups.places(tx, group.id, server_id))) if group is not None else None
