"""Confirm resizes and cold migrations that nobody confirmed or reverted for a while: Nova's resize_confirm_window.

A reconciler takes no input: it compares what waits with the clock. What it begins is an ordinary `confirm`, so a word
from a person at the same moment is either first or too late, and an attempt that fails waits a whole window again.
"""

from __future__ import annotations

from functools import partial

import sqlalchemy as sa
import structlog

from lamina.model import ids
from lamina.model.audit import own
from lamina.model.audit import server as audited
from lamina.model.errors import LaminaError
from lamina.model.servers import MigrationStatus, VmState
from lamina.operations import confirm
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.store import audit, servers
from lamina.store.tables.compute import migrations
from lamina.store.tables.compute import servers as rows

log = structlog.get_logger()


def overdue(plane: ControlPlane) -> list[str]:
    """Begin to confirm what has waited for longer than the window; the servers' ids. Without a window, none."""
    window = plane.settings.resize_confirm_window
    if window is None:
        return []
    waiting = sa.select(rows.c.id).where(rows.c.vm_state == VmState.RESIZED, rows.c.task_state.is_(None), rows.c.deleted_at.is_(None))
    late = migrations.c.updated_at <= plane.clock.now() - window
    with plane.db.read() as tx:
        found = servers.migrations_page(tx, [migrations.c.status == MigrationStatus.FINISHED, late, migrations.c.server_id.in_(waiting)])
        owners = servers.readable(tx, [m.server_id for m in found])
    begun = []
    for server in owners.values():
        try:
            caller = Caller(server.user_id, server.project_id, ids.new_request_id())
            event = partial(own, plane.clock.now(), "update/lamina:auto_confirm", audited(server.id), request_id=caller.request_id)
            with audit.accompanied(event):
                confirm.request(plane, caller, server.id)
        except LaminaError as error:  # somebody was faster
            log.info("not confirmed", server=server.id, why=error.message)
            continue
        log.info("confirmed: nobody did in time", server=server.id, window=window)
        begun.append(server.id)
    return begun
