"""What a host lacks, as a pure plan of its report against the records."""

from __future__ import annotations

import dataclasses

import pytest

from lamina.model.gpus import Framework, Gpu, Partitioning, VgpuState, VgpuType
from lamina.model.hosts import DomainReport, GpuReport, HostReport, PowerState, VgpuReport
from lamina.model.ids import PciAddress
from lamina.model.servers import Server, TaskState, VmState
from lamina.operations.reconcile import Repair, drift, plan
from lamina.operations.restore import Params
from lamina.store.hosts import Vgpu
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


def repairs(said: HostReport, owner: Server, *records: Vgpu, busy: bool = False, rebooted: bool = False) -> list[Repair]:
    return plan(said, records, {owner.id: owner}, {owner.id} if busy else set(), rebooted=rebooted)


def test_nothing_is_done_where_nothing_lacks() -> None:
    assert repairs(report(vgpus=("v",)), ACTIVE, vgpu(), rebooted=True) == []


@pytest.mark.parametrize("state", [VgpuState.PLANNED, VgpuState.PRESENT, VgpuState.ATTACHED])
def test_a_missing_vgpu_is_made_anew(state: VgpuState) -> None:
    assert repairs(report(), ACTIVE, vgpu(state=state)) == [Repair("s", Params("h", True), "vGPU v is missing")]


def test_a_foreign_device_of_the_same_uuid_is_not_ours() -> None:
    assert [r.why for r in repairs(report(foreign=("v",)), ACTIVE, vgpu())] == ["vGPU v is missing"]


def test_a_missing_domain_is_defined_anew_in_the_power_state_it_had() -> None:
    stopped = dataclasses.replace(server(VmState.STOPPED), power_state=PowerState.SHUTDOWN)
    assert repairs(report(power=None), ACTIVE) == [Repair("s", Params("h", True), "its domain is missing")]
    assert repairs(report(power=None), stopped) == [Repair("s", Params("h", False), "its domain is missing")]


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
    assert repairs(said, moved, vgpu(consumer_id="migration"), rebooted=True) == [Repair("s", Params("h", None), "vGPU v is missing")]


def test_a_record_without_its_server_is_nobodys_repair() -> None:
    assert plan(report(power=None), [vgpu()], {}, set(), rebooted=True) == []


# ------------------------------------------------------------------------------------------------ changes from outside


@pytest.mark.parametrize(
    ("before", "power", "after"),
    [
        (VmState.ACTIVE, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.STOPPED, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.ACTIVE, PowerState.PAUSED, VmState.ACTIVE),
        (VmState.ACTIVE, PowerState.CRASHED, VmState.ACTIVE),
    ],
)
def test_a_server_says_what_its_domain_does(before: VmState, power: PowerState, after: VmState) -> None:
    state = PowerState.SHUTDOWN if before is VmState.STOPPED else PowerState.RUNNING
    owner = dataclasses.replace(server(before), power_state=state)
    assert drift(report(power=power), [owner], set()) == {"s": (after, power)}


def test_a_server_whose_domain_does_what_it_says_is_left() -> None:
    assert drift(report(), [ACTIVE], set()) == {}


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
    (repair,) = repairs(report(vgpus=("v",), power=PowerState.SHUTDOWN), paused, vgpu(), rebooted=True)
    assert repair.params == Params("h", True)
    assert repairs(report(vgpus=("v",), power=PowerState.SUSPENDED), suspended, vgpu(), rebooted=True) == []
    (repair,) = repairs(report(power=PowerState.SUSPENDED), suspended, vgpu(), rebooted=True)
    assert repair.params == Params("h", False)
