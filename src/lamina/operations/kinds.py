"""Every kind of multi-step operation there is."""

from __future__ import annotations

from typing import Any

from lamina.operations import (
    attach,
    clear,
    clear_evacuated,
    confirm,
    create,
    delete,
    detach,
    evacuate,
    live_migrate,
    pause,
    power,
    rebuild,
    rescue,
    resize,
    restore,
    revert,
    shelve,
    snapshot,
    suspend,
    unshelve,
)
from lamina.operations.control_plane import ControlPlane
from lamina.saga.steps import Kind

KINDS: tuple[Kind[ControlPlane, Any], ...] = (
    clear.KIND,
    create.KIND,
    delete.KIND,
    resize.KIND,
    confirm.KIND,
    revert.KIND,
    live_migrate.KIND,
    pause.KIND,
    power.KIND,
    rebuild.KIND,
    rescue.KIND,
    evacuate.KIND,
    restore.KIND,
    clear_evacuated.KIND,
    suspend.KIND,
    snapshot.KIND,
    shelve.KIND,
    unshelve.KIND,
    attach.KIND,
    detach.KIND,
)
