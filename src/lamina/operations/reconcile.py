"""Reconcile: compare what hosts report with what is recorded, and mend what a host has lost.

A reconciler takes no input: woken by a timer or a hint, it compares and mends. The comparison is `plan`, a pure
function; mending a server is a `restore` operation, so that it never works on a server that another operation holds.
What servers that were evacuated from a host have left there is not mended but cleared away, by a `clear_evacuated` each.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Mapping, Set

import sqlalchemy as sa
import structlog

from lamina.model import ids
from lamina.model.errors import AlreadyExists, Conflict, HostUnreachable, LaminaError, NotFound
from lamina.model.hosts import HostReport, PowerState
from lamina.model.servers import Migration, Server, VmState
from lamina.operations import auto_confirm, clear_evacuated, discovery, restore
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.store import hosts, sagas, servers
from lamina.store.hosts import Vgpu
from lamina.store.tables import vgpus

log = structlog.get_logger()

#: what a domain cannot be after a reboot of its host; one that was paused comes back running
_ON = (PowerState.RUNNING, PowerState.PAUSED)
#: hosts asked side by side
WORKERS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Repair:
    """One server that lacks something on a host, and what it is to come back to."""

    server_id: str
    params: restore.Params
    why: str


def plan(report: HostReport, records: Iterable[Vgpu], placed: Mapping[str, Server], busy: Set[str], *, rebooted: bool) -> list[Repair]:
    """The repairs that one host needs. Pure.

    `records` are the vGPUs recorded on the host, `placed` the servers (by id) that have their domain or a vGPU there,
    `busy` those that an operation holds or held while the report was made. A domain that somebody stopped on a host
    that did not reboot is left stopped.
    """
    there = {v.uuid for g in report.gpus for v in g.vgpus if v.ours}
    domains = {d.server_id: d for d in report.domains if d.server_id is not None}
    lacking: dict[str, str] = {}
    for record in records:
        if record.uuid not in there:
            lacking.setdefault(record.server_id, f"vGPU {record.uuid} is missing")
    for server in placed.values():
        if server.host != report.host or server.vm_state in (VmState.BUILDING, VmState.ERROR, VmState.DELETED):
            continue
        domain = domains.get(server.id)
        if domain is None:
            lacking.setdefault(server.id, "its domain is missing")
        elif rebooted and server.power_state in _ON and domain.power_state not in _ON:
            lacking.setdefault(server.id, "its domain is not running")
    repairs = []
    for server_id, why in sorted(lacking.items()):
        owner = placed.get(server_id)
        if owner is None or server_id in busy or owner.vm_state in (VmState.BUILDING, VmState.ERROR):
            continue
        running = owner.power_state in _ON if owner.host == report.host else None
        repairs.append(Repair(server_id, restore.Params(report.host, running), why))
    return repairs


def drift(report: HostReport, placed: Iterable[Server], left_out: Set[str]) -> dict[str, tuple[VmState, PowerState]]:
    """What servers are to say of themselves after somebody else's hand: a guest that shut down, a domain that was started. Pure.

    `left_out` are those that an operation or a repair works on. A domain that is paused or crashed tells so in its power
    state alone, as does that of a server that waits for confirm or revert (nova/compute/manager.py, _sync_instance_power_state).
    """
    domains = {d.server_id: d for d in report.domains if d.server_id is not None}
    found = {}
    for server in placed:
        domain = domains.get(server.id)
        resting = server.vm_state in (VmState.ACTIVE, VmState.STOPPED, VmState.RESIZED) and server.task_state is None
        if domain is None or not resting or server.host != report.host or server.id in left_out:
            continue
        vm_state = {PowerState.RUNNING: VmState.ACTIVE, PowerState.SHUTDOWN: VmState.STOPPED}.get(domain.power_state, server.vm_state)
        if server.vm_state is VmState.RESIZED:
            vm_state = VmState.RESIZED
        if (vm_state, domain.power_state) != (server.vm_state, server.power_state):
            found[server.id] = vm_state, domain.power_state
    return found


def host(plane: ControlPlane, name: str) -> list[Repair]:
    """Take one host's report in and begin the repairs it calls for. Raises `HostUnreachable`."""
    asked_at = plane.clock.now()
    report = plane.hosts.of(name).report()
    now = plane.clock.now()
    woken: list[str] = []
    with plane.db.write() as tx:
        before = discovery.record(tx, report, now)
        left = servers.evacuations(tx, from_host=name)
        records = hosts.select_vgpus(tx, vgpus.c.host == name, vgpus.c.consumer_id.not_in([migration.id for migration in left]))
        placed = {s.id: s for s in servers.on_host(tx, name)}
        for record in records:
            if record.server_id not in placed:
                try:
                    placed[record.server_id] = servers.get(tx, record.server_id)
                except NotFound:
                    log.error("a vGPU is recorded for a server that is gone", vgpu=record.uuid, server=record.server_id)
        unfinished = sagas.unfinished(tx)
        # a clearing gives way to what its server lacks elsewhere, and begins again with the next report of its host
        clearing = {s.subject for s in unfinished if s.kind == clear_evacuated.KIND.name}
        busy = {s.subject for s in unfinished if s.kind != clear_evacuated.KIND.name}
        busy |= {s.id for s in placed.values() if s.updated_at >= asked_at}
        repairs = plan(report, records, placed, busy, rebooted=before.boot_id != report.boot_id)
        for repair in repairs:
            server = placed[repair.server_id]
            caller = Caller(server.user_id, server.project_id, ids.new_request_id())
            try:
                interrupt = repair.server_id in clearing
                woken.append(restore.enlist(plane, tx, caller, repair.server_id, repair.params, interrupt=interrupt))
            except AlreadyExists:
                continue
            log.info("repair", host=name, server=repair.server_id, why=repair.why)
        left_out = busy | {repair.server_id for repair in repairs}
        for server_id, (vm_state, power_state) in drift(report, placed.values(), left_out).items():
            log.info("a domain was changed outside", host=name, server=server_id, power_state=power_state.name)
            servers.update(tx, server_id, now, vm_state=vm_state, power_state=power_state)
        woken += _clear(plane, tx, left)
        stuck = [s.id for s in sagas.unfinished(tx) if s.waits_for(name)]
    plane.runner.wake(*woken)
    for saga_id in stuck:
        log.info("operation resumed: its host answers again", host=name, operation=saga_id)
        with contextlib.suppress(Conflict):  # somebody was faster
            plane.runner.resume(saga_id)
    return repairs


def _clear(plane: ControlPlane, tx: sa.Connection, left: Iterable[Migration]) -> list[str]:
    """Begin to remove what is left on a host that answers; what cannot be begun now is left for its next report."""
    begun = []
    for migration in left:
        caller = Caller(migration.user_id, migration.project_id, ids.new_request_id())
        with contextlib.suppress(AlreadyExists):
            begun.append(clear_evacuated.enlist(plane, tx, caller, migration))
            log.info("evacuated meanwhile", host=migration.source_host, server=migration.server_id)
    return begun


class Reconciler:
    """Goes round all hosts at an interval, and to a host at once when it has something to tell.

    Hosts are asked side by side, so that a slow one holds up nobody but itself; one that is still being asked is not
    asked again.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pool = concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="reconcile")
        self._lock = threading.Lock()
        self._hinted: set[str] = set()
        self._asked: set[str] = set()
        self._silent: set[str] = set()

    def all_hosts(self) -> None:
        """One round; a host that does not answer is left for the next."""
        concurrent.futures.wait(self._round())

    def _round(self) -> list[concurrent.futures.Future[None]]:
        return [self._pool.submit(self._confirm), *self._ask(self._plane.hosts.names())]

    def _confirm(self) -> None:
        try:
            auto_confirm.overdue(self._plane)
        except Exception:
            log.exception("nothing confirmed in this round")

    def _ask(self, names: Iterable[str]) -> list[concurrent.futures.Future[None]]:
        asked = []
        for name in names:
            with self._lock:
                if name in self._asked:
                    continue
                self._asked.add(name)
            asked.append(self._pool.submit(self._host, name))
        return asked

    def _host(self, name: str) -> None:
        try:
            host(self._plane, name)
            self._silent.discard(name)
        except HostUnreachable as error:
            if name not in self._silent:  # told once, not in every round
                log.warning("host silent", host=name, why=error.message, **error.context)
            self._silent.add(name)
        except LaminaError as error:
            log.warning("host not reconciled", host=name, why=error.message, **error.context)
        except Exception:
            log.exception("host not reconciled", host=name)
        finally:
            with self._lock:
                self._asked.discard(name)
                if name in self._hinted:
                    self._news.set()

    def start(self) -> None:
        self.all_hosts()
        self._plane.hosts.on_change(self.wake)
        self._thread = threading.Thread(target=self._loop, name="reconcile", daemon=True)
        self._thread.start()

    def wake(self, name: str) -> None:
        """Go to this host at once."""
        with self._lock:
            self._hinted.add(name)
        self._news.set()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _loop(self) -> None:
        clock = self._plane.clock
        next_round = clock.now() + self._plane.settings.report_interval
        while not self._stopping.is_set():
            self._news.wait(max(0.0, next_round - clock.now()))
            self._news.clear()
            if self._stopping.is_set():
                return
            if clock.now() >= next_round:
                self._round()
                next_round = clock.now() + self._plane.settings.report_interval
            with self._lock:
                # one that is being asked now may have changed since it was: it is asked again afterwards
                hinted = self._hinted - self._asked
                self._hinted -= hinted
            self._ask(hinted)
