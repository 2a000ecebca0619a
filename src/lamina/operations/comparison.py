"""Comparison: what a host reports held against what is recorded, and what there is to mend. Pure.

Four views must agree: the records of servers and vGPUs, the allocations that pay for them, the devices on the host, its domains. What
lacks on a host is made anew at once. What should not be there is removed only when it was seen twice, `grace` seconds apart at
least, in reports that were made one after the other; and only what bears Lamina's mark, as the host tells it: `ours` of a
vGPU, which its journal says, and the server's id of a domain, which its metadata says. What an operation works on is left to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Set

from lamina.model.gpus import VgpuState
from lamina.model.hosts import HostReport, PowerState, VgpuReport
from lamina.model.repairs import REBOOTED, Key, What
from lamina.model.servers import Server, VmState
from lamina.operations import restore
from lamina.store.hosts import Host, Vgpu
from lamina.store.stale_consumers import StaleConsumer

#: what a domain cannot be after a reboot of its host; one that was paused comes back running
_ON = (PowerState.RUNNING, PowerState.PAUSED)
#: states in which a server tells what its domain does
_TELLING = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.RESIZED, VmState.RESCUED, VmState.ERROR})
#: seconds by which the clocks of two control planes may differ
SKEW = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """All that a decision about one host is made from.

    `records` are the vGPUs recorded on it; `servers`, by id, all that have their place, a vGPU, a device or a domain there, deleted ones
    too; `moving`, by the migration's id, those that are on their way from or to it, and `evacuated` those that were evacuated from it and
    have left something there, which `clear_evacuated` sees to. `busy` are those that an operation holds, or held while the report was
    made; `clearing` those that an operation holds which gives way. `sightings` is what was out of order the last time, and since when.
    """

    report: HostReport
    #: the host as recorded before the report; None for one that was never heard of
    before: Host | None
    records: Collection[Vgpu]
    servers: Mapping[str, Server]
    moving: Mapping[str, str]
    busy: Set[str]
    sightings: Mapping[Key, float]
    #: when the report was asked for, and now
    asked_at: float
    now: float
    grace: float
    evacuated: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clearing: Set[str] = frozenset()
    #: whether the host has admitted calls of which this database knows nothing
    behind: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Lack:
    """One server that lacks something on a host, and what it is to come back to."""

    server_id: str
    params: restore.Params
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Leftover:
    """What is on a host of one server and should not be."""

    server_id: str
    vgpus: tuple[str, ...]
    domain: bool
    why: str

    @property
    def keys(self) -> frozenset[Key]:
        domain = {(str(What.ORPHAN_DOMAIN), self.server_id)} if self.domain else set()
        return frozenset({(str(What.ORPHAN_VGPU), uuid) for uuid in self.vgpus} | domain)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about one host. `waiting` was seen, and is looked at once more before it is removed."""

    lacks: tuple[Lack, ...] = ()
    #: what had been given up and stands again, each server's together
    returned: Mapping[str, tuple[VgpuReport, ...]] = dataclasses.field(default_factory=dict)
    told: Mapping[str, tuple[VmState, PowerState]] = dataclasses.field(default_factory=dict)
    removals: tuple[Leftover, ...] = ()
    waiting: tuple[Leftover, ...] = ()
    #: what is out of order and not mended by this plan
    sightings: frozenset[Key] = frozenset()


def is_older(report: HostReport, before: Host | None, asked_at: float) -> bool:
    """Whether another report of the host, which was made later, was taken in first.

    One that was asked for after the last was taken in is newer, whatever its number: a host's clock may have been set back.
    """
    if before is None or not report.sequence:
        return False
    return report.sequence <= before.report_sequence and asked_at <= before.last_seen_at + SKEW


def plan(view: View) -> Plan:
    """What is to be done about one host; nothing on the word of a report that is older than what is known."""
    if is_older(view.report, view.before, view.asked_at):
        return Plan(sightings=frozenset(view.sightings))
    owed = starts_owed(view)
    lacks = lacking(view, owed)
    mended = {lack.server_id for lack in lacks}
    removals, waiting = removable(view)
    return Plan(
        lacks=tuple(lacks),
        returned=returned(view, mended),
        told=drift(view.report, view.servers.values(), view.busy | mended | owed),
        removals=removals,
        waiting=waiting,
        sightings=frozenset(key for one in waiting for key in one.keys) | {(REBOOTED, server_id) for server_id in owed - mended},
    )


# ---------------------------------------------------------------------------------------------------- what lacks


def starts_owed(view: View) -> frozenset[str]:
    """Servers that ran when the host went down and that nothing has brought up since.

    They are remembered from report to report, for at the first one after the boot an operation may hold a server, or be on its
    way back here with it.
    """
    owed = {server_id for what, server_id in view.sightings if what == REBOOTED}
    if view.before is not None and view.before.boot_id != view.report.boot_id:
        owed |= view.servers.keys()
    domains, moving = {d.server_id: d for d in view.report.domains if d.server_id is not None}, set(view.moving.values())
    found = set()
    for server_id in owed & view.servers.keys():
        server, domain = view.servers[server_id], domains.get(server_id)
        here = server.host == view.report.host or server_id in moving
        ran = here and server.power_state in _ON and server.vm_state not in (VmState.ERROR, VmState.DELETED)
        if ran and (domain is None or domain.power_state not in _ON):
            found.add(server_id)
    return frozenset(found)


def lacking(view: View, owed: Set[str]) -> list[Lack]:
    """The servers that lack a vGPU, their domain, or their running. One that somebody shut off on a host that did not reboot is left so.

    A domain is not touched for the sake of a vGPU that only a migration pays for.
    """
    report = view.report
    there = {v.uuid for g in report.gpus for v in g.vgpus if v.ours}
    domains = {d.server_id for d in report.domains if d.server_id is not None}
    lacks: dict[str, str] = {}
    #: those whose domain cannot run as it is
    down: set[str] = set()
    for record in view.records:
        # what a migration pays for whose server has arrived, nobody needs
        needed = record.consumer_id == record.server_id or record.consumer_id in view.moving
        if needed and record.uuid not in there:
            lacks.setdefault(record.server_id, f"vGPU {record.uuid} is missing")
            down |= {record.server_id} if record.consumer_id == record.server_id else set()
    for server in view.servers.values():
        if server.host == report.host and (server.id not in domains or server.id in owed):
            lacks.setdefault(server.id, "its domain is missing" if server.id not in domains else "its domain is not running")
            down.add(server.id)
    found = []
    for server_id, why in sorted(lacks.items()):
        owner = view.servers.get(server_id)
        if owner is None or server_id in view.busy or owner.vm_state in (VmState.BUILDING, VmState.ERROR, VmState.DELETED):
            continue
        running = owner.power_state in _ON if owner.host == report.host and server_id in down else None
        found.append(Lack(server_id, restore.Params(report.host, running), why))
    return found


def returned(view: View, mended: Set[str]) -> dict[str, tuple[VgpuReport, ...]]:
    """The vGPUs that an operation could not bring back and a later boot has, from the host's journal, by their servers.

    `mended` are those to which an operation sees.
    """
    there = {v.uuid: v for g in view.report.gpus for v in g.vgpus if v.ours}
    found: dict[str, tuple[VgpuReport, ...]] = {}
    for record in view.records:
        at_rest = record.server_id in view.servers and record.server_id not in view.busy | view.clearing | mended
        if at_rest and record.state is VgpuState.PLANNED and record.uuid in there:
            found[record.server_id] = *found.get(record.server_id, ()), there[record.uuid]
    return found


# ---------------------------------------------------------------------------------------------------- what servers tell


def drift(report: HostReport, placed: Iterable[Server], left_out: Set[str]) -> dict[str, tuple[VmState, PowerState]]:
    """What servers are to tell of themselves after somebody else's hand: a guest that shut down, a domain that was started.

    `left_out` are those that an operation or a repair works on. As Nova has it (nova/compute/manager.py,
    _sync_instance_power_state), but that a domain which was started outside runs on, and its server says so.
    """
    domains = {d.server_id: d for d in report.domains if d.server_id is not None}
    found: dict[str, tuple[VmState, PowerState]] = {}
    for server in placed:
        domain = domains.get(server.id)
        resting = server.vm_state in _TELLING and server.task_state is None
        if domain is None or not resting or server.host != report.host or server.id in left_out:
            continue
        vm_state = state_shown(server.vm_state, domain.power_state)
        if domain.power_state is not PowerState.NOSTATE and (vm_state, domain.power_state) != (server.vm_state, server.power_state):
            found[server.id] = vm_state, domain.power_state
    return found


def state_shown(vm_state: VmState, power_state: PowerState) -> VmState:
    """The state of a server at rest in `vm_state` whose domain is found to be so.

    A pause of a running domain is the hypervisor's own affair (an image that is being copied, a full disk): it shows in the power
    state alone. One that waits for confirm or revert, or is broken, goes on so.
    """
    if vm_state in (VmState.RESIZED, VmState.RESCUED, VmState.ERROR):
        return vm_state
    match power_state:
        case PowerState.RUNNING:
            return VmState.ACTIVE
        case PowerState.SHUTDOWN | PowerState.CRASHED:
            return VmState.STOPPED
        case PowerState.PAUSED:
            return VmState.ACTIVE if vm_state is VmState.ACTIVE else VmState.PAUSED
        case PowerState.SUSPENDED:
            return VmState.SUSPENDED
        case _:
            return vm_state


# ---------------------------------------------------------------------------------------------------- what is left over


def belongs(server: Server | None, host: str, *, moving: bool) -> bool:
    """Whether a server's domain may be on this host: it has its place there, or a migration from or to it."""
    return server is not None and server.vm_state is not VmState.DELETED and (server.host == host or moving)


def leftovers(view: View) -> list[Leftover]:
    """What of ours is on the host and belongs to nobody there, each server's together. Nothing of one that an operation holds."""
    left_alone = view.busy | view.clearing | set(view.evacuated.values())
    host = view.report.host
    recorded = {record.uuid for record in view.records}
    may_be_here = {record.server_id for record in view.records} | set(view.moving.values())
    vgpus: dict[str, list[str]] = {}
    standing = (v for g in view.report.gpus for v in g.vgpus)
    # what a boot has lost would come back with the next, from the host's journal
    for device in (*standing, *view.report.lost):
        if device.ours and device.server_id is not None and device.uuid not in recorded:
            vgpus.setdefault(device.server_id, []).append(device.uuid)
    domains = set()
    for server_id in {d.server_id for d in view.report.domains if d.server_id is not None}:
        if not belongs(view.servers.get(server_id), host, moving=server_id in may_be_here):
            domains.add(server_id)
    return [
        Leftover(server_id, tuple(sorted(vgpus.get(server_id, ()))), server_id in domains, _why(view.servers.get(server_id), host))
        for server_id in sorted((vgpus.keys() | domains) - left_alone)
    ]


def _why(server: Server | None, host: str) -> str:
    if server is None:
        return "its server is not known"
    if server.vm_state is VmState.DELETED:
        return "its server is deleted"
    if server.host != host:
        return f"its server is on {server.host or 'no host'}"
    return "no record of its server has it"


def removable(view: View) -> tuple[tuple[Leftover, ...], tuple[Leftover, ...]]:
    """What is removed now, and what is looked at once more.

    Nothing at all where the host has admitted calls of which this database knows nothing: it is an older copy that was put back, or the
    host was another Lamina's, and what seems to be left over may be somebody's server.
    """
    if view.behind:
        return (), ()
    found = leftovers(view)
    ripe = [one for one in found if all(is_ripe(view.sightings, key, view.now, view.grace) for key in one.keys)]
    return tuple(ripe), tuple(one for one in found if one not in ripe)


def is_ripe(sightings: Mapping[Key, float], key: Key, now: float, grace: float) -> bool:
    """Whether something was seen before, and that long enough ago."""
    return key in sightings and now - sightings[key] >= grace


def releasable(stale: Iterable[StaleConsumer], busy: Set[str], down: Set[str]) -> list[StaleConsumer]:
    """Whose allocations may be released: none of a server that an operation holds, nor with a vGPU on a host that is silent."""
    return [one for one in stale if one.server_id not in busy and down.isdisjoint(one.hosts)]
