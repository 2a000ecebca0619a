"""The compute service on cards with slots: each vGPU gets its place, keeps it over a boot, and what others made stays."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.agent import boards
from lamina.agent.boards import Board
from lamina.agent.configuration import parse
from lamina.agent.frameworks.vfio import Vfio
from lamina.agent.gpu_instances import GpuInstances
from lamina.agent.simulated.fleet import parse_fleet
from lamina.agent.simulated.host import SimulatedHost, simulated_host
from lamina.agent.simulated.nvidia_smi import NvidiaSmi
from lamina.model import ids
from lamina.model.errors import BadRequest, DeviceRefused, HostError
from lamina.model.gpus import GpuSettings, Partitioning
from lamina.model.hosts import VgpuReport, VgpuSpec
from lamina.model.ids import PciAddress
from tests.contract.machines import StillClock, call

GPU = PciAddress.parse("0000:81:00.0")
SERVER = ids.new_uuid()
L40S = "model: nvidia-l40s, framework: vfio, partitioning: mixed-size"
H100 = "model: nvidia-h100-pcie, framework: vfio, partitioning: mig"


def fleet(card: str) -> str:
    return f'hosts: [{{name: host, vcpus: 8, memory_mb: 16384, disk_gb: 9, gpus: [{{address: "{GPU}", {card}}}]}}]'


Start = Callable[[str], SimulatedHost]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Begin the compute service on the one machine, with this card in it; again after it has died."""
    return lambda card: simulated_host(parse_fleet(fleet(card)).hosts[0], tmp_path, StillClock())


def spec(vgpu_type: str, placement: int | None, index: int = 0) -> VgpuSpec:
    return VgpuSpec(ids.vgpu_uuid(SERVER, "operation", index), SERVER, GPU, vgpu_type, placement=placement)


def attribute(function: PciAddress, name: str) -> str:
    return f"/sys/bus/pci/devices/{function}/nvidia/{name}"


def places(host: SimulatedHost) -> list[tuple[str | None, int | None, bool]]:
    (gpu,) = host.compute.report().gpus
    return sorted(((v.type, v.placement, v.ours) for v in gpu.vgpus), key=str)


def instances(host: SimulatedHost) -> list[tuple[int, int]]:
    """Profile and start of each GPU instance that the machine itself has."""
    return sorted((g.profile, g.start) for g in host.machine.state.gpu_instances.get(str(GPU), {}).values())


# ------------------------------------------------------------------------------------------------ mixed sizes


def test_each_vgpu_stands_where_it_was_told_to(start: Start) -> None:
    host = start(L40S)
    made = host.compute.ensure_vgpus(call(), [spec("NVIDIA L40S-24Q", 24), spec("NVIDIA L40S-8Q", 16, 1)])
    assert [v.placement for v in made] == [24, 16]
    assert [host.kernel.read(attribute(v.parent, "placement_id")) for v in made] == ["24\n", "16\n"]
    assert host.compute.report().gpus[0].gpu.partitioning is Partitioning.MIXED_SIZE
    assert places(host) == [("NVIDIA L40S-24Q", 24, True), ("NVIDIA L40S-8Q", 16, True)]


def test_the_place_is_kept_over_a_boot_and_a_move(start: Start) -> None:
    host = start(L40S)
    wanted = [spec("NVIDIA L40S-8Q", 40), spec("NVIDIA L40S-4Q", 8, 1)]
    before = host.compute.ensure_vgpus(call(), wanted)
    host.machine.reboot()
    host = start(L40S)
    assert places(host) == []
    assert host.compute.restore() == []
    assert places(host) == [("NVIDIA L40S-4Q", 8, True), ("NVIDIA L40S-8Q", 40, True)]
    assert host.compute.ensure_vgpus(call(number=2), wanted) == before
    (moved,) = host.compute.ensure_vgpus(call(number=3), [spec("NVIDIA L40S-8Q", 24)])
    assert moved.placement == 24
    assert places(host) == [("NVIDIA L40S-4Q", 8, True), ("NVIDIA L40S-8Q", 24, True)]


def test_without_a_place_the_driver_takes_the_first(start: Start) -> None:
    host = start(L40S)
    host.compute.ensure_vgpus(call(), [spec("NVIDIA L40S-16Q", None), spec("NVIDIA L40S-16Q", None, 1)])
    assert places(host) == [("NVIDIA L40S-16Q", 0, True), ("NVIDIA L40S-16Q", 32, True)]


@pytest.mark.parametrize("where", [16, 1, 47, 99])
def test_a_place_that_is_taken_or_not_for_the_type_is_refused(start: Start, where: int) -> None:
    host = start(L40S)
    host.compute.ensure_vgpus(call(), [spec("NVIDIA L40S-8Q", 16)])
    with pytest.raises(DeviceRefused) as caught:
        host.compute.ensure_vgpus(call(number=2), [spec("NVIDIA L40S-12Q", where, 1)])
    assert caught.value.errno == errno.EIO
    assert places(host) == [("NVIDIA L40S-8Q", 16, True)]
    assert host.compute.report().problems == ()


def test_the_kernels_files_answer_as_the_drivers_do(start: Start) -> None:
    host = start(L40S)
    function = GPU.virtual_function(0)
    for name in ("placement_id", "gpu_instance_id"):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - told by its errno
            host.kernel.read(attribute(function, name))
        assert caught.value.errno == errno.ENXIO
    for name, said, number in (("placement_id", "x", errno.EINVAL), ("gpu_instance_id", "1", errno.EINVAL)):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            host.kernel.write(attribute(function, name), said)
        assert caught.value.errno == number
    host.compute.ensure_vgpus(call(), [spec("NVIDIA L40S-48Q", 0)])
    with pytest.raises(OSError) as caught:  # noqa: PT011
        host.kernel.write(attribute(function, "placement_id"), "24")
    assert caught.value.errno == errno.EBUSY


def test_foreign_vgpus_are_seen_where_they_stand(start: Start) -> None:
    host = start(L40S)
    function = GPU.virtual_function(3)
    host.kernel.write(attribute(function, "placement_id"), "24")
    host.kernel.write(attribute(function, "current_vgpu_type"), "1155")
    assert places(host) == [("NVIDIA L40S-24Q", 24, False)]


# ------------------------------------------------------------------------------------------------ MIG


def test_a_gpu_instance_is_made_for_each_vgpu_and_goes_with_it(start: Start) -> None:
    host = start(H100)
    wanted = [spec("NVIDIA H100-3-40C", 4), spec("NVIDIA H100-1-10C", 0, 1)]
    made = host.compute.ensure_vgpus(call(), wanted)
    assert instances(host) == [(9, 4), (19, 0)]
    assert places(host) == [("NVIDIA H100-1-10C", 0, True), ("NVIDIA H100-3-40C", 4, True)]
    under = [int(host.kernel.read(attribute(v.parent, "gpu_instance_id"))) for v in made]
    assert [host.machine.state.gpu_instances[str(GPU)][number].start for number in under] == [4, 0]
    host.compute.release_vgpus(call(number=2), SERVER, [wanted[0].uuid])
    assert instances(host) == [(19, 0)]
    host.compute.release_vgpus(call(number=3), SERVER, [v.uuid for v in wanted])
    assert (instances(host), places(host), host.compute.report().problems) == ([], [], ())


def test_a_boot_loses_gpu_instances_and_restore_makes_them(start: Start) -> None:
    host = start(H100)
    host.compute.ensure_vgpus(call(), [spec("NVIDIA H100-2-20C", 2), spec("NVIDIA H100-1-20C", 6, 1)])
    host.machine.reboot()
    host = start(H100)
    assert instances(host) == []
    assert host.compute.restore() == []
    assert instances(host) == [(14, 2), (15, 6)]
    assert places(host) == [("NVIDIA H100-1-20C", 6, True), ("NVIDIA H100-2-20C", 2, True)]


def test_gpu_instances_of_others_are_counted_and_left_alone(start: Start) -> None:
    host = start(H100)
    smi = NvidiaSmi(parse_fleet(fleet(H100)).hosts[0].cards, host.machine)
    smi(["nvidia-smi", "mig", "-i", str(GPU), "-cgi", "14:0", "-C"])
    smi(["nvidia-smi", "mig", "-i", str(GPU), "-cgi", "9:4", "-C"])
    host.kernel.write(attribute(GPU.virtual_function(7), "current_vgpu_type"), "823")
    assert places(host) == [("NVIDIA H100-2-20C", 0, False), ("NVIDIA H100-3-40C", 4, False)]
    uuids = [v.uuid for v in reports(host)]
    assert len(set(uuids)) == 2
    with pytest.raises(DeviceRefused, match="Insufficient Resources"):
        host.compute.ensure_vgpus(call(), [spec("NVIDIA H100-1-10C", 1)])
    host.compute.ensure_vgpus(call(number=2), [spec("NVIDIA H100-1-10C", 3)])
    host.compute.release_vgpus(call(number=3), SERVER, [spec("NVIDIA H100-1-10C", 3).uuid])
    assert instances(host) == [(9, 4), (14, 0)]
    assert [v.uuid for v in reports(host)] == uuids


def reports(host: SimulatedHost) -> tuple[VgpuReport, ...]:
    return host.compute.report().gpus[0].vgpus


def test_a_vgpu_that_others_put_on_our_gpu_instance_keeps_it(start: Start) -> None:
    host = start(H100)
    wanted = spec("NVIDIA H100-1-10C", 0)

    def in_between(path: str, _text: str) -> None:
        if path.endswith("gpu_instance_id"):
            host.kernel.after_write = lambda path, text: None
            host.kernel.write(attribute(GPU.virtual_function(9), "current_vgpu_type"), "821")

    host.kernel.after_write = in_between
    with pytest.raises(DeviceRefused):
        host.compute.ensure_vgpus(call(), [wanted])
    assert places(host) == [("NVIDIA H100-1-10C", 0, False)]
    assert "server_id" not in (host.machine._path.parent.parent / "agents/host.json").read_text()


@pytest.mark.parametrize("then", ["ensure", "release"])
def test_a_service_that_died_before_the_type_was_set(start: Start, then: str) -> None:
    """The GPU instance stands, the vGPU does not: the next call goes on from there, or takes it back."""
    host = start(H100)
    wanted = spec("NVIDIA H100-4-40C", 0)

    def dies(path: str, _text: str) -> None:
        if path.endswith("current_vgpu_type"):
            raise KeyboardInterrupt

    host.kernel.before_write = dies
    with pytest.raises(KeyboardInterrupt):
        host.compute.ensure_vgpus(call(), [wanted])
    host = start(H100)
    assert (instances(host), places(host)) == ([(5, 0)], []), "ours, and so no device of others"
    if then == "ensure":
        host.compute.ensure_vgpus(call(number=2), [wanted])
        assert places(host) == [("NVIDIA H100-4-40C", 0, True)]
    host.compute.release_vgpus(call(number=3), SERVER, [wanted.uuid])
    assert (instances(host), places(host)) == ([], [])


def test_a_mig_backed_type_needs_a_gpu_instance_of_its_profile(start: Start) -> None:
    host = start(H100)
    function = GPU.virtual_function(0)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        host.kernel.write(attribute(function, "current_vgpu_type"), "821")
    assert caught.value.errno == errno.EIO
    assert "H100" not in host.kernel.read(attribute(function, "creatable_vgpu_types"))
    smi = NvidiaSmi(parse_fleet(fleet(H100)).hosts[0].cards, host.machine)
    smi(["nvidia-smi", "mig", "-i", str(GPU), "-cgi", "14:2", "-C"])
    listed = host.kernel.read(attribute(function, "creatable_vgpu_types")).splitlines()[1:]
    assert listed == ["822   : NVIDIA H100-2-20C"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-cgi", "9:2", "-C"], "Insufficient Resources"),
        (["-cgi", "20:5", "-C"], "Insufficient Resources"),
        (["-cgi", "19:0", "-C"], "Insufficient Resources"),
        (["-cgi", "99:0", "-C"], "Invalid Argument"),
        (["-dgi", "-gi", "1"], "In use by another client"),
        (["-dci", "-gi", "1"], "In use by another client"),
        (["-dgi", "-gi", "9"], "Not Found"),
        (["-lci"], "invalid combination"),
    ],
)
def test_the_tool_refuses_as_the_driver_does(start: Start, words: list[str], told: str) -> None:
    host = start(H100)
    host.compute.ensure_vgpus(call(), [spec("NVIDIA H100-1-10CME", 0)])
    with pytest.raises(HostError, match=told):
        NvidiaSmi(parse_fleet(fleet(H100)).hosts[0].cards, host.machine)(["nvidia-smi", "mig", "-i", str(GPU), *words])
    assert instances(host) == [(20, 0)]


def test_the_tool_knows_no_mig_on_a_card_without_and_no_other_tool_is_there(start: Start) -> None:
    smi = NvidiaSmi(parse_fleet(fleet(L40S)).hosts[0].cards, start(L40S).machine)
    with pytest.raises(HostError, match="MIG mode is not enabled"):
        smi(["nvidia-smi", "mig", "-i", str(GPU), "-lgi"])
    with pytest.raises(HostError, match="sriov-manage is not installed"):
        smi(["/usr/lib/nvidia/sriov-manage", "-e", "ALL"])


LISTED = """\
+-------------------------------------------------------+
| GPU instances:                                        |
| GPU   Name             Profile  Instance   Placement  |
|                          ID       ID       Start:Size |
|=======================================================|
|   0  MIG 1g.10gb+me      20       13          6:1     |
+-------------------------------------------------------+
|   0  MIG 3g.40gb          9        2          0:4     |
+-------------------------------------------------------+
"""


def test_gpu_instances_are_read_from_the_tools_table() -> None:
    found = GpuInstances(lambda argv: LISTED).of(GPU)
    assert [(g.id, g.profile, g.start) for g in found] == [(13, 20, 6), (2, 9, 0)]


@pytest.mark.parametrize("said", ["nvidia-smi failed: No GPU instances found: Not Found", "nvidia-smi failed: exit code 6"])
def test_a_card_without_gpu_instances(said: str) -> None:
    def run(argv: object) -> str:
        raise HostError(said)

    assert GpuInstances(run).of(GPU) == []


def test_a_tool_that_cannot_tell_makes_the_card_unreadable_and_nothing_is_made(start: Start) -> None:
    host = start(H100)

    def run(argv: object) -> str:
        raise HostError("nvidia-smi is not installed on this host.")

    framework = Vfio(host.kernel, StillClock(), run)
    with pytest.raises(OSError, match="nvidia-smi is not installed"):
        framework.read(GpuSettings(GPU, partitioning=Partitioning.MIG))
    with pytest.raises(DeviceRefused, match="cannot be listed"):
        GpuInstances(run).ensure(GPU, 19, 0)
    with pytest.raises(DeviceRefused, match="made no GPU instance"):
        GpuInstances(lambda argv: "").ensure(GPU, 19, 0)


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("model: nvidia-t4, framework: mdev, partitioning: mixed-size", "a NVIDIA T4 under mdev can be cut same-size"),
        ("model: nvidia-l40s, framework: vfio, partitioning: mig", "a NVIDIA L40S under vfio can be cut same-size or mixed-size"),
        ("model: nvidia-a100-40gb, framework: mdev, partitioning: mig", "a NVIDIA A100 PCIe 40GB under mdev can be cut same-size"),
        ("types: [{name: a, max_instances: 1, framebuffer_mb: 1}], framework: vfio, partitioning: mig", "only for a card of the catalog"),
    ],
)
def test_a_fleet_file_cuts_no_card_as_it_cannot_be(card: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        parse_fleet(fleet(card))


@pytest.mark.parametrize(
    ("settings", "cut", "told"),
    [
        (
            GpuSettings(GPU, partitioning=Partitioning.MIG),
            Partitioning.SAME_SIZE,
            f"GPU {GPU} cannot be cut mig, and is cut same-size; it can be same-size or mixed-size",
        ),
        (GpuSettings(GPU, partitioning=Partitioning.MIXED_SIZE), Partitioning.MIXED_SIZE, None),
        (GpuSettings(GPU), Partitioning.SAME_SIZE, None),
    ],
)
def test_how_a_card_is_cut_is_told_by_the_settings(start: Start, settings: GpuSettings, cut: Partitioning, told: str | None) -> None:
    found = Vfio(start("model: nvidia-l40s, framework: vfio").kernel, StillClock()).read(settings)
    assert found is not None
    assert found.gpu.partitioning is cut
    assert found.problems == (() if told is None else (told,))


def test_a_type_that_cannot_be_made_in_the_mode_is_told(start: Start) -> None:
    host = start("model: nvidia-h100-pcie, framework: vfio, enabled_types: [NVIDIA H100-1-10C, NVIDIA H100-10C]")
    report = host.compute.report()
    assert report.problems == (f"GPU {GPU} is cut same-size, in which its enabled type 'NVIDIA H100-1-10C' cannot be made",)
    assert report.gpus[0].gpu.enabled_types == ("NVIDIA H100-10C",)


def test_agent_settings_name_the_mode() -> None:
    (said,) = parse(f'host = "h"\n[gpus."{GPU}"]\npartitioning = "mixed-size"\n').settings.values()
    assert said.partitioning is Partitioning.MIXED_SIZE
    with pytest.raises(BadRequest, match="partitioning"):
        parse(f'host = "h"\n[gpus."{GPU}"]\npartitioning = "thirds"\n')


class OneBoard:
    def __init__(self, mixed: bool | None) -> None:
        self.mixed = mixed

    def board(self, address: PciAddress) -> Board | None:
        return Board("NVIDIA L40S", "550.1", ecc=True, mig=None, mixed=self.mixed)


@pytest.mark.parametrize(
    ("card", "mixed", "told"),
    [
        (L40S, False, "has mixed-size mode off, and its settings say mixed-size: 'nvidia-smi vgpu -i 0000:81:00.0 -shm 1'"),
        ("model: nvidia-l40s, framework: vfio", True, "has mixed-size mode on, and its settings say same-size"),
        (L40S, True, None),
        (L40S, None, None),
    ],
)
def test_a_board_in_another_mode_than_the_settings_say(start: Start, card: str, mixed: bool | None, told: str | None) -> None:
    (gpu,) = start(card).compute.report().gpus
    problems = boards.modes_in_the_way(boards.described(gpu.gpu, OneBoard(mixed)))
    assert (told is None and problems == []) or (told is not None and told in problems[0])
