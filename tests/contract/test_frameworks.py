"""The ways of making vGPUs, each through the `Sysfs` port: the same promises for all of them."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.agent.frameworks.framework import CLEAR_TRIES, Found, FrameworkPort, discover
from lamina.agent.frameworks.vfio import parse_creatable
from lamina.agent.sysfs import LocalSysfs
from lamina.model import ids
from lamina.model.errors import DeviceRefused
from lamina.model.gpus import GpuSettings, Partitioning, VgpuType
from lamina.model.ids import PciAddress
from tests.contract.machines import (
    FIRST,
    KINDS,
    NOWHERE,
    FailingSysfs,
    StillClock,
    TestMachine,
    any_machine,
    copy_tree,
    framework_on,
    switched_on,
)

#: facts of types that vendor-specific VFIO does not tell, as an operator gives them
SAID = (VgpuType("11", "nvidia-11", 512, 4), VgpuType("12", "nvidia-12", 1024, 2))


@dataclasses.dataclass
class Bench:
    machine: TestMachine
    framework: FrameworkPort
    clock: StillClock

    @property
    def kind(self) -> str:
        return self.machine.kind

    @property
    def first(self) -> PciAddress:
        return self.machine.first

    def found(self, address: PciAddress | None = None) -> Found:
        found = self.framework.read(GpuSettings(address or self.first, types=SAID))
        assert found is not None
        return found

    def make(self, name: str = "nvidia-11", nth: int = 0) -> tuple[str, PciAddress]:
        found, uuid = self.found(), ids.new_uuid()
        parent = found.parents[min(nth, len(found.parents) - 1)]
        self.framework.create(uuid, parent, found.gpu.type_named(name))
        return uuid, parent


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    clock = StillClock()
    with any_machine(request.param, tmp_path, clock) as machine:
        yield Bench(machine, framework_on(request.param, machine.sysfs, clock), clock)


# ------------------------------------------------------------------------------------------------ finding GPUs


def test_each_gpu_is_found_once_with_its_facts(bench: Bench) -> None:
    discovery = discover(bench.framework, {a: GpuSettings(a, types=SAID) for a in (bench.first, bench.machine.second)})
    assert discovery.problems == ()
    assert [f.gpu.address for f in discovery.gpus] == [bench.first, bench.machine.second]
    for found in discovery.gpus:
        gpu = found.gpu
        assert [(t.name, t.framebuffer_mb, t.max_instances) for t in gpu.types] == [("nvidia-11", 512, 4), ("nvidia-12", 1024, 2)]
        assert gpu.enabled_types == ("nvidia-11", "nvidia-12")
        assert gpu.partitioning is Partitioning.SAME_SIZE
        assert gpu.framework is bench.framework.framework
        assert gpu.virtual_functions == (None if bench.kind == "mdev" else 6)
        assert len(found.parents) == (gpu.virtual_functions or 1)
        assert found.devices == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_of_ordinary_files_reads_the_same(kind: str, tmp_path: Path) -> None:
    """The simulated kernel's files laid out on a file system, read by what reads the kernel's."""
    clock = StillClock()
    kernel = switched_on(kind, tmp_path, clock).kernel
    simulated = framework_on(kind, kernel, clock)
    found = simulated.read(GpuSettings(FIRST, types=SAID))
    assert found is not None
    simulated.create(ids.new_uuid(), found.parents[0], found.gpu.types[0])
    copy_tree(kernel, tmp_path / "root")
    local = framework_on(kind, LocalSysfs(tmp_path / "root"), clock)
    assert local.read(GpuSettings(FIRST, types=SAID)) == simulated.read(GpuSettings(FIRST, types=SAID))
    assert local.addresses() == simulated.addresses()


def test_no_gpu_where_there_is_none(bench: Bench) -> None:
    assert bench.framework.read(GpuSettings(NOWHERE)) is None
    function = bench.found().parents[0]
    if function != bench.first:
        assert bench.framework.read(GpuSettings(function)) is None, "a virtual function is no GPU"


def test_a_machine_without_any_gpu(bench: Bench, tmp_path: Path) -> None:
    empty = framework_on(bench.kind, LocalSysfs(tmp_path / "empty"), bench.clock)
    assert discover(empty, {}) == discover(empty, {bench.first: GpuSettings(bench.first)})
    assert discover(empty, {}).gpus == ()
    assert discover(empty, {}).problems == ()


def test_the_operators_words_choose_types_and_their_order(bench: Bench) -> None:
    settings = GpuSettings(bench.first, enabled_types=("nvidia-12", "nvidia-99", "nvidia-12", "nvidia-11"), types=SAID, max_instances=3)
    found = bench.framework.read(settings)
    assert found is not None
    assert found.gpu.enabled_types == ("nvidia-12", "nvidia-11")
    assert found.gpu.max_instances == 3
    assert found.problems == (f"GPU {bench.first} does not offer the enabled type 'nvidia-99'",)


def test_a_gpu_with_no_type_enabled_is_still_shown(bench: Bench) -> None:
    found = bench.framework.read(GpuSettings(bench.first, enabled_types=(), types=SAID))
    assert found is not None
    assert found.gpu.enabled_types == ()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EIO], ids=errno.errorcode.get)
def test_a_gpu_that_vanishes_while_it_is_read_leaves_the_others(bench: Bench, number: int) -> None:
    sysfs = FailingSysfs(bench.machine.sysfs, f"{bench.first}/vendor", number)
    discovery = discover(framework_on(bench.kind, sysfs, bench.clock), {})
    assert [f.gpu.address for f in discovery.gpus] == [bench.machine.second]
    assert discovery.problems == (f"GPU {bench.first} cannot be read: off the bus",)


def test_facts_do_not_change_with_use(bench: Bench) -> None:
    """Busy VFs list nothing, and siblings of another size are listed no more: the card still is what it is."""
    before = bench.found().gpu
    for nth in range(4):
        bench.make(nth=nth)
    assert bench.found().gpu == before


# ------------------------------------------------------------------------------------------------ making and removing


def test_what_is_made_is_there_and_what_is_removed_is_not(bench: Bench) -> None:
    uuid, parent = bench.make()
    type_id = bench.found().gpu.type_named("nvidia-11").id
    assert bench.framework.type_id_of(uuid, parent) == type_id
    (device,) = bench.found().devices
    assert (device.parent, device.type, device.type_id) == (parent, "nvidia-11", type_id)
    assert device.uuid == (None if bench.kind == "vfio" else uuid)
    assert bench.framework.devices(bench.found()) == (device,)
    assert list(bench.machine.standing()) == [bench.framework.handle(uuid, parent)]
    bench.framework.remove(uuid, parent)
    assert bench.framework.type_id_of(uuid, parent) is None
    assert bench.found().devices == ()
    assert bench.machine.standing() == {}


def test_removing_twice_or_what_never_was(bench: Bench) -> None:
    uuid, parent = bench.make()
    bench.framework.remove(uuid, parent)
    bench.framework.remove(uuid, parent)
    bench.framework.remove(ids.new_uuid(), parent)
    bench.framework.remove(uuid, NOWHERE)
    assert bench.framework.type_id_of(uuid, NOWHERE) is None
    assert bench.clock.slept == 0


def test_one_vgpu_lowers_what_is_available(bench: Bench) -> None:
    assert bench.found().available == {"mdev": {"nvidia-11": 4, "nvidia-12": 2}}.get(bench.kind, {"nvidia-11": 6, "nvidia-12": 6})
    bench.make()
    assert bench.found().available == {"mdev": {"nvidia-11": 3, "nvidia-12": 0}}.get(bench.kind, {"nvidia-11": 5, "nvidia-12": 0})


@pytest.mark.parametrize(("first", "then", "nth"), [("nvidia-12", "nvidia-11", 1), ("nvidia-11", "nvidia-12", 1)])
def test_another_size_is_refused_in_the_drivers_words(bench: Bench, first: str, then: str, nth: int) -> None:
    bench.make(first)
    with pytest.raises(DeviceRefused, match=f"refused to make a vGPU of type {then} on {str(bench.first)[:7]}") as caught:
        bench.make(then, nth=nth)
    assert caught.value.errno == (errno.EIO if bench.kind == "vfio" else errno.EINVAL)
    assert len(bench.machine.standing()) == 1


def test_a_full_gpu_refuses_and_its_neighbour_does_not(bench: Bench) -> None:
    for nth in range(4):
        bench.make(nth=nth)
    with pytest.raises(DeviceRefused):
        bench.make(nth=4)
    other = bench.found(bench.machine.second)
    bench.framework.create(ids.new_uuid(), other.parents[0], other.gpu.types[0])
    assert len(bench.machine.standing()) == 5


def test_a_gpu_that_is_gone_refuses(bench: Bench) -> None:
    with pytest.raises(DeviceRefused, match="ENOENT"):
        bench.framework.create(ids.new_uuid(), NOWHERE, bench.found().gpu.types[0])


class Busy:
    """A kernel that is busy for the first so many clearings."""

    def __init__(self, times: int, number: int) -> None:
        self.left = times
        self.number = number

    def __call__(self, path: str, text: str) -> None:
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number), path)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN], ids=errno.errorcode.get)
def test_a_device_that_is_busy_for_a_while_is_waited_for(bench: Bench, number: int) -> None:
    uuid, parent = bench.make()
    bench.machine.sysfs.before_write = Busy(CLEAR_TRIES - 1, number)
    bench.framework.remove(uuid, parent)
    assert bench.machine.standing() == {}
    assert bench.clock.slept == CLEAR_TRIES - 1


def test_a_device_that_stays_busy_is_told_and_stays(bench: Bench) -> None:
    uuid, parent = bench.make()
    bench.machine.sysfs.before_write = Busy(CLEAR_TRIES, errno.EBUSY)
    with pytest.raises(DeviceRefused, match="EBUSY") as caught:
        bench.framework.remove(uuid, parent)
    assert caught.value.errno == errno.EBUSY
    assert len(bench.machine.standing()) == 1


def test_another_refusal_is_not_waited_for(bench: Bench) -> None:
    uuid, parent = bench.make()
    bench.machine.sysfs.before_write = Busy(1, errno.EPERM)
    with pytest.raises(DeviceRefused, match="EPERM"):
        bench.framework.remove(uuid, parent)
    assert bench.clock.slept == 0


def test_an_error_after_which_nothing_stands_is_none(bench: Bench) -> None:
    uuid, parent = bench.make()
    bench.machine.sysfs.after_write = Busy(1, errno.EINTR)
    bench.framework.remove(uuid, parent)
    assert bench.machine.standing() == {}


# ------------------------------------------------------------------------------------------------ what drivers write


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("", {}),
        ("ID    : vGPU Name\n", {}),
        ("ID  : vGPU Name\n557 : NVIDIA A40-1Q\n", {"557": "NVIDIA A40-1Q"}),
        ("ID    : vGPU Name\n1147  : NVIDIA L40S-1Q\n1148  : NVIDIA L40S-2Q", {"1147": "NVIDIA L40S-1Q", "1148": "NVIDIA L40S-2Q"}),
        ("ID:vGPU Name\n  9:GRID T4-1Q: odd  \n", {"9": "GRID T4-1Q: odd"}),
        ("ID : vGPU Name\nx : NVIDIA A40-1Q\n12 :\n: NVIDIA A40-1Q\n\u0661 : NVIDIA A40-1Q\n\n", {}),
    ],
)
def test_the_table_of_creatable_types(text: str, types: dict[str, str]) -> None:
    assert parse_creatable(text) == types


def local_vfio(root: Path, creatable: str, current: str = "0\n", device: str = "26b9") -> FrameworkPort:
    """A GPU with one VF as ordinary files, with what its driver says."""
    function = FIRST.virtual_function(0)
    devices = root / "sys/bus/pci/devices"
    (devices / str(FIRST)).mkdir(parents=True)
    (devices / str(function) / "nvidia").mkdir(parents=True)
    (devices / str(FIRST) / "virtfn0").symlink_to(devices / str(function))
    (devices / str(function) / "physfn").symlink_to(devices / str(FIRST))
    for name, text in (("vendor", "0x10de\n"), ("device", f"0x{device}\n")):
        (devices / str(FIRST) / name).write_text(text)
    (devices / str(function) / "nvidia/creatable_vgpu_types").write_text(creatable)
    (devices / str(function) / "nvidia/current_vgpu_type").write_text(current)
    return framework_on("vfio", LocalSysfs(root), StillClock())


@pytest.mark.parametrize("creatable", ["", "ID    : vGPU Name\n"])
def test_a_card_of_the_catalog_is_known_without_a_list(tmp_path: Path, creatable: str) -> None:
    found = local_vfio(tmp_path, creatable, current="1150\n").read(GpuSettings(FIRST))
    assert found is not None
    assert found.gpu.model == "NVIDIA L40S"
    assert found.gpu.type_named("NVIDIA L40S-4Q").max_instances == 12
    assert [d.type for d in found.devices] == ["NVIDIA L40S-4Q"]


def test_the_drivers_number_wins_over_the_catalogs(tmp_path: Path) -> None:
    found = local_vfio(tmp_path, "ID : vGPU Name\n2000 : GRID L40S-4C\n").read(GpuSettings(FIRST))
    assert found is not None
    assert found.gpu.type_named("NVIDIA L40S-4C").id == "2000"
    assert sum(t.framebuffer_mb == 4096 and t.series == "C" for t in found.gpu.types) == 1
    assert found.available["NVIDIA L40S-4C"] == 1


def test_a_type_said_by_name_takes_the_drivers_number(tmp_path: Path) -> None:
    said = VgpuType("", "Special", 4096, 3)
    found = local_vfio(tmp_path, "ID : vGPU Name\n70 : Special\n", device="0001").read(GpuSettings(FIRST, types=(said,)))
    assert found is not None
    assert found.gpu.types == (dataclasses.replace(said, id="70"),)


def test_a_card_that_nobody_knows_is_known_by_its_list(tmp_path: Path) -> None:
    found = local_vfio(tmp_path, "ID : vGPU Name\n7 : NVIDIA Z9-8Q\n8 : Something else\n", device="0001").read(GpuSettings(FIRST))
    assert found is not None
    assert found.gpu.model == "PCI 10de:0001"
    assert [(t.id, t.name, t.framebuffer_mb) for t in found.gpu.types] == [("7", "NVIDIA Z9-8Q", 8192)]


def test_files_that_hold_nonsense_are_a_sentence(tmp_path: Path) -> None:
    framework = local_vfio(tmp_path, "")
    (tmp_path / "sys/bus/pci/devices" / str(FIRST) / "numa_node").write_text("many\n")
    discovery = discover(framework, {})
    assert discovery.gpus == ()
    assert discovery.problems[0].startswith("GPU 0000:81:00.0 cannot be read: ")


def local_mdev(root: Path, files: dict[str, str]) -> FrameworkPort:
    """A GPU with one type as ordinary files."""
    device = root / "sys/bus/pci/devices" / str(FIRST)
    folder = device / "mdev_supported_types/nvidia-222"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    for name, text in (("vendor", "0x10de\n"), ("device", "0x1eb8\n")):
        (device / name).write_text(text)
    parents = root / "sys/class/mdev_bus"
    parents.mkdir(parents=True)
    (parents / str(FIRST)).symlink_to(device)
    (parents / "mtty").symlink_to(device)
    return framework_on("mdev", LocalSysfs(root), StillClock())


DESCRIPTION = "num_heads=4, frl_config=60, framebuffer=2048M, max_resolution=7680x4320, max_instance=8\n"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"name": "GRID T4-2Q\n", "description": DESCRIPTION, "available_instances": "8\n"}, ("GRID T4-2Q", 2048, 8)),
        ({"name": "GRID T4-2Q\n", "available_instances": "8\n"}, ("GRID T4-2Q", 2048, 8)),
        ({"description": DESCRIPTION, "available_instances": "3\n"}, ("nvidia-222", 2048, 8)),
        ({"name": "\n", "available_instances": "3\n"}, ("nvidia-222", 1, 3)),
    ],
    ids=["all", "no-description", "no-name", "hardly-anything"],
)
def test_a_types_files_are_optional(tmp_path: Path, files: dict[str, str], wanted: tuple[str, int, int]) -> None:
    found = local_mdev(tmp_path, files).read(GpuSettings(FIRST))
    assert found is not None
    assert [(t.name, t.framebuffer_mb, t.max_instances) for t in found.gpu.types] == [wanted]
    assert found.gpu.model == "NVIDIA T4"


def test_parents_that_are_no_pci_devices_are_passed_over(tmp_path: Path) -> None:
    framework = local_mdev(tmp_path, {"available_instances": "1\n"})
    assert framework.addresses() == [FIRST]
