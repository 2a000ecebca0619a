"""What a server's row keeps, whoever writes to it."""

from __future__ import annotations

import pytest

from lamina.model.errors import ConcurrentUpdate
from lamina.model.servers import TaskState, VmState
from lamina.operations.control_plane import ControlPlane
from lamina.store import servers
from tests.unit.test_servers import server


def test_a_server_marked_for_deletion_stays_marked_whatever_a_running_operation_says(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        servers.insert(tx, [server(VmState.BUILDING, TaskState.DELETING)])
        for said in (TaskState.SPAWNING, None):
            servers.update(tx, "s", 1.0, task_state=said, vm_state=VmState.ACTIVE)
            assert servers.get(tx, "s").task_state is TaskState.DELETING
        servers.update(tx, "s", 2.0, task_state=None, vm_state=VmState.DELETED)
        assert servers.get(tx, "s").task_state is None


def test_an_update_of_what_somebody_else_changed_is_refused(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        servers.insert(tx, [server(VmState.ACTIVE)])
        servers.update(tx, "s", 1.0, expected=0, name="first")
        with pytest.raises(ConcurrentUpdate):
            servers.update(tx, "s", 1.0, expected=0, name="second")
        assert servers.get(tx, "s").name == "first"
