"""Reset state: an administrator says what a server is, whatever has gone before.

A state follows from what is true on the host, so this is for what went wrong outside: what an operation under way holds is not
touched, one that is stuck is given up, and what was said holds until the host's next report, which tells truly whether a server
runs. ERROR stays.
"""

from __future__ import annotations

from lamina.model.errors import InvalidState
from lamina.model.servers import Fault, VmState
from lamina.operations.control_plane import ControlPlane
from lamina.saga.log import State
from lamina.store import sagas, servers


def reset(plane: ControlPlane, server_id: str, vm_state: VmState) -> None:
    """Raises `NotFound`, and `InvalidState` while an operation is under way."""
    now = plane.clock.now()
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        holder = sagas.holder(tx, server_id)
        if holder is not None and holder.state != State.STUCK:
            raise InvalidState(f"Cannot 'os-resetState' instance {server_id} while it is in task_state {server.task_state}")
        if vm_state is VmState.ACTIVE and server.host is None:
            raise InvalidState(f"Cannot 'os-resetState' instance {server_id} to active: it is on no host")
        if holder is not None:
            sagas.operator_verdict(tx, holder.id, state=State.ABANDONED, reason="the server's state was reset", now=now)
        told = Fault(500, "An administrator has set the state of the server to error.", now)
        servers.update(tx, server_id, now, vm_state=vm_state, task_state=None, fault=told if vm_state is VmState.ERROR else None)
    plane.runner.take_over()
