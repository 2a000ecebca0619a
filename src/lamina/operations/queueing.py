"""The queue: servers that asked to wait for room instead of ending in ERROR.

Theory. Waiting is a row, not a parked step: the creation that found no room has ended, undone, and the commit that ended it put
the server in the queue. The keeper takes no input: when anything changed in what is placed on, it looks at those who wait, in the order of
`lamina.model.queueing`, and has the creation begun anew of whoever fits, in the commit that takes him out of the queue. A
creation that is beaten to the room puts its server back where it was.
"""

from __future__ import annotations

import threading

import sqlalchemy as sa
import structlog

from lamina.model.audit import own
from lamina.model.audit import server as audited
from lamina.model.errors import CorruptRecord, LaminaError, NotFound, NoValidHost
from lamina.model.policies import PolicyName
from lamina.model.queueing import Waiting, in_order
from lamina.model.servers import Action, Fault, TaskState, VmState
from lamina.operations import create
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.scheduling import claim
from lamina.scheduling.filters import Wanted
from lamina.store import audit, hosts, queue, quotas, reading, servers, tree_changes

log = structlog.get_logger()

#: seconds between looks at whether anything has changed, and after which those who wait are looked at all the same
LOOK, ROUND = 0.5, 30.0
#: seconds that a creation which was begun is given to claim its room, and between looks at whether it has
CLAIM, GLANCE = 5.0, 0.02


def places(tx: sa.Connection) -> dict[str, tuple[int, Waiting]]:
    """Server id -> its place in the queue, from 1 on."""
    ordered = in_order(queue.all_waiting(tx), queue.served_at(tx))
    return {one.server_id: (place, one) for place, one in enumerate(ordered, 1)}


def look(plane: ControlPlane) -> str | None:
    """One look at all who wait: whose time is over ends in ERROR, and the first who fits is begun. Its id.

    Not more than one: for the next it is not known what is left until this one has claimed its room.
    """
    now = plane.clock.now()
    with plane.db.read() as tx:
        ordered = in_order(queue.all_waiting(tx), queue.served_at(tx))
        down = hosts.silent(tx, now - plane.settings.service_down)
    if not ordered:
        return None
    plane.index.refresh()
    begun = None
    for one in ordered:
        if one.expires_at <= now:
            _expire(plane, one, now)
            continue
        try:
            if begun is None and _begin_if_it_fits(plane, one, down, now):
                begun = one.server_id
        except CorruptRecord as error:  # of the one that waits, who goes on waiting
            reading.pass_over(error)
    return begun


def _begin_if_it_fits(plane: ControlPlane, one: Waiting, down: frozenset[str], now: float) -> bool:
    with plane.db.read() as tx:
        creation = queue.creation_of(tx, one.server_id, create.Params)
        if creation is None:
            return False
        params = creation[0]
        wanted = create.wanted(tx, one.server_id, params)
    owner = quotas.Owner(one.project_id, creation[1])
    reason = _why_not(plane, owner, wanted, params.flavor.policy or plane.settings.policy, down)
    if reason is not None:
        if reason != one.reason:
            with plane.db.write() as tx:
                queue.tell(tx, one.server_id, reason)
        return False
    with plane.db.write() as tx:
        row = queue.leave(tx, one.server_id)
        if row is None:  # deleted, or begun by another process
            return False
        queue.served(tx, one.project_id, now)
        servers.update(tx, one.server_id, now, task_state=TaskState.SCHEDULING)
        caller = Caller(row.user_id, row.project_id, row.request_id, row.global_request_id)
        saga_id = plane.runner.enlist(tx, create.KIND, one.server_id, params, caller, action=Action.CREATE)
        begun = own(now, "create/lamina:queue:begin", audited(one.server_id), request_id=row.request_id, operation_id=saga_id)
        audit.record(tx, begun)
    plane.runner.wake(saga_id)
    log.info("there is room for a server that waited", server=one.server_id, seconds=round(now - one.queued_at, 1))
    return True


def _why_not(plane: ControlPlane, owner: quotas.Owner, wanted: Wanted, policy: PolicyName, down: frozenset[str]) -> str | None:
    """Why there is no room, on the hosts or within its owner's limits; None where there is."""
    try:
        choice = plane.index.choose(wanted, policy, down)
    except NoValidHost as error:
        return error.message
    with plane.db.read() as tx:
        return quotas.why_not(tx, owner, claim.taken(choice))


def _expire(plane: ControlPlane, one: Waiting, now: float) -> None:
    message = f"{one.reason} It has waited {one.expires_at - one.queued_at:.0f} seconds for room."
    with plane.db.write() as tx:
        if queue.leave(tx, one.server_id) is not None:
            fault = Fault(NoValidHost.status, message, now, "step claimed")
            servers.update(tx, one.server_id, now, vm_state=VmState.ERROR, task_state=None, fault=fault)
            audit.record(tx, own(now, "update/lamina:queue:expire", audited(one.server_id), why=message))


class QueueKeeper:
    """Looks whenever something changed that servers are placed on."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="queue", daemon=True)
        self._seen = -1
        self._looked_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stopping.wait(LOOK):
            try:
                self.look_if_needed()
            except LaminaError as error:
                log.warning("the queue was not looked at", why=error.message, **error.context)
            except Exception:
                log.exception("the queue was not looked at")

    def look_if_needed(self) -> None:
        now = self._plane.clock.now()
        with self._plane.db.read() as tx:
            waiting = queue.all_waiting(tx)
            number = tree_changes.newest(tx)
        expired = any(one.expires_at <= now for one in waiting)
        if waiting and (expired or number != self._seen or now >= self._looked_at + ROUND):
            self._seen, self._looked_at = number, now
            while (begun := look(self._plane)) is not None and not self._stopping.is_set():
                self._await_claim(begun)

    def _await_claim(self, server_id: str) -> None:
        end = self._plane.clock.now() + CLAIM
        while self._plane.clock.now() < end and not self._stopping.wait(GLANCE):
            with self._plane.db.read() as tx:
                try:
                    if servers.get(tx, server_id).task_state is not TaskState.SCHEDULING:
                        return
                except NotFound:
                    return
