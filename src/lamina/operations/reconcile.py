"""Reconcile: look at a host, or at what is held on none, compare it with the records, and mend what is out of order.

A reconciler takes no input: woken by a timer, a hint or a person, it compares and mends. What there is to do is
decided by `comparison`, purely. Carried out here is what the database alone needs, in the transaction that has read it; whatever
touches a host is an operation that this transaction enlists, `restore`, `clear` or `clear_evacuated`, so that it never works on a
server that another operation holds and survives this process. All that was done is in the table of repairs.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
import structlog

from lamina.model import ids
from lamina.model.errors import AlreadyExists, Conflict, LaminaError
from lamina.model.gpus import VgpuState
from lamina.model.hosts import HostReport, PowerState
from lamina.model.repairs import REBOOTED, Key, Repair, What
from lamina.model.servers import Migration, Server, VmState
from lamina.operations import clear, clear_evacuated, comparison, discovery, restore
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.comparison import Leftover, Plan, View
from lamina.operations.control_plane import ControlPlane
from lamina.operations.counts import REPAIRS
from lamina.saga.runner import Caller
from lamina.store import audit, damage, hosts, reading, repairs, sagas, servers, stale_consumers
from lamina.store.hosts import Host
from lamina.store.stale_consumers import StaleConsumer

log = structlog.get_logger()

#: they give way to what their server lacks elsewhere, and begin again with the next look at their host
_CLEARINGS = frozenset({clear.KIND.name, clear_evacuated.KIND.name})
#: seconds that repairs are remembered
KEEP = 90 * 86400.0
#: hosts asked side by side when somebody asks for a look at all
WORKERS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What one look found: what was done, or would be, and what is looked at once more before it is removed."""

    repairs: tuple[Repair, ...] = ()
    waiting: tuple[Repair, ...] = ()

    @property
    def begun(self) -> bool:
        """Whether operations were begun on a host."""
        return any(repair.operation_id is not None for repair in self.repairs)


# ---------------------------------------------------------------------------------------------------- a host


def host(plane: ControlPlane, name: str, *, mend: bool = True) -> Look:
    """Take one host's report in and mend what it calls for; without `mend` nothing is changed.

    Raises `HostUnreachable`, `ConcurrentUpdate`, and `CorruptRecord` where what is recorded of the host itself is damaged.
    """
    asked_at = plane.clock.now()
    report = plane.hosts.of(name).report()
    if not mend:
        with plane.db.read() as tx:
            behind = report.epoch > sagas.newest_epoch(tx)
            view = _view(plane, tx, report, hosts.find_host(tx, name), asked_at, behind=behind)
            plan = comparison.plan(view)
            return Look(tuple(_foreseen(view, plan)), tuple(r for one in plan.waiting for r in _removals(name, one)))
    work = _Mending(plane)
    with plane.db.write() as tx, reading.gathered() as damaged:
        before = hosts.find_host(tx, name, lock=True)
        if comparison.is_older(report, before, asked_at):
            log.info("a report came too late", host=name, sequence=report.sequence)
            return Look()
        now = plane.clock.now()
        known = discovery.record(tx, report, before, now, heard_by=plane.runner.me)
        behind = _note_epoch(tx, report, known)
        # what the report itself has changed in the record is no news to the comparison
        view = _view(plane, tx, report, before, asked_at, behind=behind)
        plan = comparison.plan(view)
        left = work.carry_out(tx, view, plan)
        _clear_evacuated(work, tx, name, servers.evacuations(tx, from_host=name))
        repairs.see(tx, name, now, before=view.sightings, after=plan.sightings | left)
        stuck = sagas.waiting_for(tx, name)
        if damaged:
            hosts.update_host(tx, name, problems=[*report.problems, *dict.fromkeys(error.message for error in damaged)])
    work.tell()
    for saga in stuck:
        log.info("operation resumed: its host answers again", host=name, operation=saga.id)
        with contextlib.suppress(Conflict):  # somebody was faster
            plane.runner.resume(saga.id)
    return Look(tuple(work.done), tuple(r for one in plan.waiting for r in _removals(name, one)))


def _view(plane: ControlPlane, tx: sa.Connection, report: HostReport, before: Host | None, asked_at: float, *, behind: bool) -> View:
    name = report.host
    records = hosts.readable_vgpus_on(tx, name)
    named = {record.server_id for record in records}
    named |= {d.server_id for d in report.domains if d.server_id is not None}
    ours = (v for v in (*(v for g in report.gpus for v in g.vgpus), *report.lost) if v.ours)
    named |= {v.server_id for v in ours if v.server_id is not None}
    placed = {server.id: server for server in servers.readable_on(tx, name)}
    found = placed | servers.readable(tx, named - placed.keys())
    # another control plane's clock may be behind
    unsure_since = asked_at - (0.0 if plane.db.is_sqlite else comparison.SKEW)
    moving, left = servers.moving(tx, name), servers.evacuations(tx, from_host=name)
    held = sagas.kinds_of(tx, {*named, *placed, *moving.values(), *(migration.server_id for migration in left)})
    clearing = {subject for subject, kind in held if kind in _CLEARINGS}
    busy = {subject for subject, kind in held if kind not in _CLEARINGS} | {s.id for s in found.values() if s.updated_at >= unsure_since}
    view = View(
        report=report,
        before=before,
        records=records,
        servers=found,
        moving=moving,
        evacuated={migration.id: migration.server_id for migration in left},
        busy=busy,
        clearing=clearing,
        sightings=repairs.seen(tx, name),
        asked_at=asked_at,
        now=plane.clock.now(),
        grace=plane.settings.orphan_grace,
        behind=behind or (before is not None and before.behind),
    )
    orphans = {one.server_id for one in comparison.leftovers(view)}
    return dataclasses.replace(view, busy=view.busy | damage.of_servers(tx, orphans)) if orphans else view


def _note_epoch(tx: sa.Connection, report: HostReport, known: Host) -> bool:
    """Whether the host is ahead of this database: it has admitted calls that nobody here has made.

    Calls made from now on are newer than those.
    """
    if sagas.raise_epoch(tx, report.epoch) and not known.behind:
        log.error("the host knows more than the database, of which an older copy was put back: nothing is removed there", host=report.host)
        hosts.update_host(tx, report.host, behind=True)
        return True
    return False


def _clear_evacuated(work: _Mending, tx: sa.Connection, name: str, left: Iterable[Migration]) -> None:
    """Begin to remove what is left on a host that answers; what cannot be begun now is left for its next report."""
    for migration in left:
        caller = Caller(migration.user_id, migration.project_id, ids.new_request_id())
        with contextlib.suppress(AlreadyExists):
            saga_id = clear_evacuated.enlist(work.plane, tx, caller, migration)
            work.note(tx, dataclasses.replace(_evacuated(name, migration.server_id), operation_id=saga_id))


# ---------------------------------------------------------------------------------------------------- what is on no host


@dataclasses.dataclass(frozen=True, slots=True)
class _Idle:
    """What nobody should hold any more, and how it is cleared."""

    repair: Repair
    server_id: str
    params: clear.Params

    @property
    def key(self) -> Key:
        return str(self.repair.what), self.repair.object


def idle(plane: ControlPlane, *, mend: bool = True) -> Look:
    """Look for allocations that nobody should hold (`lamina.store.stale_consumers`) and disks that nobody passes on, and clear them."""
    disks = _in_depot(plane)
    with plane.db.read() as tx:
        # most looks find nothing and have no need to write
        if not mend or not (disks or stale_consumers.find(tx) or repairs.seen(tx, "")):
            ripe, waiting, _ = _sorted_out(plane, tx, disks)
            return Look(tuple(one.repair for one in ripe), tuple(one.repair for one in waiting))
    work = _Mending(plane)
    with plane.db.write() as tx:
        ripe, waiting, before = _sorted_out(plane, tx, disks)
        known = servers.readable(tx, [one.server_id for one in ripe])
        left = {
            one.key for one in ripe if not work.begin_clearing(tx, one.server_id, known.get(one.server_id), one.params, [one.repair])
        }
        repairs.see(tx, "", plane.clock.now(), before=before, after=left | {one.key for one in waiting})
    work.tell()
    return Look(tuple(work.done), tuple(one.repair for one in waiting))


def _in_depot(plane: ControlPlane) -> list[str]:
    """The servers whose disks lie in the depot."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in plane.settings.depot.iterdir() if ids.is_uuid(path.name))
    return []


def _sorted_out(plane: ControlPlane, tx: sa.Connection, disks: Iterable[str]) -> tuple[list[_Idle], list[_Idle], dict[Key, float]]:
    """What is ripe to be cleared, what is not yet, and what was seen the last time.

    `disks` were looked for before: an operation that has passed its disk on meanwhile is over by now.
    """
    now, grace = plane.clock.now(), plane.settings.orphan_grace
    before = repairs.seen(tx, "")
    busy = {s.subject for s in sagas.unfinished(tx)}
    down = hosts.silent(tx, now - plane.settings.service_down)
    found = [_stale(one) for one in comparison.releasable(stale_consumers.find(tx), busy, down)]
    found += [_forgotten(server_id) for server_id in disks if server_id not in busy]
    damaged = damage.of_servers(tx, {one.server_id for one in found})
    found = [one for one in found if one.server_id not in damaged]
    ripe = [one for one in found if comparison.is_ripe(before, one.key, now, grace)]
    return ripe, [one for one in found if one not in ripe], before


def _stale(one: StaleConsumer) -> _Idle:
    repair = Repair(What.ALLOCATION, None, one.consumer_id, one.server_id, one.why)
    return _Idle(repair, one.server_id, clear.Params(consumer_id=one.consumer_id))


def _forgotten(server_id: str) -> _Idle:
    repair = Repair(What.ORPHAN_DISK, None, server_id, server_id, "no operation passes this disk on")
    return _Idle(repair, server_id, clear.Params(depot=True))


# ---------------------------------------------------------------------------------------------------- all of it


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """What a look at everything found. `silent` are hosts that did not answer, or could not be compared now."""

    looks: tuple[Look, ...]
    silent: tuple[str, ...]


def everything(plane: ControlPlane, names: list[str] | None = None, *, mend: bool) -> Survey:
    """Look at these hosts now, or at all and at what is on no host; without `mend` nothing is changed."""
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="look") as pool:
        asked = {name: pool.submit(host, plane, name, mend=mend) for name in names or plane.hosts.names()}
    looks, silent = [], []
    for name, answer in asked.items():
        try:
            looks.append(answer.result())
        except LaminaError as error:
            log.warning("host not reconciled", host=name, why=error.message, **error.context)
            silent.append(name)
    if names is None:
        looks.append(idle(plane, mend=mend))
    return Survey(tuple(looks), tuple(silent))


def trust(plane: ControlPlane, name: str) -> None:
    """An operator's word that the database is true about a host that knew more: what is left over there is removed again."""
    with plane.db.write() as tx:
        hosts.update_host(tx, name, behind=False)


# ---------------------------------------------------------------------------------------------------- carrying it out


def _removals(name: str, one: Leftover) -> Iterator[Repair]:
    for uuid in one.vgpus:
        yield Repair(What.ORPHAN_VGPU, name, uuid, one.server_id, one.why)
    if one.domain:
        yield Repair(What.ORPHAN_DOMAIN, name, one.server_id, one.server_id, one.why)


def _changed(name: str, server: Server, vm_state: VmState, power_state: PowerState) -> Repair:
    why = f"its domain is {power_state.name.lower()}"
    if vm_state is not server.vm_state:
        why += f", so it is {vm_state} and not {server.vm_state}"
    return Repair(What.POWER_STATE, name, server.id, server.id, why)


def _evacuated(name: str, server_id: str) -> Repair:
    return Repair(What.EVACUATED, name, server_id, server_id, "it was evacuated meanwhile")


def _foreseen(view: View, plan: Plan) -> Iterator[Repair]:
    """What the plan would have done."""
    name = view.report.host
    for lack in plan.lacks:
        yield Repair(What.RESTORE, name, lack.server_id, lack.server_id, lack.why)
    for server_id, (vm_state, power_state) in plan.told.items():
        yield _changed(name, view.servers[server_id], vm_state, power_state)
    for one in plan.removals:
        yield from _removals(name, one)
    for server_id in view.evacuated.values():
        yield _evacuated(name, server_id)


class _Mending:
    """One transaction's repairs; `tell` after its commit."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.done: list[Repair] = []

    def carry_out(self, tx: sa.Connection, view: View, plan: Plan) -> frozenset[Key]:
        """Carry a plan out. Returns what of it is left to the next look, because an operation was faster.

        Raises `ConcurrentUpdate` where a server has changed since the plan was made; then the next look makes another.
        """
        name = view.report.host
        left: set[Key] = set()
        owed = comparison.starts_owed(view)
        for lack in plan.lacks:
            # where others write meanwhile, what was read of it may be from before the operation that has just ended
            servers.hold(tx, lack.server_id, expected=view.servers[lack.server_id].generation)
            try:
                interrupt, caller = lack.server_id in view.clearing, _caller(view.servers[lack.server_id])
                saga_id = restore.enlist(self.plane, tx, caller, lack.server_id, lack.params, interrupt=interrupt)
            except AlreadyExists:
                left |= {(REBOOTED, lack.server_id)} if lack.server_id in owed else set()
                continue
            self.note(tx, Repair(What.RESTORE, name, lack.server_id, lack.server_id, lack.why, saga_id))
        for server_id, made in plan.returned.items():
            servers.hold(tx, server_id, expected=view.servers[server_id].generation)
            on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)
        for server_id, (vm_state, power_state) in plan.told.items():
            server = view.servers[server_id]
            # an operation that has just begun on it knows better
            servers.update(tx, server_id, view.now, expected=server.generation, vm_state=vm_state, power_state=power_state)
            if VmState.SUSPENDED in (vm_state, server.vm_state) and vm_state is not server.vm_state:
                held = VgpuState.PRESENT if vm_state is VmState.SUSPENDED else VgpuState.ATTACHED
                hosts.set_vgpus_state(tx, server_id, server_id, held)
            self.note(tx, _changed(name, server, vm_state, power_state))
        for one in plan.removals:
            params = clear.Params(name, one.vgpus, one.domain)
            if not self.begin_clearing(tx, one.server_id, view.servers.get(one.server_id), params, list(_removals(name, one))):
                left |= one.keys
        return frozenset(left)

    def begin_clearing(
        self, tx: sa.Connection, server_id: str, server: Server | None, params: clear.Params, found: list[Repair]
    ) -> bool:
        """Whether it was begun; not where another operation on the server has just begun."""
        try:
            saga_id = clear.enlist(self.plane, tx, _caller(server), server_id, params)
        except AlreadyExists:
            return False
        for repair in found:
            self.note(tx, dataclasses.replace(repair, operation_id=saga_id))
        return True

    def note(self, tx: sa.Connection, repair: Repair) -> None:
        now = self.plane.clock.now()
        repairs.forget(tx, now - KEEP)
        repairs.note(tx, repair, now)
        audit.record(tx, repair.event(now))
        self.done.append(repair)

    def tell(self) -> None:
        for one in self.done:
            REPAIRS.labels(str(one.what)).inc()
            log.info("repair", what=str(one.what), host=one.host, object=one.object, server=one.server_id, why=one.why)
        self.plane.runner.wake(*dict.fromkeys(one.operation_id for one in self.done if one.operation_id is not None))


def _caller(server: Server | None) -> Caller:
    """On whose behalf; nobody's, where the server is not known."""
    return Caller(server.user_id if server else "", server.project_id if server else "", ids.new_request_id())
