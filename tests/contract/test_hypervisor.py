"""The `Hypervisor` port: domains, their power, and the devices that they hold."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.agent.hypervisor import Capacity, Device, Hypervisor
from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.agent.simulated.machine import MachineDomain
from lamina.model import ids
from lamina.model.errors import DeviceMissing, HypervisorError
from lamina.model.gpus import Framework
from lamina.model.hosts import DomainSpec, Landing, Nic, PowerAction, PowerState, Transfer
from tests.contract.libvirt_bench import on_libvirt
from tests.contract.machines import FIRST, REAL, SECOND, TestMachine, real_machine, standing, switched_on

CAPACITY = Capacity(8, 16384, 100, "simulated", 9_000_000)


@dataclasses.dataclass
class Bench:
    """A hypervisor, its machine to set devices up on, and somebody else who defines domains."""

    hypervisor: Hypervisor
    machine: TestMachine
    define_foreign: Callable[[str, str], None]
    #: whether a guest runs in the domains that lets a device go when asked; the lab's boot nothing
    guest_lets_go: bool

    def device(self) -> Device:
        handle = self.machine.plant(self.machine.first, "nvidia-11")
        return Device(handle, Framework.MDEV, handle)


@pytest.fixture(params=["libvirt" if REAL else "simulated"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "libvirt":
        with real_machine("mdev") as machine, on_libvirt(tmp_path) as (hypervisor, define_foreign):
            yield Bench(hypervisor, machine, define_foreign, guest_lets_go=False)
        return
    host = switched_on("mdev", tmp_path)

    def define(uuid: str, name: str) -> None:
        host.machine.state.domains[uuid] = MachineDomain(name, 1, 64, 1, None, {}, PowerState.RUNNING, ours=False)

    machine = TestMachine("mdev", FIRST, SECOND, host.kernel, lambda: standing(host), lambda number: None)
    yield Bench(SimulatedHypervisor(host.machine, CAPACITY), machine, define, guest_lets_go=True)


def domain(*devices: Device, running: bool = True) -> DomainSpec:
    server_id = ids.new_uuid()
    return DomainSpec(server_id, f"s-{server_id[:8]}", 1, 64, 1, tuple(d.uuid for d in devices), running)


def test_it_tells_what_the_machine_has(bench: Bench) -> None:
    capacity = bench.hypervisor.capacity()
    assert capacity == CAPACITY or REAL
    assert min(capacity.vcpus, capacity.memory_mb, capacity.hypervisor_version) > 0
    assert ids.is_uuid(bench.hypervisor.boot_id())
    assert bench.hypervisor.domains() == []


def test_a_domain_is_made_and_runs(bench: Bench) -> None:
    device = bench.device()
    spec = domain(device)
    report = bench.hypervisor.ensure(spec, [device])
    assert (report.uuid, report.server_id, report.name) == (spec.server_id, spec.server_id, spec.name)
    assert report.power_state is PowerState.RUNNING
    assert report.vgpus == (device.uuid,)
    assert bench.hypervisor.domains() == [report]


def test_the_same_again_changes_nothing(bench: Bench) -> None:
    device = bench.device()
    spec = domain(device)
    assert bench.hypervisor.ensure(spec, [device]) == bench.hypervisor.ensure(spec, [device])
    assert len(bench.hypervisor.domains()) == 1


def test_a_changed_description_is_taken(bench: Bench) -> None:
    device = bench.device()
    spec = domain(device)
    bench.hypervisor.ensure(spec, [device])
    changed = bench.hypervisor.ensure(dataclasses.replace(spec, vgpus=(), vcpus=2), [])
    assert changed.vgpus == ()
    assert changed.power_state is PowerState.RUNNING
    other = domain(device)
    assert bench.hypervisor.ensure(other, [device]).power_state is PowerState.RUNNING, "the device was let go"


@pytest.mark.parametrize("running", [True, False])
def test_a_domain_stands_or_runs_as_asked(bench: Bench, running: bool) -> None:
    spec = domain(running=not running)
    bench.hypervisor.ensure(spec, [])
    report = bench.hypervisor.ensure(dataclasses.replace(spec, running=running), [])
    assert (report.power_state is PowerState.RUNNING) == running


@pytest.mark.parametrize(
    ("action", "from_off", "from_on"),
    [
        (PowerAction.ON, PowerState.RUNNING, PowerState.RUNNING),
        (PowerAction.OFF, PowerState.SHUTDOWN, PowerState.SHUTDOWN),
        (PowerAction.SOFT_REBOOT, PowerState.RUNNING, PowerState.RUNNING),
        (PowerAction.HARD_REBOOT, PowerState.RUNNING, PowerState.RUNNING),
    ],
)
def test_power(bench: Bench, action: PowerAction, from_off: PowerState, from_on: PowerState) -> None:
    for running, wanted in ((False, from_off), (True, from_on)):
        spec = domain(running=running)
        bench.hypervisor.ensure(spec, [])
        for _ in range(2):
            assert bench.hypervisor.set_power(spec.server_id, action).power_state is wanted


def test_a_pause(bench: Bench) -> None:
    device = bench.device()
    spec = domain(device)
    bench.hypervisor.ensure(spec, [device])
    for action, wanted in ((PowerAction.PAUSE, PowerState.PAUSED), (PowerAction.UNPAUSE, PowerState.RUNNING)):
        for _ in range(2):
            assert bench.hypervisor.set_power(spec.server_id, action).power_state is wanted
    bench.hypervisor.set_power(spec.server_id, PowerAction.PAUSE)
    with pytest.raises(HypervisorError, match="another domain holds its vGPU"):
        bench.hypervisor.ensure(domain(device), [device])
    assert bench.hypervisor.ensure(spec, [device]).power_state is PowerState.RUNNING, "one that shall run runs"
    bench.hypervisor.set_power(spec.server_id, PowerAction.PAUSE)
    bench.hypervisor.set_power(spec.server_id, PowerAction.OFF)
    for action in (PowerAction.PAUSE, PowerAction.UNPAUSE):
        with pytest.raises(HypervisorError, match="not running"):
            bench.hypervisor.set_power(spec.server_id, action)


def test_a_suspended_domain_goes_on(bench: Bench) -> None:
    device = bench.device()
    spec = domain()
    bench.hypervisor.ensure(spec, [])
    for _ in range(2):
        assert bench.hypervisor.suspend(spec.server_id).power_state is PowerState.SUSPENDED
    assert bench.hypervisor.ensure(dataclasses.replace(spec, running=False), []).power_state is PowerState.SUSPENDED
    for _ in range(2):
        report = bench.hypervisor.resume(dataclasses.replace(spec, vgpus=(device.uuid,)), [device])
        assert (report.power_state, report.vgpus) == (PowerState.RUNNING, (device.uuid,))
    with pytest.raises(HypervisorError, match="another domain holds its vGPU"):
        bench.hypervisor.ensure(domain(device), [device])


def test_the_vgpus_of_a_suspended_domain_stay_its_own(bench: Bench) -> None:
    """A guest that does not let them go runs on with them."""
    device = bench.device()
    spec = domain(device)
    bench.hypervisor.ensure(spec, [device])
    for _ in range(2):
        if bench.guest_lets_go:
            report = bench.hypervisor.suspend(spec.server_id)
            assert (report.power_state, report.vgpus) == (PowerState.SUSPENDED, (device.uuid,))
        else:
            with pytest.raises(HypervisorError, match="does not let its vGPU"):
                bench.hypervisor.suspend(spec.server_id)
    report = bench.hypervisor.resume(spec, [device])
    assert (report.power_state, report.vgpus) == (PowerState.RUNNING, (device.uuid,))
    with pytest.raises(HypervisorError, match="another domain holds its vGPU"):
        bench.hypervisor.ensure(domain(device), [device])


def test_a_domain_does_not_go_on_without_its_device(bench: Bench) -> None:
    device = bench.device()
    spec = domain()
    bench.hypervisor.ensure(spec, [])
    bench.hypervisor.suspend(spec.server_id)
    missing = Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid())
    with pytest.raises(DeviceMissing):
        bench.hypervisor.resume(dataclasses.replace(spec, vgpus=(missing.uuid,)), [missing])
    other = domain(device)
    bench.hypervisor.ensure(other, [device])
    with_it = dataclasses.replace(spec, vgpus=(device.uuid,))
    with pytest.raises(HypervisorError, match="another domain holds its vGPU"):
        bench.hypervisor.resume(with_it, [device])
    bench.hypervisor.remove(other.server_id)
    assert bench.hypervisor.resume(with_it, [device]).power_state is PowerState.RUNNING


@pytest.mark.parametrize("action", [PowerAction.ON, PowerAction.OFF, PowerAction.HARD_REBOOT])
def test_power_forgets_what_was_suspended(bench: Bench, action: PowerAction) -> None:
    spec = domain()
    bench.hypervisor.ensure(spec, [])
    bench.hypervisor.suspend(spec.server_id)
    wanted = PowerState.SHUTDOWN if action is PowerAction.OFF else PowerState.RUNNING
    assert bench.hypervisor.set_power(spec.server_id, action).power_state is wanted
    bench.hypervisor.set_power(spec.server_id, PowerAction.OFF)
    with pytest.raises(HypervisorError, match="its memory was not kept"):
        bench.hypervisor.resume(spec, [])
    with pytest.raises(HypervisorError, match="not running"):
        bench.hypervisor.suspend(spec.server_id)


def test_a_suspended_domain_can_be_removed(bench: Bench) -> None:
    spec = domain()
    bench.hypervisor.ensure(spec, [])
    bench.hypervisor.suspend(spec.server_id)
    bench.hypervisor.remove(spec.server_id)
    assert bench.hypervisor.domains() == []
    with pytest.raises(HypervisorError, match="There is no domain of server"):
        bench.hypervisor.suspend(spec.server_id)
    with pytest.raises(HypervisorError, match="There is no domain of server"):
        bench.hypervisor.resume(spec, [])


def test_a_domain_is_awaited(bench: Bench) -> None:
    """What arrives is not made here: it is off until then, and cannot be sent on."""
    spec = domain()
    for _ in range(2):
        bench.hypervisor.expect(spec, [])
        (there,) = bench.hypervisor.domains()
        assert (there.server_id, there.power_state) == (spec.server_id, PowerState.SHUTDOWN)
    assert bench.hypervisor.transfer(spec.server_id).power_state is PowerState.SHUTDOWN
    with pytest.raises(HypervisorError, match="not running"):
        bench.hypervisor.send(spec.server_id, Landing("nowhere", "nowhere.invalid", ""))
    assert bench.hypervisor.transfer(ids.new_uuid()) == bench.hypervisor.stop_transfer(ids.new_uuid()) == Transfer(False, None)


def test_a_move_that_comes_to_nothing_leaves_the_domain_running(bench: Bench) -> None:
    device = bench.device()
    spec = domain()
    landing = dataclasses.replace(bench.hypervisor.expect(spec, []), host="nowhere", address="nowhere.invalid")
    bench.hypervisor.ensure(spec, [])
    with contextlib.suppress(HypervisorError):  # told at once, or once it was tried
        bench.hypervisor.send(spec.server_id, landing)
    while bench.hypervisor.transfer(spec.server_id).running:
        time.sleep(0.1)
    for _ in range(2):
        assert bench.hypervisor.stop_transfer(spec.server_id).power_state is PowerState.RUNNING
    with pytest.raises(HypervisorError, match="There is no domain of server"):
        bench.hypervisor.send(ids.new_uuid(), landing)
    bench.hypervisor.remove(spec.server_id)
    assert bench.hypervisor.ensure(domain(device), [device]).power_state is PowerState.RUNNING


def test_power_of_no_domain(bench: Bench) -> None:
    with pytest.raises(HypervisorError, match="There is no domain of server"):
        bench.hypervisor.set_power(ids.new_uuid(), PowerAction.ON)


def test_removing_is_done_once_and_may_be_asked_again(bench: Bench) -> None:
    device = bench.device()
    spec = domain(device)
    bench.hypervisor.ensure(spec, [device])
    for _ in range(2):
        bench.hypervisor.remove(spec.server_id)
        assert bench.hypervisor.domains() == []
    bench.hypervisor.ensure(domain(device), [device])


def test_a_running_domain_keeps_its_device_from_others(bench: Bench) -> None:
    device = bench.device()
    holder, other = domain(device), domain(device)
    bench.hypervisor.ensure(holder, [device])
    with pytest.raises(HypervisorError, match="another domain holds its vGPU"):
        bench.hypervisor.ensure(other, [device])
    bench.hypervisor.set_power(holder.server_id, PowerAction.OFF)
    assert bench.hypervisor.set_power(other.server_id, PowerAction.ON).power_state is PowerState.RUNNING
    with pytest.raises(HypervisorError, match="another domain holds its vGPU"):
        bench.hypervisor.set_power(holder.server_id, PowerAction.ON)


def test_no_domain_starts_without_its_device(bench: Bench) -> None:
    missing = Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid())
    spec = domain(missing)
    with pytest.raises(DeviceMissing, match=r"cannot start: its vGPU .* does not exist"):
        bench.hypervisor.ensure(spec, [missing])
    with pytest.raises(DeviceMissing):
        bench.hypervisor.set_power(spec.server_id, PowerAction.ON)
    assert all(d.power_state is PowerState.SHUTDOWN for d in bench.hypervisor.domains())


def test_domains_of_others_are_shown_and_left_alone(bench: Bench) -> None:
    uuid = ids.new_uuid()
    bench.define_foreign(uuid, "theirs")
    (report,) = bench.hypervisor.domains()
    assert (report.uuid, report.server_id, report.name) == (uuid, None, "theirs")
    bench.hypervisor.remove(uuid)
    with pytest.raises(HypervisorError):
        bench.hypervisor.set_power(uuid, PowerAction.OFF)
    with pytest.raises(HypervisorError):
        bench.hypervisor.ensure(dataclasses.replace(domain(), server_id=uuid), [])
    assert bench.hypervisor.domains() == [report]


def test_the_console_of_a_domain(bench: Bench) -> None:
    spec = domain()
    bench.hypervisor.ensure(spec, [])
    said = bench.hypervisor.console_output(spec.server_id, None)
    assert bench.hypervisor.console_output(spec.server_id, 0) == ""
    assert said.endswith(bench.hypervisor.console_output(spec.server_id, 1))
    for ask in (lambda: bench.hypervisor.console_output(ids.new_uuid(), None), lambda: bench.hypervisor.console(ids.new_uuid())):
        with pytest.raises(HypervisorError, match="There is no domain of server"):
            ask()


def test_a_network_that_the_host_lacks(bench: Bench) -> None:
    spec = dataclasses.replace(domain(), nics=(Nic("nowhere", "fa:16:3e:00:00:01"),))
    with pytest.raises(HypervisorError, match="no network 'nowhere'"):
        bench.hypervisor.ensure(spec, [])
    assert bench.hypervisor.domains() == []


def test_a_disk_is_made_anew(bench: Bench) -> None:
    spec = domain()
    with pytest.raises(HypervisorError, match="There is no domain of server"):
        bench.hypervisor.renew_disk(spec)
    bench.hypervisor.ensure(spec, [])
    with pytest.raises(HypervisorError, match="in use by its running domain"):
        bench.hypervisor.renew_disk(spec)
    bench.hypervisor.set_power(spec.server_id, PowerAction.OFF)
    for _ in range(2):
        bench.hypervisor.renew_disk(spec)
    assert bench.hypervisor.ensure(spec, []).power_state is PowerState.RUNNING


def test_the_disk_of_a_running_domain_is_copied(bench: Bench) -> None:
    device = bench.device()
    spec = domain(device)
    bench.hypervisor.ensure(spec, [device])
    for _ in range(2):
        with bench.hypervisor.pack_disk(spec.server_id) as disk:
            assert disk is not None
            assert disk.stat().st_size > 0
        assert not disk.exists()
    (there,) = bench.hypervisor.domains()
    assert (there.power_state, there.vgpus) == (PowerState.RUNNING, (device.uuid,))


def test_a_disk_is_carried_over(bench: Bench, tmp_path: Path) -> None:
    """Packed on one host and placed on another, here the same one without the domain."""
    spec = domain(running=False)
    bench.hypervisor.ensure(spec, [])
    with bench.hypervisor.pack_disk(spec.server_id) as packed:
        assert packed is not None
        content = packed.read_bytes()
    bench.hypervisor.remove(spec.server_id)
    with bench.hypervisor.pack_disk(spec.server_id) as nothing:
        assert nothing is None
    with contextlib.suppress(ZeroDivisionError), bench.hypervisor.place_disk(spec.server_id) as broken_off:
        broken_off.write_bytes(b"half")
        raise ZeroDivisionError
    with bench.hypervisor.pack_disk(spec.server_id) as nothing:
        assert nothing is None, "what arrived in part is no disk"
    with bench.hypervisor.place_disk(spec.server_id) as placed:
        placed.write_bytes(content)
    bench.hypervisor.ensure(dataclasses.replace(spec, running=True), [])
    bench.hypervisor.set_power(spec.server_id, PowerAction.OFF)
    with bench.hypervisor.pack_disk(spec.server_id) as again:
        assert again is not None
        assert again.read_bytes() == content
    bench.hypervisor.remove(spec.server_id)
    with bench.hypervisor.pack_disk(spec.server_id) as nothing:
        assert nothing is None, "a disk goes with its domain"


def test_a_domain_that_is_off_has_the_devices_it_is_given(bench: Bench) -> None:
    first, second = bench.device(), bench.device()
    spec = dataclasses.replace(domain(first), running=False)
    bench.hypervisor.ensure(spec, [first])
    for devices in ([first, second], [second], []):
        fitted = dataclasses.replace(spec, vgpus=tuple(device.uuid for device in devices))
        for _ in range(2):
            report = bench.hypervisor.fit(fitted, devices)
            assert (report.power_state, set(report.vgpus)) == (PowerState.SHUTDOWN, set(fitted.vgpus))
    assert bench.hypervisor.ensure(domain(first), [first]).power_state is PowerState.RUNNING, "it is free again"


def test_a_domain_that_runs_is_given_a_device_and_goes_on(bench: Bench) -> None:
    first, second = bench.device(), bench.device()
    spec = domain(first)
    bench.hypervisor.ensure(spec, [first])
    both = dataclasses.replace(spec, vgpus=(first.uuid, second.uuid))
    for _ in range(2):
        report = bench.hypervisor.fit(both, [first, second])
        assert (report.power_state, set(report.vgpus)) == (PowerState.RUNNING, {first.uuid, second.uuid})
    with pytest.raises(HypervisorError, match="another domain holds its vGPU"):
        bench.hypervisor.ensure(domain(second), [second])
    for _ in range(2):
        if bench.guest_lets_go:
            assert bench.hypervisor.fit(spec, [first]).vgpus == (first.uuid,)
        else:
            with pytest.raises(HypervisorError, match="does not let its vGPU"):
                bench.hypervisor.fit(spec, [first])
            assert set(bench.hypervisor.fit(both, [first, second]).vgpus) == {first.uuid, second.uuid}
    missing = Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid())
    with pytest.raises(DeviceMissing):
        bench.hypervisor.fit(dataclasses.replace(spec, vgpus=(first.uuid, missing.uuid)), [first, missing])
    assert bench.hypervisor.ensure(spec, [first]).power_state is PowerState.RUNNING


def test_a_suspended_domain_keeps_the_devices_it_has(bench: Bench) -> None:
    device = bench.device()
    spec = domain()
    with pytest.raises(HypervisorError, match="There is no domain of server"):
        bench.hypervisor.fit(spec, [])
    bench.hypervisor.ensure(spec, [])
    bench.hypervisor.suspend(spec.server_id)
    with pytest.raises(HypervisorError, match="suspended"):
        bench.hypervisor.fit(dataclasses.replace(spec, vgpus=(device.uuid,)), [device])
