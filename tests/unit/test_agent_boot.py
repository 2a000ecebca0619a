"""What a host brings back by itself after a boot: virtual functions, vGPUs of the journal, definitions of mdevs."""

from __future__ import annotations

import errno
import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lamina.agent import boards, virtual_functions
from lamina.agent.boards import Board, Nvml
from lamina.agent.commands import run
from lamina.agent.compute import ComputeService
from lamina.agent.definitions import Mdevctl
from lamina.agent.frameworks.mdev import Mdev
from lamina.agent.hypervisor import Capacity
from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.agent.journal import Journal
from lamina.agent.simulated.host import SimulatedHost
from lamina.model import ids
from lamina.model.errors import DeviceMissing, DeviceRefused, HostError
from lamina.model.gpus import Framework, Gpu, GpuSettings, Partitioning, VgpuType
from lamina.model.ids import PciAddress
from tests.contract.machines import FIRST, KINDS, NOWHERE, SECOND, StillClock, call, plant_foreign, spec, standing, switched_on

SERVER, OTHER = ids.new_uuid(), ids.new_uuid()


class FakeMdevctl:
    """mdevctl's definitions and its answers, as mdevctl 1.2 gives them."""

    def __init__(self) -> None:
        self.defined: dict[tuple[str, str], tuple[str, str]] = {}
        self.failing: str | None = None
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str]) -> str:
        assert argv[0] == "mdevctl"
        self.asked.append(tuple(argv[1:]))
        verb = argv[1]
        if verb == self.failing:
            raise HostError(f"mdevctl failed: cannot {verb}")
        if verb == "list":
            by_parent: dict[str, list[object]] = {}
            for (parent, uuid), (type_id, start) in self.defined.items():
                by_parent.setdefault(parent, []).append({uuid: {"mdev_type": type_id, "start": start, "attrs": []}})
            return json.dumps([by_parent] if by_parent else [])
        options = dict(itertools.pairwise(argv))
        key = (options["--parent"], options["--uuid"])
        if verb == "define":
            if key in self.defined:
                raise HostError("mdevctl failed: Device is already defined")
            self.defined[key] = (options["--type"], "auto" if "--auto" in argv else "manual")
        elif verb == "undefine":
            if key not in self.defined:
                raise HostError("mdevctl failed: No match found")
            del self.defined[key]
        return ""


def service(
    host: SimulatedHost, state: Path, mdevctl: FakeMdevctl, settings: dict[PciAddress, GpuSettings] | None = None
) -> ComputeService:
    hypervisor = SimulatedHypervisor(host.machine, Capacity(8, 16384, 100, "simulated", 1))
    journal = Journal(state / "agents" / "host.json")
    clock = StillClock()
    return ComputeService("host", host.kernel, hypervisor, journal, settings or {}, clock, Mdevctl(mdevctl), command=mdevctl)


# ------------------------------------------------------------------------------------------------ restoring


@pytest.mark.parametrize("kind", KINDS)
def test_a_boot_loses_vgpus_and_restoring_makes_the_same_ones(kind: str, tmp_path: Path) -> None:
    host = switched_on(kind, tmp_path)
    made = host.compute.ensure_vgpus(call(), [spec(SERVER, 0), spec(SERVER, 1, SECOND, "nvidia-12")])
    before = standing(host)
    host.machine.reboot()
    assert standing(host) == {}
    host = switched_on(kind, tmp_path)
    assert host.compute.restore() == []
    assert standing(host) == before
    assert {v for g in host.compute.report().gpus for v in g.vgpus} == set(made)
    assert host.compute.restore() == [], "and again does nothing"
    assert standing(host) == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_made_again_is_told_and_the_others_are(kind: str, tmp_path: Path) -> None:
    host = switched_on(kind, tmp_path)
    host.compute.ensure_vgpus(call(), [spec(SERVER, 0)])
    host.compute.ensure_vgpus(call(), [spec(OTHER, 0, SECOND)])
    host.machine.reboot()
    host.kernel.before_write = _refusing("0000:81:")
    (problem,) = host.compute.restore()
    assert "EIO" in problem
    assert spec(OTHER, 0, SECOND).uuid in {v.uuid for g in host.compute.report().gpus for v in g.vgpus}
    host.kernel.before_write = lambda path, text: None
    assert host.compute.restore() == []


def _refusing(word: str) -> Callable[[str, str], None]:
    def refuse(path: str, text: str) -> None:
        if word in path:
            raise OSError(errno.EIO, "refused", path)

    return refuse


def test_a_foreign_vgpu_that_took_the_function_is_left_alone(tmp_path: Path) -> None:
    host = switched_on("vfio", tmp_path)
    (made,) = host.compute.ensure_vgpus(call(), [spec(SERVER)])
    host.machine.reboot()
    plant_foreign(host, made.parent, "11")
    (problem,) = host.compute.restore()
    assert "another one is there" in problem
    assert standing(host) == {str(made.parent): "11"}
    assert [v.ours for g in host.compute.report().gpus for v in g.vgpus] == [False]


def test_what_comes_to_stand_where_restoring_has_failed_is_not_ours(tmp_path: Path) -> None:
    host = switched_on("vfio", tmp_path)
    (made,) = host.compute.ensure_vgpus(call(), [spec(SERVER)])
    host.machine.reboot()
    host.kernel.before_write = _refusing("current_vgpu_type")
    assert len(host.compute.restore()) == 1
    host.kernel.before_write = lambda path, text: None
    plant_foreign(host, made.parent, "11")
    assert [v.ours for g in host.compute.report().gpus for v in g.vgpus] == [False]
    host.compute.release_vgpus(call(), SERVER, [made.uuid])
    assert standing(host) == {str(made.parent): "11"}


def test_what_comes_to_stand_where_a_process_died_before_it_made_its_own_is_not_ours(tmp_path: Path) -> None:
    class Died(BaseException):
        pass

    def die(path: str, text: str) -> None:
        raise Died

    host = switched_on("vfio", tmp_path)
    host.kernel.before_write = die
    with pytest.raises(Died):
        host.compute.ensure_vgpus(call(), [spec(SERVER)])
    host.kernel.before_write = lambda path, text: None
    (written,) = Journal(tmp_path / "agents" / "host.json").records().values()
    after = service(host, tmp_path, FakeMdevctl())
    plant_foreign(host, written.parent, "11")
    after.release_vgpus(call(), SERVER, [written.uuid])
    assert standing(host) == {str(written.parent): "11"}


def test_a_card_that_was_full_when_it_was_looked_at_is_looked_at_again(tmp_path: Path) -> None:
    """A full card's files tell of no type; its numbers are known again once somebody has made room."""
    host = switched_on("vfio", tmp_path)
    foreign = [plant_foreign(host, FIRST.virtual_function(i), "12") for i in (0, 1)]
    unnumbered = (VgpuType("", "nvidia-11", 512, 4), VgpuType("", "nvidia-12", 1024, 2))
    mine = service(host, tmp_path, FakeMdevctl(), {FIRST: GpuSettings(FIRST, types=unnumbered)})
    (full,) = (g.gpu for g in mine.report().gpus if g.gpu.address == FIRST)
    assert full.types == ()
    with pytest.raises(DeviceRefused, match="does not offer"):
        mine.ensure_vgpus(call(), [spec(SERVER)])
    for function in foreign:
        host.kernel.write(f"/sys/bus/pci/devices/{function}/nvidia/current_vgpu_type", "0")
    (made,) = mine.ensure_vgpus(call(), [spec(SERVER)])
    assert standing(host) == {str(made.parent): "11"}


# ------------------------------------------------------------------------------------------------ virtual functions


def test_functions_that_are_off_are_told_and_enabled_when_the_settings_say_so(tmp_path: Path) -> None:
    host = switched_on("vfio", tmp_path)
    for address in (FIRST, SECOND):
        host.kernel.write(f"/sys/bus/pci/devices/{address}/sriov_numvfs", "0")
    problems = host.compute.report().problems
    assert [p for p in problems if f"GPU {FIRST} has none of its 6 virtual functions enabled" in p]
    assert not [p for p in problems if "makes no vGPUs" in p], "the reason is told, not the consequence"
    mine = service(host, tmp_path, FakeMdevctl(), {FIRST: GpuSettings(FIRST, enable_functions=True)})
    assert mine.restore() == []
    assert [g.gpu.address for g in mine.report().gpus] == [FIRST]
    mine.enable_functions(SECOND)
    assert [g.gpu.virtual_functions for g in mine.report().gpus] == [6, 6]


def test_functions_are_never_touched_where_some_are_enabled(tmp_path: Path) -> None:
    host = switched_on("vfio", tmp_path)
    host.kernel.before_write = _refusing("sriov")
    virtual_functions.enable(host.kernel, StillClock(), run, FIRST)


def test_a_gpu_without_functions_or_without_itself(tmp_path: Path) -> None:
    host = switched_on("mdev", tmp_path)
    for address in (FIRST, NOWHERE):
        with pytest.raises(DeviceMissing):
            host.compute.enable_functions(address)


def test_the_vendors_tool_is_asked_until_the_functions_are_there(tmp_path: Path) -> None:
    host = switched_on("vfio", tmp_path)
    host.kernel.write(f"/sys/bus/pci/devices/{FIRST}/sriov_numvfs", "0")
    tool = tmp_path / "sriov-manage"
    tool.touch()
    asked = []

    def command(argv: Sequence[str]) -> str:
        asked.append(tuple(argv))
        if len(asked) == 1:
            raise HostError("sriov-manage failed: Cannot obtain unbindLock")
        if len(asked) == 3:  # the second time it ended well, and nothing appeared
            host.kernel.write(f"/sys/bus/pci/devices/{FIRST}/sriov_numvfs", "6")
        return ""

    clock = StillClock()
    virtual_functions.enable(host.kernel, clock, command, FIRST, tool=tool)
    assert asked == [(str(tool), "-e", str(FIRST))] * 3
    assert clock.slept == 2 * virtual_functions.PAUSE


def test_functions_that_never_appear(tmp_path: Path) -> None:
    host = switched_on("vfio", tmp_path)
    host.kernel.write(f"/sys/bus/pci/devices/{FIRST}/sriov_numvfs", "0")
    host.kernel.before_write = _refusing("sriov_numvfs")
    clock = StillClock()
    with pytest.raises(DeviceRefused, match="EIO") as caught:
        virtual_functions.enable(host.kernel, clock, run, FIRST)
    assert caught.value.errno == errno.EIO
    assert clock.slept == (virtual_functions.TRIES - 1) * virtual_functions.PAUSE


# ------------------------------------------------------------------------------------------------ definitions


@pytest.mark.parametrize("kind", ["mdev", "mdev-on-vf"])
def test_a_vgpu_is_defined_when_made_and_forgotten_when_released(kind: str, tmp_path: Path) -> None:
    host, mdevctl = switched_on(kind, tmp_path), FakeMdevctl()
    mine = service(host, tmp_path, mdevctl)
    wanted = spec(SERVER)
    (made,) = mine.ensure_vgpus(call(), [wanted])
    assert mdevctl.defined == {(str(made.parent), wanted.uuid): ("nvidia-11", "auto")}
    mdevctl.defined.clear()
    mine.ensure_vgpus(call(), [wanted])
    assert mdevctl.defined, "a definition that an interrupted call did not come to is made by its repetition"
    mine.release_vgpus(call(), SERVER, [wanted.uuid])
    assert mdevctl.defined == {}
    assert standing(host) == {}


def test_a_vgpu_lost_at_a_boot_is_forgotten_all_the_same(tmp_path: Path) -> None:
    host, mdevctl = switched_on("mdev", tmp_path), FakeMdevctl()
    mine = service(host, tmp_path, mdevctl)
    mine.ensure_vgpus(call(), [spec(SERVER)])
    host.machine.reboot()
    mine.release_vgpus(call(), SERVER, [spec(SERVER).uuid])
    assert mdevctl.defined == {}


def test_a_definition_that_is_refused_undoes_the_vgpu(tmp_path: Path) -> None:
    host, mdevctl = switched_on("mdev", tmp_path), FakeMdevctl()
    mine = service(host, tmp_path, mdevctl)
    mdevctl.failing = "define"
    with pytest.raises(DeviceRefused, match="mdevctl could not define"):
        mine.ensure_vgpus(call(), [spec(SERVER)])
    assert standing(host) == {}
    assert [v for g in mine.report().gpus for v in g.vgpus] == []


def test_a_definition_as_another_type_or_not_started_at_boot_is_replaced() -> None:
    mdevctl = FakeMdevctl()
    definitions, uuid = Mdevctl(mdevctl), ids.new_uuid()
    mdevctl.defined[str(FIRST), uuid] = ("nvidia-12", "manual")
    definitions.define(uuid, FIRST, "nvidia-11")
    assert mdevctl.defined == {(str(FIRST), uuid): ("nvidia-11", "auto")}
    mdevctl.asked.clear()
    definitions.define(uuid, FIRST, "nvidia-11")
    assert [asked[0] for asked in mdevctl.asked] == ["list"]
    definitions.undefine(uuid, SECOND)
    assert mdevctl.defined, "only under the parent that was named"


def test_an_answer_of_mdevctl_that_is_none() -> None:
    with pytest.raises(DeviceRefused, match="cannot be read"):
        Mdevctl(lambda argv: "[{]").define(ids.new_uuid(), FIRST, "nvidia-11")


# ------------------------------------------------------------------------------------------------ commands and boards


def test_a_command_that_fails_is_told_by_its_last_words() -> None:
    assert run(["sh", "-c", "echo said"]) == "said\n"
    with pytest.raises(HostError, match="sh failed: no such luck"):
        run(["sh", "-c", "echo first >&2; echo no such luck >&2; exit 3"])
    with pytest.raises(HostError, match="sh failed: exit code 4"):
        run(["sh", "-c", "exit 4"])
    with pytest.raises(HostError, match="no-such-program is not installed"):
        run(["/nowhere/no-such-program"])


def test_a_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: object, **more: object) -> None:
        raise subprocess.TimeoutExpired("sleep", 60)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(HostError, match="did not end within"):
        run(["sleep", "1000"])


def test_without_a_driver_the_management_library_tells_nothing() -> None:
    assert Nvml().board(FIRST) is None


def gpu(*types: str) -> Gpu:
    offered = tuple(VgpuType(str(n), name, 1024, 1) for n, name in enumerate(types))
    return Gpu(FIRST, "PCI 10de:2235", Framework.VFIO, Partitioning.SAME_SIZE, 1024, offered, types)


class OneBoard:
    def __init__(self, mig: bool | None) -> None:
        self.mig = mig

    def board(self, address: PciAddress) -> Board | None:
        return Board("NVIDIA A100", "550.1", ecc=True, mig=self.mig)


@pytest.mark.parametrize(
    ("mig", "types", "told"),
    [
        (True, ("NVIDIA A100-4C",), "MIG mode on, in which its enabled type NVIDIA A100-4C"),
        (False, ("NVIDIA A100-1-5C", "NVIDIA A100-2-10C"), "MIG mode off, in which its enabled types NVIDIA A100-1-5C and 1 more"),
        (False, ("NVIDIA A100-4C",), None),
        (True, ("NVIDIA A100-1-5C",), None),
        (None, ("NVIDIA A100-4C",), None),
    ],
)
def test_modes_that_bar_enabled_types(mig: bool | None, types: tuple[str, ...], told: str | None) -> None:
    described = boards.described(gpu(*types), OneBoard(mig))
    assert (described.model, described.driver_version, described.ecc, described.mig) == ("NVIDIA A100", "550.1", True, mig)
    problems = boards.modes_in_the_way(described)
    assert (told is None and problems == []) or (told is not None and told in problems[0])


def test_the_kernel_tells_driver_and_version(tmp_path: Path) -> None:
    (first, _) = switched_on("vfio", tmp_path).compute.report().gpus
    assert (first.gpu.driver, first.gpu.driver_version) == ("nvidia", "595.91.04")


def test_mdev_without_definitions_keeps_nothing(tmp_path: Path) -> None:
    host = switched_on("mdev", tmp_path)
    Mdev(host.kernel, StillClock()).keep(ids.new_uuid(), FIRST, "nvidia-11")
