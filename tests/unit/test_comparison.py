"""What a host lacks and what it should not have, as a pure plan of its report against the records."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lamina.model.gpus import Framework, Gpu, Partitioning, VgpuState, VgpuType
from lamina.model.hosts import DomainReport, GpuReport, HostReport, PowerState, VgpuReport
from lamina.model.ids import PciAddress
from lamina.model.servers import Server, TaskState, VmState
from lamina.operations.comparison import SKEW, Lack, Leftover, Plan, View, drift, is_older, is_ripe, plan, releasable
from lamina.operations.restore import Params
from lamina.store.hosts import Host, Vgpu
from lamina.store.stale_consumers import StaleConsumer
from tests.unit.test_servers import server

ADDRESS = PciAddress.parse("0000:81:00.0")
TYPE = VgpuType("nvidia-11", "nvidia-11", 512, 16)
GPU = Gpu(ADDRESS, "by hand", Framework.MDEV, Partitioning.SAME_SIZE, 8192, (TYPE,), ("nvidia-11",))
ACTIVE = server(VmState.ACTIVE)


def report(*, vgpus: tuple[str, ...] = (), power: PowerState | None = PowerState.RUNNING, foreign: tuple[str, ...] = ()) -> HostReport:
    devices = tuple(VgpuReport(uuid, ADDRESS, ADDRESS, TYPE.name, ours=uuid not in foreign, server_id=None) for uuid in (*vgpus, *foreign))
    domains = () if power is None else (DomainReport("s", "lamina-s", power, vgpus, "s"),)
    return HostReport("h", "boot", 8, 8192, 100, "simulated", 1, (GpuReport(GPU, {}, devices),), domains)


def vgpu(uuid: str = "v", state: VgpuState = VgpuState.ATTACHED, consumer_id: str = "s") -> Vgpu:
    return Vgpu(uuid, "h", ADDRESS, "provider", TYPE.name, ADDRESS, None, "s", consumer_id, "operation", state, 0.0)


def recorded(boot_id: str = "boot", sequence: int = 0, heard_at: float = 0.0) -> Host:
    return Host("h", "h", "h", "h", True, None, False, "nova", boot_id, 8, 8192, 100, "simulated", 1, [], heard_at, 0.0, [], sequence)


def view(said: HostReport, *owners: Server, records: tuple[Vgpu, ...] = (), **more: Any) -> View:
    known: dict[str, Any] = {"moving": {}, "busy": set(), "sightings": {}, "asked_at": 100.0, "now": 101.0, "grace": 60.0}
    return View(said, more.pop("before", recorded()), records, {owner.id: owner for owner in owners}, **known | more)


def repairs(said: HostReport, owner: Server, *records: Vgpu, busy: bool = False, rebooted: bool = False) -> list[Lack]:
    before = recorded("the boot before" if rebooted else "boot")
    busy_ones = {owner.id} if busy else set()
    return list(plan(view(said, owner, records=records, before=before, busy=busy_ones, moving={"migration": "s"})).lacks)


def test_nothing_is_done_where_nothing_lacks() -> None:
    assert repairs(report(vgpus=("v",)), ACTIVE, vgpu(), rebooted=True) == []


@pytest.mark.parametrize("state", [VgpuState.PLANNED, VgpuState.PRESENT, VgpuState.ATTACHED])
def test_a_missing_vgpu_is_made_anew(state: VgpuState) -> None:
    assert repairs(report(), ACTIVE, vgpu(state=state)) == [Lack("s", Params("h", True), "vGPU v is missing")]


def test_a_vgpu_that_had_been_given_up_and_stands_again_is_said_to_be_there() -> None:
    planned, there = vgpu(state=VgpuState.PLANNED), report(vgpus=("v",))
    assert {s: [v.uuid for v in made] for s, made in plan(view(there, ACTIVE, records=(planned,))).returned.items()} == {"s": ["v"]}
    assert plan(view(there, ACTIVE, records=(vgpu(state=VgpuState.PRESENT),))).returned == {}
    assert plan(view(report(foreign=("v",)), ACTIVE, records=(planned,))).returned == {}
    assert plan(view(there, records=(planned,))).returned == {}
    for held in ({"busy": {"s"}}, {"clearing": {"s"}}):
        assert plan(view(there, ACTIVE, records=(planned,), **held)).returned == {}
    assert plan(view(there, ACTIVE, records=(planned, vgpu("other")))).returned == {}, "what brings the other sees to both"


def test_a_foreign_device_of_the_same_uuid_is_not_ours() -> None:
    assert [r.why for r in repairs(report(foreign=("v",)), ACTIVE, vgpu())] == ["vGPU v is missing"]


def test_a_missing_domain_is_defined_anew_in_the_power_state_it_had() -> None:
    stopped = dataclasses.replace(server(VmState.STOPPED), power_state=PowerState.SHUTDOWN)
    assert repairs(report(power=None), ACTIVE) == [Lack("s", Params("h", True), "its domain is missing")]
    assert repairs(report(power=None), stopped) == [Lack("s", Params("h", False), "its domain is missing")]


def test_a_domain_is_started_again_after_a_reboot_and_not_when_somebody_stopped_it() -> None:
    off = report(power=PowerState.SHUTDOWN)
    assert [r.why for r in repairs(off, ACTIVE, rebooted=True)] == ["its domain is not running"]
    assert repairs(off, ACTIVE, rebooted=False) == []
    stopped = dataclasses.replace(server(VmState.STOPPED), power_state=PowerState.SHUTDOWN)
    assert repairs(off, stopped, rebooted=True) == []


def test_what_an_operation_holds_is_left_to_it() -> None:
    assert repairs(report(power=None), ACTIVE, vgpu(), busy=True, rebooted=True) == []


@pytest.mark.parametrize("vm_state", [VmState.BUILDING, VmState.ERROR])
def test_what_is_being_built_or_is_broken_is_left_alone(vm_state: VmState) -> None:
    assert repairs(report(power=None), server(vm_state, TaskState.SPAWNING), vgpu(), rebooted=True) == []


def test_the_source_of_a_pending_resize_gets_its_vgpus_and_no_domain_is_started() -> None:
    moved = dataclasses.replace(server(VmState.RESIZED), host="elsewhere")
    said = report(power=PowerState.SHUTDOWN)
    assert repairs(said, moved, vgpu(consumer_id="migration"), rebooted=True) == [Lack("s", Params("h", None), "vGPU v is missing")]


def test_a_domain_is_not_touched_for_what_its_resize_on_the_same_host_holds_beside_it() -> None:
    resized = server(VmState.RESIZED)
    held = vgpu("old", consumer_id="migration")
    assert repairs(report(vgpus=("v",)), resized, vgpu(), held) == [Lack("s", Params("h", None), "vGPU old is missing")]
    assert repairs(report(), resized, held, vgpu()) == [Lack("s", Params("h", True), "vGPU old is missing")]
    assert repairs(report(vgpus=("v",), power=None), resized, vgpu(), held) == [Lack("s", Params("h", True), "vGPU old is missing")]


def test_what_a_migration_that_is_over_pays_for_is_not_made_anew() -> None:
    here = dataclasses.replace(ACTIVE, host="h")
    assert plan(view(report(), here, records=(vgpu(consumer_id="over"),))).lacks == ()


def test_a_record_without_its_server_is_nobodys_repair() -> None:
    assert plan(view(report(power=None), records=(vgpu(),), before=recorded("the boot before"))) == Plan()


def test_a_server_that_was_busy_at_the_first_report_after_a_reboot_is_started_at_a_later_one() -> None:
    off, rebooted = report(power=PowerState.SHUTDOWN), recorded("the boot before")
    first = plan(view(off, ACTIVE, before=rebooted, busy={"s"}))
    assert (first.lacks, first.told) == ((), {})
    later = view(off, ACTIVE, sightings=dict.fromkeys(first.sightings, 101.0))
    assert [lack.why for lack in plan(later).lacks] == ["its domain is not running"]
    assert plan(later).sightings == frozenset()
    running = view(report(), ACTIVE, sightings=dict.fromkeys(first.sightings, 101.0))
    assert plan(running) == Plan(), "whatever held it has started it"
    stopped = dataclasses.replace(server(VmState.STOPPED), power_state=PowerState.SHUTDOWN)
    assert plan(view(off, stopped, sightings=dict.fromkeys(first.sightings, 101.0))) == Plan()


# ------------------------------------------------------------------------------------------------ changes from outside


def test_a_server_on_its_way_back_to_a_host_that_rebooted_is_started_once_it_is_there() -> None:
    off, moving = report(power=PowerState.SHUTDOWN), {"migration": "s"}
    first = plan(view(off, ELSEWHERE, before=recorded("the boot before"), busy={"s"}, moving=moving))
    assert (first.lacks, first.sightings) == ((), frozenset({("rebooted", "s")}))
    seen = dict.fromkeys(first.sightings, 50.0)
    assert plan(view(off, ELSEWHERE, sightings=seen, moving=moving)).lacks == (), "it waits for a word, and runs on the other host"
    assert [lack.why for lack in plan(view(off, ACTIVE, sightings=seen)).lacks] == ["its domain is not running"]
    assert plan(view(off, ELSEWHERE, sightings=seen)).sightings == {("orphan-domain", "s")}, "it went the other way"


@pytest.mark.parametrize(
    ("before", "power", "after"),
    [
        (VmState.ACTIVE, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.STOPPED, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.ACTIVE, PowerState.PAUSED, VmState.ACTIVE),
        (VmState.ACTIVE, PowerState.CRASHED, VmState.STOPPED),
        (VmState.ACTIVE, PowerState.SUSPENDED, VmState.SUSPENDED),
        (VmState.STOPPED, PowerState.PAUSED, VmState.PAUSED),
        (VmState.STOPPED, PowerState.CRASHED, VmState.STOPPED),
        (VmState.PAUSED, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.PAUSED, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.PAUSED, PowerState.CRASHED, VmState.STOPPED),
        (VmState.SUSPENDED, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.SUSPENDED, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.ERROR, PowerState.SHUTDOWN, VmState.ERROR),
    ],
)
def test_a_server_says_what_its_domain_does(before: VmState, power: PowerState, after: VmState) -> None:
    shown = {VmState.STOPPED: PowerState.SHUTDOWN, VmState.PAUSED: PowerState.PAUSED, VmState.SUSPENDED: PowerState.SUSPENDED}
    state = shown.get(before, PowerState.RUNNING)
    owner = dataclasses.replace(server(before), power_state=state)
    assert drift(report(power=power), [owner], set()) == {"s": (after, power)}


def test_a_server_whose_domain_does_what_it_says_is_left() -> None:
    assert drift(report(), [ACTIVE], set()) == {}
    assert drift(report(power=PowerState.NOSTATE), [ACTIVE], set()) == {}


def test_one_that_waits_for_confirm_or_revert_goes_on_waiting() -> None:
    waiting = server(VmState.RESIZED)
    assert drift(report(power=PowerState.SHUTDOWN), [waiting], set()) == {"s": (VmState.RESIZED, PowerState.SHUTDOWN)}


def test_servers_that_something_works_on_or_that_are_elsewhere_are_left() -> None:
    off = report(power=PowerState.SHUTDOWN)
    assert drift(off, [ACTIVE], {"s"}) == {}
    assert drift(off, [dataclasses.replace(ACTIVE, task_state=TaskState.REBOOTING)], set()) == {}
    assert drift(off, [dataclasses.replace(ACTIVE, host="elsewhere")], set()) == {}
    assert drift(report(power=None), [ACTIVE], set()) == {}


def test_after_a_reboot_a_paused_server_runs_and_a_suspended_one_stays_so() -> None:
    paused = dataclasses.replace(server(VmState.PAUSED), power_state=PowerState.PAUSED)
    suspended = dataclasses.replace(server(VmState.SUSPENDED), power_state=PowerState.SUSPENDED)
    (lack,) = repairs(report(vgpus=("v",), power=PowerState.SHUTDOWN), paused, vgpu(), rebooted=True)
    assert lack.params == Params("h", True)
    assert repairs(report(vgpus=("v",), power=PowerState.SUSPENDED), suspended, vgpu(), rebooted=True) == []
    (lack,) = repairs(report(power=PowerState.SUSPENDED), suspended, vgpu(), rebooted=True)
    assert lack.params == Params("h", False)


# ------------------------------------------------------------------------------------------------ what should not be there

DELETED = dataclasses.replace(server(VmState.DELETED), host="h")
ELSEWHERE = dataclasses.replace(ACTIVE, host="other")


def leftover(*vgpus: str) -> HostReport:
    """A domain of server s, and vGPUs of it."""
    devices = tuple(VgpuReport(uuid, ADDRESS, ADDRESS, TYPE.name, ours=True, server_id="s") for uuid in vgpus)
    domain = DomainReport("s", "lamina-s", PowerState.RUNNING, vgpus, "s")
    return HostReport("h", "boot", 8, 8192, 100, "simulated", 1, (GpuReport(GPU, {}, devices),), (domain,))


@pytest.mark.parametrize(
    ("owners", "why"),
    [((), "its server is not known"), ((DELETED,), "its server is deleted"), ((ELSEWHERE,), "its server is on other")],
)
def test_what_is_left_over_goes_after_two_sightings_and_a_grace(owners: tuple[Server, ...], why: str) -> None:
    found = Leftover("s", ("v",), True, why)
    first = plan(view(leftover("v"), *owners))
    assert (first.removals, first.waiting) == ((), (found,))
    seen = dict.fromkeys(first.sightings, 101.0)
    soon = plan(view(leftover("v"), *owners, sightings=seen, now=160.0))
    assert (soon.removals, soon.waiting, soon.sightings) == ((), (found,), first.sightings)
    late = plan(view(leftover("v"), *owners, sightings=seen, now=161.0))
    assert (late.removals, late.waiting, late.sightings) == ((found,), (), frozenset())


def test_what_is_seen_for_the_first_time_waits_however_long_ago_something_else_was_seen() -> None:
    seen = dict.fromkeys(plan(view(leftover("v"))).sightings, 101.0)
    assert plan(view(leftover("v", "w"), sightings=seen, now=1000.0)).removals == ()


def test_what_belongs_to_its_server_stays() -> None:
    always: dict[str, Any] = {"sightings": dict.fromkeys(plan(view(leftover("v"))).sightings, 0.0), "now": 1000.0}
    here = dataclasses.replace(ACTIVE, host="h")
    assert plan(view(leftover("v"), here, records=(vgpu(),), **always)).removals == ()
    assert plan(view(leftover(), ELSEWHERE, moving={"m": "s"}, **always)).removals == ()
    assert plan(view(leftover("v"), ELSEWHERE, records=(vgpu(),), **always)).removals == ()
    assert plan(view(leftover("v"), here, **always)).removals == (Leftover("s", ("v",), False, "no record of its server has it"),)


def test_nothing_is_removed_where_the_host_knows_more_than_the_database() -> None:
    seen = dict.fromkeys(plan(view(leftover("v"))).sightings, 0.0)
    assert plan(view(leftover("v"), sightings=seen, now=1000.0, behind=True)) == Plan()


# ------------------------------------------------------------------------------------------------ reports out of order


@pytest.mark.parametrize(
    ("sequence", "asked_at", "older"),
    [(8, 99.0, True), (7, 99.0, True), (9, 99.0, False), (0, 99.0, False), (7, 100.0 + SKEW + 0.1, False)],
)
def test_a_report_that_was_made_before_the_last_one_counts_for_nothing(sequence: int, asked_at: float, older: bool) -> None:
    """But one that was asked for afterwards cannot have been: the host's clock was set back."""
    said = dataclasses.replace(leftover("v"), sequence=sequence)
    before = recorded(sequence=8, heard_at=100.0)
    assert is_older(said, before, asked_at) is older
    seen = dict.fromkeys(plan(view(leftover("v"))).sightings, 0.0)
    made = plan(view(said, before=before, asked_at=asked_at, sightings=seen, now=1000.0))
    assert (made.removals == ()) is older
    if older:
        assert made == Plan(sightings=frozenset(seen)), "what was seen before was seen"


# ------------------------------------------------------------------------------------------------ allocations

GONE = StaleConsumer("c", "s", "its server is deleted", ("h",))


def test_what_is_on_no_host_is_cleared_after_two_sightings_and_a_grace() -> None:
    key = ("allocation", "c")
    assert not is_ripe({}, key, 100.0, 60.0)
    assert not is_ripe({("orphan-disk", "c"): 0.0}, key, 100.0, 60.0)
    assert not is_ripe({key: 100.0}, key, 159.0, 60.0)
    assert is_ripe({key: 100.0}, key, 160.0, 60.0)


def test_nothing_is_released_under_an_operation_or_on_a_silent_host() -> None:
    assert releasable([GONE], {"s"}, set()) == []
    assert releasable([GONE], set(), {"h"}) == []
    assert releasable([GONE], {"t"}, {"g"}) == [GONE]
