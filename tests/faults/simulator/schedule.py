"""Schedules: events drawn from a seed, each of which means something whatever happened before, so that any may be left out."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import random
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from lamina.agent.simulated.machine import MachineDevice
from lamina.model.errors import HypervisorError, LaminaError
from lamina.model.gpus import Framework
from lamina.model.hosts import PowerAction, PowerState
from lamina.operations import power, reconcile
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.saga.log import State
from lamina.saga.steps import Kind
from lamina.store.servers import SERVERS
from lamina.store.tables.compute import servers
from tests.faults.simulator import promises
from tests.faults.simulator.choosers import CHOOSERS
from tests.faults.simulator.scene import ATTACHED, SHELVED, Scene, Servers, Stage, seeded
from tests.faults.simulator.trouble import AgentDied
from tests.faults.world import CALLER, FRAMEWORKS, ONE, TWO, Killed

ERRNOS = (errno.EINVAL, errno.EBUSY, errno.ENOSPC, errno.ENODEV, errno.EIO, errno.EACCES, errno.EINTR, errno.ETIMEDOUT)
_WRITES = frozenset({"write-before", "write-after"})
#: what a move tells that moved no operation
NOTHING = "nothing to move"
_ALIVE = sa.select(servers).where(servers.c.deleted_at.is_(None)).order_by(servers.c.created_at, servers.c.seq.desc())
#: broken, and nothing is being done about it
_LYING = """
    SELECT id FROM servers WHERE vm_state = 'error' AND host IS NOT NULL AND task_state IS NULL ORDER BY created_at DESC, seq DESC
"""
_AT_WORK = _WRITES | {"journal-before", "journal-after", "domain-before", "domain-after"}


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """``draw`` and ``nth`` are numbers whose meaning the event's kind says."""

    what: str
    draw: int
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.what} {self.draw} {self.nth}"


#: what happens -> how often
EVENTS: dict[str, int] = {
    "ask": 30,
    "move": 34,
    "run": 10,
    "kill": 6,
    "kill at work": 4,
    "agent dies": 5,
    "errno": 6,
    "journal full": 2,
    "hypervisor refuses": 3,
    "lost request": 2,
    "lost answer": 3,
    "doubled": 3,
    "late": 3,
    "comes late": 3,
    "overtaken": 4,
    "taken over": 2,
    "cut": 2,
    "mended": 3,
    "reboot": 2,
    "look": 4,
    "foreign": 2,
    "guest shuts down": 1,
    "resume": 1,
    "time": 1,
}


def draw(seed: int) -> list[Event]:
    """The events of a seed."""
    numbers = random.Random(seed)  # noqa: S311 - a schedule, no secret
    names, weights = list(EVENTS), list(EVENTS.values())
    count = numbers.randint(12, 25)
    return [Event(what, numbers.randrange(1 << 16), numbers.randint(1, 9)) for what in numbers.choices(names, weights, k=count)]


#: what stands when a schedule begins
BEGINNINGS: tuple[Servers, ...] = (
    (),
    ((TWO,), (ONE,)),
    ((ONE,), (TWO,), (TWO,)),
    ((TWO, ONE), (ONE,)),
    ((TWO, SHELVED), (ONE,)),
    ((ONE, ATTACHED), (TWO,)),
)


def beginning(seed: int) -> tuple[str, Servers]:
    """The kind of cards of a seed's hosts, and the servers that run on them."""
    return FRAMEWORKS[seed % len(FRAMEWORKS)], BEGINNINGS[seed // len(FRAMEWORKS) % len(BEGINNINGS)]


@dataclasses.dataclass
class Outcome:
    """How one schedule went."""

    seed: int
    events: list[Event]
    trace: list[str]
    violation: str | None
    struck: dict[str, int]
    passed: dict[str, int]
    ended: dict[str, int]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def run(stage: Stage, seed: int, events: Iterable[Event] | None = None, kinds: Iterable[Kind[ControlPlane, Any]] = KINDS) -> Outcome:
    """Run a seed's schedule, or `events` in its place. Exceptions that no promise foresees are violations too."""
    chosen = draw(seed) if events is None else list(events)
    violation = None
    with seeded(seed):
        scene = Scene(stage, *beginning(seed), kinds=kinds)
        try:
            for event in chosen:
                guarded(scene, event)
                promises.always(scene)
            come_to_rest(scene)
            promises.always(scene)
            promises.at_rest(scene)
        except AssertionError as error:
            violation = str(error) or "a promise without words"
        except (Exception, AgentDied, Killed) as error:
            violation = f"{type(error).__name__}: {error}"
    ended: dict[str, int] = {}
    for kind, state, count in stage.ask("SELECT kind, state, COUNT(*) FROM sagas GROUP BY kind, state"):
        ended[f"{kind} {state}"] = count
    scene.tell(f"end {sorted(ended.items())} {violation}")
    return Outcome(seed, chosen, scene.trace, violation, dict(scene.trouble.struck), dict(scene.trouble.passed), ended)


def shrink(stage: Stage, found: Outcome, kinds: Iterable[Kind[ControlPlane, Any]] = KINDS) -> Outcome:
    """The same seed with as few of its events as still break a promise."""
    best, size = found, max(1, len(found.events) // 2)
    while size:
        at, smaller = 0, False
        while at < len(best.events):
            tried = run(stage, found.seed, best.events[:at] + best.events[at + size :], kinds)
            if tried.violation is not None:
                best, smaller = tried, True
            else:
                at += size
        size = size if smaller and size == 1 else size // 2
    return best


def guarded(scene: Scene, event: Event) -> None:
    """One event; a process that dies of it begins anew."""
    try:
        told = _DO[event.what](scene, event)
    except Killed:
        scene.trouble.struck["crashes"] += 1
        told = "killed"
        begin_again(scene, alone=True)
    scene.tell(f"{event}: {told}")


def begin_again(scene: Scene, *, alone: bool) -> None:
    """A process that dies at its start is started again."""
    while True:
        try:
            scene.begin(alone=alone)
        except Killed:
            continue
        return


def come_to_rest(scene: Scene) -> None:
    """No more trouble: hosts answer, everything runs to its end, operators let what is stuck go on and start what lies."""
    scene.trouble.disarm()
    scene.late.clear()
    promises.inventories_are_true(scene)
    for line in scene.lines.values():
        line.cut = False
    begin_again(scene, alone=True)
    for site in scene.sites.values():
        for handle in list(site.foreign):
            _take_foreign_away(scene, site.name, handle)
    promises.stuck_has_a_reason(scene)
    scene.rest()
    scene.call_up()
    for _ in range(6):
        repaired = scene.look_at_hosts() or scene.under_way()  # what an operation holds is looked at once it is over
        scene.rest()
        promises.always(scene)
        promises.stuck_has_a_reason(scene)
        stuck = [row.id for row in scene.under_way() if row.state == State.STUCK]
        for saga_id in stuck:
            scene.plane.runner.resume(saga_id)
        lying = scene.stage.ask(_LYING)
        left = scene.stage.ask("SELECT id FROM migrations WHERE type = 'evacuation' AND status = 'done'")
        for (server_id,) in lying:
            power.request(scene.plane, CALLER, server_id, PowerAction.HARD_REBOOT)
        scene.rest()
        if not (repaired or stuck or lying or left):
            break
    reconcile.idle(scene.plane)
    scene.rest()
    for _ in scene.sites:  # what is left over goes when it has been seen for long enough, a server's on one host after the other
        if not scene.stage.ask("SELECT 1 FROM sightings"):
            break
        scene.clock.sleep(scene.plane.settings.orphan_grace)
        scene.look_at_hosts()
        reconcile.idle(scene.plane)
        scene.rest()
        scene.look_at_hosts()  # while the one was cleared, nothing was concluded of the other
        scene.rest()


# ------------------------------------------------------------------------------------------------ what events do


def _ask(scene: Scene, event: Event) -> str:
    weighted = [chooser for chooser in CHOOSERS for _ in range(chooser.weight)]
    chooser = weighted[event.draw % len(weighted)]
    with scene.plane.db.read() as tx:
        alive = SERVERS.every(tx.execute(_ALIVE))
    suited = [s for s in alive if s.vm_state in chooser.suits] or alive
    if not suited:
        chooser = CHOOSERS[0]
    server: Any = suited[event.nth % len(suited)] if suited else None
    try:
        chooser.ask(scene, server, event.draw // len(weighted))
    except LaminaError as error:
        if error.status >= 500:
            raise AssertionError(f"asking for {chooser.kind} was answered {error.status}: {error.message}") from error
        return f"{chooser.kind} refused"
    return chooser.kind


def _move(scene: Scene, event: Event) -> str:
    rows = [row for row in scene.under_way() if row.state in (State.RUNNING, State.UNWINDING) and row.owner == scene.plane.runner.me]
    if not rows:
        scene.plane.runner.take_over()
        return NOTHING
    row = rows[event.draw % len(rows)]
    return f"{row.kind} {scene.move(row.id)}"


def _run(scene: Scene, event: Event) -> str:
    """Up to nine moves, whoever's turn it is."""
    told: list[str] = []
    while len(told) < event.nth and told[-1:] != [NOTHING]:
        told.append(_move(scene, Event("move", event.draw + len(told))))
    return ", ".join(told)


def _arm(name: str, places: Iterable[str], strike: Callable[[Scene, Event], str | None]) -> Callable[[Scene, Event], str]:
    def arm(scene: Scene, event: Event) -> str:
        scene.trouble.arm(name, frozenset(places), event.nth, lambda: strike(scene, event))
        return "armed"

    return arm


def _refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


def _hypervisor(_scene: Scene, _event: Event) -> None:
    raise HypervisorError("The hypervisor refuses.")


def _agent_dies(scene: Scene, _event: Event) -> None:
    for site in scene.sites.values():
        site.dead = True
    raise AgentDied


def _overtake(scene: Scene, event: Event) -> None:
    scene.overtaken(event.draw % 4)


def _taken_over(scene: Scene, _event: Event) -> str:
    scene.clock.sleep(scene.plane.settings.lease + 1)
    begin_again(scene, alone=False)
    return ""


def _named(scene: Scene, event: Event) -> str:
    return sorted(scene.sites)[event.draw % len(scene.sites)]


def _cut(scene: Scene, event: Event) -> str:
    scene.lines[_named(scene, event)].cut = True
    scene.trouble.struck["cut"] += 1
    return _named(scene, event)


def _mended(scene: Scene, event: Event) -> str:
    for line in scene.lines.values():
        line.cut = False
    if event.nth % 2:
        scene.call_up()
    return ""


def _reboot(scene: Scene, event: Event) -> str:
    name = _named(scene, event)
    site = scene.sites[name]
    scene.trouble.struck["reboot"] += 1
    site.reboot()
    if event.nth % 2:
        try:
            said = site.compute.restore()
        except BaseException as error:  # the boot unit died too
            if isinstance(error, Exception):
                raise
            site.begin()
            said = ["died"]
        return f"{name} restored {len(said)}"
    return name


def _look(scene: Scene, event: Event) -> str:
    return str(scene.look_at(_named(scene, event)))


def _comes_late(scene: Scene, event: Event) -> str:
    if not scene.late:
        return ""
    what, deliver = scene.late.pop(event.draw % len(scene.late))
    scene.trouble.struck["came late"] += 1
    return f"{what} {scene.lines[what.split()[0]].come_late(deliver)}"


def _foreign(scene: Scene, event: Event) -> str:
    """Somebody else makes a vGPU by hand, or takes his own away."""
    name = _named(scene, event)
    site = scene.sites[name]
    if site.foreign:
        _take_foreign_away(scene, name, sorted(site.foreign)[0])
        return f"{name} goes"
    card = site.kernel._cards[sorted(site.kernel._cards)[event.nth % 2]]
    vgpu_type = card.gpu.types[0]
    state = site.machine.state
    if not site.kernel._room(card, site.kernel._layout(card), vgpu_type):
        return "no room"
    if card.gpu.framework is Framework.MDEV:
        handle = f"00000000-0000-4000-8000-{event.draw:012x}"
        state.mdevs[handle] = MachineDevice(str(card.gpu.address), vgpu_type.id)
    else:
        handle = next(str(f) for f in card.functions[event.draw % 5 :] + card.functions if str(f) not in state.vf_types)
        state.vf_types[handle] = vgpu_type.id
    site.foreign[handle] = vgpu_type.id
    scene.squeezed = True
    scene.trouble.struck["foreign"] += 1
    return f"{name} {handle}"


def _take_foreign_away(scene: Scene, name: str, handle: str) -> None:
    site = scene.sites[name]
    site.machine.state.mdevs.pop(handle, None)
    site.machine.state.vf_types.pop(handle, None)
    del site.foreign[handle]


def _guest_shuts_down(scene: Scene, event: Event) -> str:
    running = [
        (server_id, domain)
        for site in scene.sites.values()
        for server_id, domain in site.machine.state.domains.items()
        if domain.power_state is PowerState.RUNNING
    ]
    if not running:
        return ""
    server_id, domain = running[event.draw % len(running)]
    domain.power_state = PowerState.SHUTDOWN
    scene.shut_down.add(server_id)
    return "done"


def _resume(scene: Scene, _event: Event) -> str:
    promises.stuck_has_a_reason(scene)
    stuck = [row.id for row in scene.under_way() if row.state == State.STUCK]
    for saga_id in stuck:
        scene.plane.runner.resume(saga_id)
    return str(len(stuck))


def _time(scene: Scene, event: Event) -> str:
    scene.clock.sleep(float(event.draw % 100))
    return ""


_DO: dict[str, Callable[[Scene, Event], str]] = {
    "ask": _ask,
    "move": _move,
    "run": _run,
    "kill": _arm("kill", ("step",), lambda scene, event: scene.kill()),
    "kill at work": _arm("kill at work", _AT_WORK | {"call"}, lambda scene, event: scene.kill()),
    "agent dies": _arm("agent dies", _AT_WORK, _agent_dies),
    "errno": _arm("errno", _WRITES, lambda scene, event: _refuse(ERRNOS[event.draw % len(ERRNOS)])),
    "journal full": _arm("journal full", ("journal-before",), lambda scene, event: _refuse(errno.ENOSPC)),
    "hypervisor refuses": _arm("hypervisor refuses", ("domain-before", "domain-after"), _hypervisor),
    "lost request": _arm("lost request", ("call",), lambda scene, event: "lost request"),
    "lost answer": _arm("lost answer", ("call",), lambda scene, event: "lost answer"),
    "doubled": _arm("doubled", ("call",), lambda scene, event: "doubled"),
    "late": _arm("late", ("call",), lambda scene, event: "late"),
    "overtaken": _arm("overtaken", ("outside", "call"), _overtake),
    "comes late": _comes_late,
    "taken over": _taken_over,
    "cut": _cut,
    "mended": _mended,
    "reboot": _reboot,
    "look": _look,
    "foreign": _foreign,
    "guest shuts down": _guest_shuts_down,
    "resume": _resume,
    "time": _time,
}
