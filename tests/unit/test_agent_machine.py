"""The simulated machine: the kernel's refusals, and what it keeps over a kill, a reboot and an exchange of cards."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.agent.simulated.host import SimulatedHost, simulated_host
from lamina.agent.simulated.machine import MachineDomain
from lamina.model import ids
from lamina.model.errors import Conflict
from lamina.model.hosts import PowerState
from tests.contract.machines import FIRST, KINDS, StillClock, described, plant_foreign, standing, switched_on

PARENTS = "/sys/class/mdev_bus"
PCI = "/sys/bus/pci/devices"
FUNCTION = FIRST.virtual_function(0)
UUID = "8f0c6d2e-52f4-4a1b-9b8e-0d4f7f1f7a10"


def refused(number: int, act: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        act()
    assert caught.value.errno == number


def run_with(host: SimulatedHost, handle: str) -> None:
    """A running domain that holds a device."""
    host.machine.state.domains[ids.new_uuid()] = MachineDomain("d", 1, 512, 1, None, {handle: handle}, PowerState.RUNNING, ours=False)


# ------------------------------------------------------------------------------------------------ mediated devices


@pytest.fixture
def mdev(tmp_path: Path) -> SimulatedHost:
    return switched_on("mdev", tmp_path)


def create(host: SimulatedHost, text: str, type_id: str = "nvidia-11") -> None:
    host.kernel.write(f"{PARENTS}/{FIRST}/mdev_supported_types/{type_id}/create", text)


@pytest.mark.parametrize("text", [UUID, UUID + "\n", UUID.upper()])
def test_an_mdev_appears_in_every_place(mdev: SimulatedHost, text: str) -> None:
    create(mdev, text)
    assert mdev.kernel.list("/sys/bus/mdev/devices") == [UUID]
    assert mdev.kernel.link(f"/sys/bus/mdev/devices/{UUID}") == UUID
    assert mdev.kernel.link(f"{PARENTS}/{FIRST}/{UUID}/mdev_type") == "nvidia-11"
    assert UUID in mdev.kernel.list(f"{PCI}/{FIRST}")


@pytest.mark.parametrize("text", ["", "x", UUID + " ", UUID + "\n\n", UUID[:-1], UUID.replace("-", ""), "g" + UUID[1:], " " + UUID[1:]])
def test_a_malformed_uuid(mdev: SimulatedHost, text: str) -> None:
    refused(errno.EINVAL, lambda: create(mdev, text))
    assert standing(mdev) == {}


def test_a_uuid_that_is_taken_anywhere_on_the_host(mdev: SimulatedHost) -> None:
    create(mdev, UUID)
    refused(errno.EEXIST, lambda: create(mdev, UUID))


def test_availability_follows_the_size_in_use(mdev: SimulatedHost) -> None:
    def available() -> list[str]:
        return [mdev.kernel.read(f"{PARENTS}/{FIRST}/mdev_supported_types/{t}/available_instances") for t in ("nvidia-11", "nvidia-12")]

    assert available() == ["4\n", "2\n"]
    create(mdev, UUID)
    assert available() == ["3\n", "0\n"]
    mdev.kernel.write(f"/sys/bus/mdev/devices/{UUID}/remove", "1")
    assert available() == ["4\n", "2\n"]


@pytest.mark.parametrize(("partitioning", "number"), [("same-size", errno.EINVAL), ("shared-pool", errno.ENOSPC)])
def test_a_full_card_refuses_as_its_driver_does(tmp_path: Path, partitioning: str, number: int) -> None:
    host = simulated_host(described("mdev", partitioning), tmp_path, StillClock())
    for _ in range(2):
        create(host, ids.new_uuid(), "nvidia-12")
    refused(number, lambda: create(host, ids.new_uuid(), "nvidia-12"))


def test_a_pool_takes_sizes_side_by_side(tmp_path: Path) -> None:
    host = simulated_host(described("mdev", "shared-pool"), tmp_path, StillClock())
    create(host, ids.new_uuid(), "nvidia-12")
    create(host, ids.new_uuid(), "nvidia-11")
    assert host.kernel.read(f"{PARENTS}/{FIRST}/mdev_supported_types/nvidia-11/available_instances") == "1\n"
    assert host.kernel.read(f"{PCI}/{FIRST}/vendor") != "0x10de\n", "NVIDIA's cards do not do this"


@pytest.mark.parametrize("text", ["0", "x", ""])
def test_removing_takes_a_number(mdev: SimulatedHost, text: str) -> None:
    create(mdev, UUID)
    refused(errno.EINVAL, lambda: mdev.kernel.write(f"/sys/bus/mdev/devices/{UUID}/remove", text))
    assert list(standing(mdev)) == [UUID]


def test_an_mdev_in_use_stays(mdev: SimulatedHost) -> None:
    create(mdev, UUID)
    run_with(mdev, UUID)
    refused(errno.EBUSY, lambda: mdev.kernel.write(f"/sys/bus/mdev/devices/{UUID}/remove", "1"))
    assert list(standing(mdev)) == [UUID]


def test_files_that_are_only_written_or_only_read(mdev: SimulatedHost) -> None:
    folder = f"{PARENTS}/{FIRST}/mdev_supported_types/nvidia-11"
    refused(errno.EACCES, lambda: mdev.kernel.read(f"{folder}/create"))
    refused(errno.EACCES, lambda: mdev.kernel.write(f"{folder}/available_instances", "9"))


def test_a_function_takes_one_mdev(tmp_path: Path) -> None:
    host = switched_on("mdev-on-vf", tmp_path)
    plant_foreign(host, FUNCTION, "nvidia-11")
    refused(errno.EINVAL, lambda: plant_foreign(host, FUNCTION, "nvidia-11"))
    assert str(FIRST) not in host.kernel.list(PARENTS), "with its functions enabled the card itself is no parent"


# ------------------------------------------------------------------------------------------------ vendor-specific VFIO


@pytest.fixture
def vfio(tmp_path: Path) -> SimulatedHost:
    return switched_on("vfio", tmp_path)


def nvidia(name: str, index: int = 0) -> str:
    return f"{PCI}/{FIRST.virtual_function(index)}/nvidia/{name}"


def test_there_is_no_mdev_bus(vfio: SimulatedHost) -> None:
    assert not vfio.kernel.exists("/sys/class/mdev_bus")
    assert not vfio.kernel.exists("/sys/bus/mdev")
    assert not vfio.kernel.exists(f"{PCI}/{FIRST}/nvidia"), "only functions have it"


def test_the_list_shrinks_with_the_siblings_and_is_empty_on_a_busy_function(vfio: SimulatedHost) -> None:
    header = "ID    : vGPU Name\n"
    assert vfio.kernel.read(nvidia("creatable_vgpu_types")) == header + "11    : nvidia-11\n12    : nvidia-12\n"
    vfio.kernel.write(nvidia("current_vgpu_type"), "12")
    assert vfio.kernel.read(nvidia("current_vgpu_type")) == "12\n"
    assert vfio.kernel.read(nvidia("creatable_vgpu_types")) == header
    assert vfio.kernel.read(nvidia("creatable_vgpu_types", 1)) == header + "12    : nvidia-12\n"
    vfio.kernel.write(nvidia("current_vgpu_type", 1), "12")
    assert vfio.kernel.read(nvidia("creatable_vgpu_types", 2)) == header


@pytest.mark.parametrize(("text", "number"), [("", errno.EINVAL), ("x", errno.EINVAL), ("-1", errno.EINVAL), ("99", errno.EINVAL)])
def test_a_type_that_is_none(vfio: SimulatedHost, text: str, number: int) -> None:
    refused(number, lambda: vfio.kernel.write(nvidia("current_vgpu_type"), text))
    assert standing(vfio) == {}


def test_no_type_follows_another_without_a_zero_in_between(vfio: SimulatedHost) -> None:
    vfio.kernel.write(nvidia("current_vgpu_type"), "11")
    for text in ("11", "12"):
        refused(errno.EIO, lambda text=text: vfio.kernel.write(nvidia("current_vgpu_type"), text))  # type: ignore[misc]
    vfio.kernel.write(nvidia("current_vgpu_type"), "0\n")
    vfio.kernel.write(nvidia("current_vgpu_type"), "12\n")
    assert list(standing(vfio).values()) == ["12"]


def test_a_function_in_use_stays(vfio: SimulatedHost) -> None:
    vfio.kernel.write(nvidia("current_vgpu_type"), "11")
    run_with(vfio, str(FUNCTION))
    refused(errno.EBUSY, lambda: vfio.kernel.write(nvidia("current_vgpu_type"), "0"))
    assert list(standing(vfio)) == [str(FUNCTION)]


def test_a_placement_is_told_once_there_is_a_vgpu(vfio: SimulatedHost) -> None:
    refused(errno.ENXIO, lambda: vfio.kernel.read(nvidia("placement_id")))
    vfio.kernel.write(nvidia("current_vgpu_type"), "12")
    vfio.kernel.write(nvidia("current_vgpu_type", 3), "12")
    assert [vfio.kernel.read(nvidia("placement_id", i)) for i in (0, 3)] == ["0\n", "1\n"]


def test_the_number_of_functions(vfio: SimulatedHost) -> None:
    assert vfio.kernel.read(f"{PCI}/{FIRST}/sriov_numvfs") == "6\n"
    assert len([n for n in vfio.kernel.list(f"{PCI}/{FIRST}") if n.startswith("virtfn")]) == 6


# ------------------------------------------------------------------------------------------------ what a machine keeps


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_goes_on_when_its_process_is_killed(kind: str, tmp_path: Path) -> None:
    host = switched_on(kind, tmp_path)
    handle = plant_foreign(host, FIRST if kind == "mdev" else FUNCTION, "11" if kind == "vfio" else "nvidia-11")
    boot_id = host.machine.state.boot_id
    again = switched_on(kind, tmp_path)
    assert list(standing(again)) == [handle]
    assert again.machine.state.boot_id == boot_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_reboot_takes_devices_and_keeps_definitions(kind: str, tmp_path: Path) -> None:
    host = switched_on(kind, tmp_path)
    handle = plant_foreign(host, FIRST if kind == "mdev" else FUNCTION, "11" if kind == "vfio" else "nvidia-11")
    run_with(host, handle)
    boot_id = host.machine.state.boot_id
    host.machine.reboot()
    for machine in (host.machine, switched_on(kind, tmp_path).machine):
        assert machine.state.boot_id != boot_id
        assert (machine.state.mdevs, machine.state.vf_types) == ({}, {})
        assert [d.power_state for d in machine.state.domains.values()] == [PowerState.SHUTDOWN]


def test_cards_are_exchanged_with_the_power_off(tmp_path: Path) -> None:
    before = switched_on("mdev", tmp_path)
    create(before, UUID)
    after = switched_on("vfio", tmp_path)
    assert standing(after) == {}
    assert after.machine.state.boot_id != before.machine.state.boot_id
    assert after.compute.report().problems == ()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_machine_is_an_error_that_names_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines/host.json").write_bytes(content)
    with pytest.raises(Conflict, match=r"The simulated machine .*host\.json is damaged"):
        switched_on("mdev", tmp_path)


def test_a_refused_write_changes_nothing_on_disk(vfio: SimulatedHost, tmp_path: Path) -> None:
    before = (tmp_path / "machines/host.json").read_bytes()
    refused(errno.EINVAL, lambda: vfio.kernel.write(nvidia("current_vgpu_type"), "99"))
    assert (tmp_path / "machines/host.json").read_bytes() == before
