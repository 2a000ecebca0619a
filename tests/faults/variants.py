"""Lamina with one protection taken away, again and again: the simulator must notice each, or it proves nothing.

``python -m tests.faults.variants`` runs schedules on every variant until a promise breaks, and fails where none does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from lamina.agent.compute import ComputeService
from lamina.agent.journal import Journal
from lamina.model import ids
from lamina.model.hosts import Call, Landing
from lamina.operations import (
    clear_evacuated,
    comparison,
    confirm,
    create,
    delete,
    evacuate,
    live_migrate,
    power,
    reconcile,
    resize,
    restore,
    revert,
    steps_on_hosts,
)
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.saga import recovery, runner
from lamina.saga.log import Event as Line
from lamina.saga.log import State
from lamina.saga.steps import Effect, Kind
from lamina.scheduling import claim
from lamina.store import allocations, hosts, servers
from tests.faults.simulator.__main__ import quiet, stage
from tests.faults.simulator.choosers import CHOOSERS
from tests.faults.simulator.scene import Scene, processors
from tests.faults.simulator.schedule import BEGINNINGS, Event, beginning, run
from tests.faults.world import FRAMEWORKS, replaced, with_step

#: schedules after which a variant counts as not caught
PATIENCE = 600

Kinds = tuple[Kind[ControlPlane, Any], ...]


@dataclasses.dataclass(frozen=True)
class Variant:
    """``broken`` takes the protection away for as long as its context lasts; ``kinds`` are the operations as they are then.

    ``known`` is the number of a schedule (`schedules`) that once caught it, and is tried first. Where it does not any more, the
    search goes on from the first one; that is told, because it takes long.
    """

    name: str
    broken: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    kinds: Callable[[], Kinds] = lambda: KINDS
    known: int = 0


def _nothing(*_given: Any, **_named: Any) -> None:
    return None


def _without(owner: Any, name: str, instead: Any = _nothing) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: mock.patch.object(owner, name, instead)


def _step(kind: Kind[ControlPlane, Any], name: str, **changes: Any) -> Callable[[], Kinds]:
    return lambda: replaced(with_step(kind, name, **changes))


# ------------------------------------------------------------------------------------------------ what is done instead


def _forget_first(self: ComputeService, call: Call, server_id: str, uuids: Sequence[str]) -> None:
    with self._turns.of(server_id), self._lock, self._journal.call(call, server_id, self._clock.now()):
        records = dict(self._journal.records())
        mine = [uuid for uuid in uuids if uuid in records and records[uuid].server_id == server_id]
        self._journal.forget(mine)
        for uuid in mine:
            self._must_be_free(records[uuid])
            self._remove(records[uuid])


@contextlib.contextmanager
def _journalled_late() -> Iterator[None]:
    put = Journal.put

    def make_first(self: ComputeService, gpus: Any, planned: Any, make: Any = ComputeService._make) -> None:
        make(self, gpus, planned)
        put(self._journal, planned)

    with mock.patch.object(Journal, "put", _nothing), mock.patch.object(ComputeService, "_make", make_first):
        yield


@contextlib.contextmanager
def _any_fence(self: Journal, call: Call, server_id: str, now: float) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _unwritten_forgotten(self: Journal, call: Call, server_id: str, now: float) -> Iterator[None]:
    self._pending.clear()
    with _ADMITTED(self, call, server_id, now):
        yield


def _take_back_by_word(self: ComputeService, planned: Any, touched: Any) -> None:
    self._journal.forget([record.uuid for record in planned])


def _logged_first(self: Any, step: Effect[Any, Any, Any]) -> bool:
    if step.then is not None or step.name == self._row.steps[-1]:
        return _EFFECT(self, step)  # its line needs what it learnt
    with self._runner._db.write() as tx:
        ended = self._log(tx, step.name, Line.DONE, last=False)
    self._runner._probe.at("before-do", self._row.id, step.name)
    step.do(self._work)
    return bool(ended)


_ADMITTED = Journal.call
_EFFECT = runner._Turn._effect
_PLAN = recovery.plan


def _forgets_unwinding(found: Any, **given: Any) -> recovery.Plan:
    return _PLAN([f for f in found if f.state is not State.UNWINDING], **given)


def _without_vgpus(work: Any, step: str, host: str, flavor: Any, consumer_id: str, *, running: bool) -> Any:
    records = steps_on_hosts.vgpus_of(work, consumer_id)
    return steps_on_hosts.Outcome(steps_on_hosts.ensure_domain(work, step, host, flavor, records, running=running))


def _another_each_time(work: Any, step: str, host: str, records: Any, ensure: Any = steps_on_hosts.ensure_vgpus) -> Any:
    return ensure(work, step, host, [dataclasses.replace(record, uuid=ids.new_uuid()) for record in records])


def _own_host_alone(work: Any) -> list[str]:
    server = steps_on_hosts.server_of(work)
    return [server.host] if server.host else []


def _claim_kept(work: Any, tx: Any, forget: Any = delete._forget) -> None:
    with mock.patch.object(servers, "unfinished_migrations", return_value=[]):
        forget(work, tx)


def _domain_alone(work: Any) -> None:
    if work.params.source != work.params.target:
        steps_on_hosts.remove_domain(work, "source_removed", work.params.source)


def _vgpus_alone(work: Any) -> None:
    records = steps_on_hosts.vgpus_of(work, work.params.migration_id)
    steps_on_hosts.release_vgpus(work, "source_removed", work.params.source, records)


def _unreleased(work: Any, tx: Any, confirmed: Any = confirm._confirm) -> None:
    with mock.patch.object(claim, "release", _nothing):
        confirmed(work, tx)


def _not_handed_back(work: Any, tx: Any, reverted: Any = revert._revert) -> None:
    with mock.patch.object(revert, "give_target_back", _nothing):
        reverted(work, tx)


def _leftover_domain_alone(work: Any) -> None:
    steps_on_hosts.remove_domain(work, "leftovers_removed", work.params.host)


def _leftover_vgpus_alone(work: Any) -> None:
    records = steps_on_hosts.vgpus_of(work, work.params.migration_id)
    steps_on_hosts.release_vgpus(work, "leftovers_removed", work.params.host, records)


def _disk_left(work: Any, move: Any = resize._move_disk) -> Any:
    if work.params.source == work.output(resize.CLAIMED).host:
        return None
    work.plane.hosts.of(work.params.source).send_disk(work.call("disk_moved"), work.subject)
    return None


def _asked_once(work: Any) -> None:
    """Sent to where it was awaited once, whatever has become of it since."""
    landing = Landing(work.output(live_migrate.CLAIMED).host, "", "")
    work.plane.hosts.of(work.params.source).send_domain(work.call("moved"), work.subject, landing)


def _quiet_end(_work: Any, _tx: Any, _error: Any) -> None:
    return None


def _silent_end(kind: Kind[ControlPlane, Any]) -> Callable[[], Kinds]:
    return lambda: replaced(dataclasses.replace(kind, undone=_quiet_end))


def _source_left_running(work: Any) -> Any:
    report = work.plane.hosts.of(work.params.source).report()
    return next(domain for domain in report.domains if domain.server_id == work.subject)


VARIANTS: tuple[Variant, ...] = (
    Variant("a claim takes no allocation", _without(allocations, "replace"), known=2),
    Variant("a claim writes no intent down", _without(hosts, "insert_vgpus")),
    Variant("the inventory does not follow the layout", _without(claim, "follow_layout"), known=18),
    Variant("a release keeps the allocation", _without(allocations, "remove")),
    Variant("a release forgets no vGPU", _without(hosts, "delete_vgpus"), known=2),
    Variant("the journal is written after the device is made", _journalled_late, known=2),
    Variant("the journal forgets before the device is gone", _without(ComputeService, "release_vgpus", _forget_first), known=26),
    Variant("the journal lets a stale fence pass", _without(Journal, "call", _any_fence), known=190),
    Variant("a fence that could not be written is forgotten", _without(Journal, "call", _unwritten_forgotten), known=102),
    Variant("a failed call is taken back in the journal alone", _without(ComputeService, "_take_back", _take_back_by_word), known=20),
    Variant("whatever stands where the journal says is ours", _without(ComputeService, "_is", lambda *_: True), known=82),
    Variant("a domain starts on whatever is where its vGPU was", _without(ComputeService, "_must_not_be_anothers"), known=103),
    Variant("a domain is sent to where it was awaited before the host booted", _without(live_migrate, "_send", _asked_once), known=104),
    Variant("a retry makes another vGPU", _without(steps_on_hosts, "ensure_vgpus", _another_each_time)),
    Variant("a step is logged before its effect", _without(runner._Turn, "_effect", _logged_first), known=51),
    Variant("recovery forgets what unwinds", _without(recovery, "plan", _forgets_unwinding), known=6),
    Variant("an undo of create leaves the claim", kinds=_step(create.KIND, "claimed", undo=None), known=140),
    Variant("an undo of create leaves the vGPUs", kinds=_step(create.KIND, "vgpus_present", undo=None), known=24),
    Variant("an undo of create leaves the domain", kinds=_step(create.KIND, "domain_running", undo=None), known=139),
    Variant("create does not record where its vGPUs are", kinds=_step(create.KIND, "vgpus_present", then=None)),
    Variant("create ends without a word", kinds=_silent_end(create.KIND), known=24),
    Variant("an undo of resize leaves the claim", kinds=_step(resize.KIND, "claimed", undo=None), known=31),
    Variant("an undo of resize leaves the target's vGPUs", kinds=_step(resize.KIND, "target_vgpus_present", undo=None), known=32),
    Variant("an undo of resize leaves the source off", kinds=_step(resize.KIND, "source_stopped", undo=None, undone=None), known=32),
    Variant("resize leaves the source running", kinds=_step(resize.KIND, "source_stopped", do=_source_left_running), known=30),
    Variant("resize leaves the disk behind", kinds=_step(resize.KIND, "disk_moved", do=_disk_left), known=30),
    Variant("resize ends without a word", kinds=_silent_end(resize.KIND), known=15),
    Variant("the way back does without the vGPUs", _without(steps_on_hosts, "bring_back", _without_vgpus), known=20),
    Variant("confirm leaves the source's vGPUs", kinds=_step(confirm.KIND, "source_removed", do=_domain_alone), known=153),
    Variant("confirm leaves the source's domain", kinds=_step(confirm.KIND, "source_removed", do=_vgpus_alone), known=153),
    Variant("confirm goes on paying for the source", kinds=_step(confirm.KIND, "confirmed", do=_unreleased), known=153),
    Variant("revert leaves the target's vGPUs", kinds=_step(revert.KIND, "target_vgpus_removed", do=_nothing), known=30),
    Variant("revert leaves the target running", kinds=_step(revert.KIND, "target_stopped", do=_nothing), known=30),
    Variant("revert hands nothing back", kinds=_step(revert.KIND, "reverted", do=_not_handed_back), known=30),
    Variant("evacuate leaves the source running", kinds=_step(evacuate.KIND, "source_off", do=lambda _work: True), known=54),
    Variant("an undo of evacuate leaves the claim", kinds=_step(evacuate.KIND, "claimed", undo=None), known=46),
    Variant("an undo of evacuate leaves the target's vGPUs", kinds=_step(evacuate.KIND, "target_vgpus_present", undo=None), known=47),
    Variant("an undo of evacuate leaves the target's domain", kinds=_step(evacuate.KIND, "target_defined", undo=None), known=50),
    Variant("evacuate ends without a word", kinds=_silent_end(evacuate.KIND), known=19),
    Variant("nobody clears what was evacuated", _without(reconcile, "_clear_evacuated"), known=110),
    Variant("what was evacuated is restored", _without(servers, "evacuations", lambda *_, **__: []), known=54),
    Variant("a clearing leaves the vGPUs", kinds=_step(clear_evacuated.KIND, "leftovers_removed", do=_leftover_domain_alone), known=55),
    Variant("a clearing leaves the domain", kinds=_step(clear_evacuated.KIND, "leftovers_removed", do=_leftover_vgpus_alone), known=55),
    Variant("delete looks at the server's own host alone", _without(delete, "_places", _own_host_alone), known=43),
    Variant("delete forgets the migration's side", kinds=_step(delete.KIND, "forgotten", do=_claim_kept), known=43),
    Variant("delete touches no host", kinds=_step(delete.KIND, "removed_from_hosts", do=_nothing)),
    Variant("power records nothing", kinds=_step(power.KIND, "power_set", then=None), known=11),
    Variant("power ends without a word", kinds=_silent_end(power.KIND), known=11),
    Variant("restore makes no vGPUs", kinds=_step(restore.KIND, "vgpus_present", do=lambda _work: ()), known=6),
    Variant("nobody repairs what a host has lost", _without(comparison, "lacking", lambda *_: []), known=3),
    Variant("what is left over stays", _without(comparison, "removable", lambda _: ((), ())), known=19),
    Variant("nobody notices what a guest does", _without(comparison, "drift", lambda *_: {}), known=108),
)


def corners() -> Iterator[tuple[int, list[Event]]]:
    """Schedules for what chance seldom meets.

    A migration or an evacuation, after each of its moves, meets a deletion or a refusal; after a reboot somebody else is where a
    server's vGPU was, and the server is deleted or rebooted then, or comes there alive; a call comes to a host that could not write
    down that it has heard a newer one.
    """
    asks = [chooser for chooser in CHOOSERS for _ in range(chooser.weight)]
    migrate = next(n for n, chooser in enumerate(asks) if chooser.kind == "resize" and chooser.weight == 1)
    deletion = next(n for n, chooser in enumerate(asks) if chooser.kind == "delete")
    revert_it = next(n for n, chooser in enumerate(asks) if chooser.kind == "revert")
    evacuation = next(n for n, chooser in enumerate(asks) if chooser.kind == "evacuate")
    live = next(n for n, chooser in enumerate(asks) if chooser.kind == "live_migrate")
    soft_reboot = next(n for n, chooser in enumerate(asks) if chooser.kind == "power") + 2 * len(asks)
    snapshot = next(n for n, chooser in enumerate(asks) if chooser.kind == "snapshot")
    for seed in (2, 3):
        yield seed, [Event("ask", migrate), Event("run", 0, 9), Event("ask", revert_it), Event("run", 0, 9)]
        for moves in range(1, 6):
            moved = [Event("ask", migrate), *[Event("move", 0)] * moves]
            yield seed, [*moved, Event("ask", deletion), *[Event("run", 0, 9)] * 2]
            yield seed, [*moved, *[Event("hypervisor refuses", 0, 2)], *[Event("run", 0, 9)] * 2]
            yield seed, [*moved, *[Event("hypervisor refuses", 0, 1)], *[Event("run", 0, 9)] * 2]
        for moves in range(1, 6):  # out of a host that answers
            left = [Event("ask", evacuation), *[Event("move", 0)] * moves]
            yield seed, [*left, Event("ask", deletion), *[Event("run", 0, 9)] * 2]
            yield seed, [*left, Event("hypervisor refuses", 0, 1), *[Event("run", 0, 9)] * 2]
    for place in range(20):
        lost = [Event("reboot", place, 2), Event("foreign", place, place // 10)]
        yield 3, [*lost, Event("ask", deletion), Event("run", 0, 9), Event("ask", deletion), Event("run", 0, 9)]
    yield 2, [Event("ask", snapshot), Event("overtaken", 2), Event("journal full", 0), Event("move", 0)]
    yield 3, [Event("reboot", 5, 2), Event("foreign", 5, 0), Event("ask", soft_reboot, 1), Event("run", 0, 9)]
    yield 3, [Event("ask", live), *[Event("move", 0)] * 3, Event("reboot", 2, 2), Event("foreign", 2, 0), Event("run", 0, 9)]


def schedules(patience: int) -> list[tuple[int, list[Event] | None]]:
    """Each a seed, and the events in place of those that are drawn from it. A schedule's number is its place here."""
    drawn = [(seed, None) for seed in range(patience)]
    return [*drawn[:30], *corners(), *drawn[30:]]


@dataclasses.dataclass(frozen=True)
class Caught:
    """The number of the schedule that broke a promise, and the promise."""

    schedule: int
    violation: str


def caught(variant: Variant, patience: int = PATIENCE) -> Caught | None:
    """By the schedule that is known to, or by the first that does; None where none does."""
    for seed in range(len(FRAMEWORKS) * len(BEGINNINGS)):
        Scene(stage(), *beginning(seed))  # made by Lamina as it is, and kept
    with variant.broken():
        kinds, order = variant.kinds(), schedules(patience)
        for number in dict.fromkeys([variant.known, *range(len(order))]):
            seed, events = order[number]
            violation = run(stage(), seed, events, kinds).violation
            if violation is not None:
                return Caught(number, violation)
    return None


def by_number(number: int) -> tuple[int, Caught | None]:
    return number, caught(VARIANTS[number])


def main() -> int:
    quiet()
    missed, began = [], time.monotonic()
    with multiprocessing.Pool(processors(), quiet) as pool:
        for number, found in pool.imap(by_number, range(len(VARIANTS)), chunksize=1):
            variant = VARIANTS[number]
            if found is None:
                missed.append(variant.name)
                print(f"NOT CAUGHT: {variant.name}", flush=True)
            else:
                late = "" if found.schedule == variant.known else f" (not by {variant.known}, which is known for it)"
                print(f"caught by schedule {found.schedule:>3}{late}: {variant.name}: {found.violation[:100].splitlines()[0]}", flush=True)
        pool.close()
        pool.join()
    print(f"{len(VARIANTS) - len(missed)} of {len(VARIANTS)} broken variants caught in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
