"""A host's compute service on simulated machines of every kind: what it makes, what it leaves alone, what it survives."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import threading
from pathlib import Path

import pytest

from lamina.agent.simulated.host import SimulatedHost
from lamina.agent.simulated.machine import MachineDomain
from lamina.model import ids
from lamina.model.errors import DeviceForeign, DeviceMissing, DeviceRefused, HostError, HypervisorError, StaleFence
from lamina.model.hosts import DomainSpec, PowerAction, PowerState, VgpuReport, VgpuSpec
from lamina.model.ids import PciAddress
from tests.contract.machines import FIRST, KINDS, NOWHERE, SECOND, call, plant_foreign, spec, standing, switched_on

SERVER, OTHER = ids.new_uuid(), ids.new_uuid()


@dataclasses.dataclass
class Bench:
    kind: str
    state: Path
    host: SimulatedHost

    def restart(self) -> None:
        """The compute service dies; another begins on the same journal and machine."""
        self.host = switched_on(self.kind, self.state)

    @property
    def parents(self) -> list[PciAddress]:
        """Where vGPUs can stand on the first GPU."""
        return [FIRST] if self.kind == "mdev" else [FIRST.virtual_function(i) for i in range(6)]

    def type_id(self, name: str) -> str:
        return name.removeprefix("nvidia-") if self.kind == "vfio" else name

    def vgpus(self) -> list[VgpuReport]:
        return [v for g in self.host.compute.report().gpus for v in g.vgpus]

    def ours(self) -> set[str]:
        return {v.uuid for v in self.vgpus() if v.ours}

    def journal(self) -> str:
        return (self.state / "agents/host.json").read_text()


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(request.param, tmp_path, switched_on(request.param, tmp_path))


#: where a device has a uuid of its own, and where a parent takes one vGPU only
on_mdev = pytest.mark.parametrize("bench", ["mdev", "mdev-on-vf"], indirect=True)
on_functions = pytest.mark.parametrize("bench", ["mdev-on-vf", "vfio"], indirect=True)


def domain(*vgpus: VgpuSpec, server_id: str = SERVER, running: bool = True) -> DomainSpec:
    return DomainSpec(server_id, "s", 1, 512, 1, tuple(v.uuid for v in vgpus), running)


# ------------------------------------------------------------------------------------------------ reporting


def test_an_idle_host(bench: Bench) -> None:
    report = bench.host.compute.report()
    assert (report.host, report.vcpus, report.memory_mb, report.disk_gb) == ("host", 8, 16384, 100)
    assert [g.gpu.address for g in report.gpus] == [FIRST, SECOND]
    assert report.problems == ()
    assert bench.vgpus() == []


def test_a_gpu_of_the_settings_that_is_not_there(bench: Bench) -> None:
    bench.host.compute._settings = dict(bench.host.compute._settings) | {NOWHERE: bench.host.compute._settings[FIRST]}
    assert bench.host.compute.report().problems == ("GPU 0000:99:00.0 of the settings makes no vGPUs on this host",)


# ------------------------------------------------------------------------------------------------ making vGPUs


def test_a_vgpu_is_made_and_known_as_ours(bench: Bench) -> None:
    wanted = spec(SERVER)
    (made,) = bench.host.compute.ensure_vgpus(call(), [wanted])
    assert (made.uuid, made.gpu, made.type, made.ours, made.server_id) == (wanted.uuid, FIRST, "nvidia-11", True, SERVER)
    assert made.parent in bench.parents
    assert bench.vgpus() == [made]
    assert list(standing(bench.host).values()) == [bench.type_id("nvidia-11")]


def test_making_it_again_makes_it_once(bench: Bench) -> None:
    first = bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    bench.restart()
    assert bench.host.compute.ensure_vgpus(call(), [spec(SERVER)]) == first
    assert len(standing(bench.host)) == 1


def test_several_at_once_come_in_the_order_asked_for(bench: Bench) -> None:
    wanted = [spec(SERVER, 0, SECOND), spec(SERVER, 1, FIRST), spec(SERVER, 2, SECOND), spec(SERVER, 3, FIRST)]
    bench.host.compute.ensure_vgpus(call(), wanted[2:3])
    made = bench.host.compute.ensure_vgpus(call(), wanted)
    assert [v.uuid for v in made] == [s.uuid for s in wanted]
    assert [v.gpu for v in made] == [s.gpu for s in wanted]
    if bench.kind != "mdev":
        assert len({v.parent for v in made}) == 4
    assert bench.ours() == {s.uuid for s in wanted}


def test_nothing_asked_for(bench: Bench) -> None:
    assert bench.host.compute.ensure_vgpus(call(), []) == ()


def test_what_does_not_fit_whole_is_not_made_in_part(bench: Bench) -> None:
    standing_before = bench.host.compute.ensure_vgpus(call(), [spec(OTHER, i) for i in range(2)])
    with pytest.raises(DeviceRefused):
        bench.host.compute.ensure_vgpus(call(), [spec(SERVER, 0, SECOND), *(spec(SERVER, 1 + i) for i in range(3))])
    assert set(bench.vgpus()) == set(standing_before)
    assert SERVER not in bench.journal().partition('"fences"')[0]


@pytest.mark.parametrize(
    ("wanted", "error", "told"),
    [
        (spec(SERVER, gpu=NOWHERE), DeviceMissing, "Host host has no GPU 0000:99:00.0"),
        (spec(SERVER, vgpu_type="nvidia-99"), DeviceRefused, "does not offer the type nvidia-99"),
    ],
)
def test_what_the_host_does_not_have(bench: Bench, wanted: VgpuSpec, error: type[HostError], told: str) -> None:
    with pytest.raises(error, match=told):
        bench.host.compute.ensure_vgpus(call(), [spec(SERVER, 1), wanted])
    assert bench.vgpus() == []
    assert SERVER not in bench.journal().partition('"fences"')[0]


def test_a_vgpu_asked_for_elsewhere_moves(bench: Bench) -> None:
    bench.host.compute.ensure_vgpus(call(), [spec(SERVER, gpu=FIRST)])
    (made,) = bench.host.compute.ensure_vgpus(call(), [spec(SERVER, gpu=SECOND)])
    assert bench.vgpus() == [made]
    assert made.gpu == SECOND


def test_a_vgpu_asked_for_as_another_type_becomes_it(bench: Bench) -> None:
    bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    (made,) = bench.host.compute.ensure_vgpus(call(), [spec(SERVER, vgpu_type="nvidia-12")])
    assert bench.vgpus() == [made]
    assert list(standing(bench.host).values()) == [bench.type_id("nvidia-12")]


def test_a_vgpu_in_use_does_not_move(bench: Bench) -> None:
    wanted = spec(SERVER)
    bench.host.compute.ensure_vgpus(call(), [wanted])
    bench.host.compute.ensure_domain(call(), domain(wanted))
    with pytest.raises(DeviceRefused, match="is held by the running domain s"):
        bench.host.compute.ensure_vgpus(call(), [spec(SERVER, gpu=SECOND)])
    assert [v.gpu for v in bench.vgpus()] == [FIRST]


# ------------------------------------------------------------------------------------------------ releasing them


def test_what_is_released_is_gone(bench: Bench) -> None:
    wanted = [spec(SERVER, i) for i in range(2)]
    bench.host.compute.ensure_vgpus(call(), [*wanted, spec(SERVER, 2)])
    for _ in range(2):
        bench.host.compute.release_vgpus(call(), SERVER, [s.uuid for s in wanted])
        assert bench.ours() == {spec(SERVER, 2).uuid}


def test_another_servers_and_unknown_vgpus_are_left_alone(bench: Bench) -> None:
    bench.host.compute.ensure_vgpus(call(), [spec(OTHER)])
    foreign = plant_foreign(bench.host, bench.parents[-1], bench.type_id("nvidia-11"))
    before = bench.vgpus()
    bench.host.compute.release_vgpus(call(), SERVER, [spec(OTHER).uuid, foreign, ids.new_uuid(), *(v.uuid for v in before)])
    assert bench.vgpus() == before


def test_a_vgpu_in_use_is_not_released(bench: Bench) -> None:
    wanted = spec(SERVER)
    bench.host.compute.ensure_vgpus(call(), [wanted])
    bench.host.compute.ensure_domain(call(), domain(wanted))
    with pytest.raises(DeviceRefused, match="is held by the running domain s") as caught:
        bench.host.compute.release_vgpus(call(), SERVER, [wanted.uuid])
    assert caught.value.errno == errno.EBUSY
    assert bench.ours() == {wanted.uuid}
    bench.host.compute.set_power(call(), SERVER, PowerAction.OFF)
    bench.host.compute.release_vgpus(call(), SERVER, [wanted.uuid])
    assert bench.vgpus() == []


def test_releasing_goes_as_far_as_it_can(bench: Bench) -> None:
    free, held = spec(SERVER, 0), spec(SERVER, 1)
    bench.host.compute.ensure_vgpus(call(), [free, held])
    bench.host.compute.ensure_domain(call(), domain(held))
    with pytest.raises(DeviceRefused):
        bench.host.compute.release_vgpus(call(), SERVER, [free.uuid, held.uuid])
    assert bench.ours() == {held.uuid}
    assert free.uuid not in bench.journal()


# ------------------------------------------------------------------------------------------------ foreign devices


def test_a_foreign_vgpu_is_told_and_takes_room(bench: Bench) -> None:
    handle = plant_foreign(bench.host, bench.parents[0], bench.type_id("nvidia-12"))
    (foreign,) = bench.vgpus()
    assert (foreign.ours, foreign.server_id, foreign.type, foreign.parent) == (False, None, "nvidia-12", bench.parents[0])
    assert foreign.uuid == (handle if bench.kind != "vfio" else ids.foreign_vf_uuid("host", bench.parents[0]))
    with pytest.raises(DeviceRefused):
        bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    (ours,) = bench.host.compute.ensure_vgpus(call(), [spec(SERVER, vgpu_type="nvidia-12")])
    assert set(bench.vgpus()) == {foreign, ours}
    if bench.kind != "mdev":
        assert ours.parent != foreign.parent


@on_mdev
def test_a_foreign_mdev_under_our_uuid_is_left_alone(bench: Bench) -> None:
    wanted = spec(SERVER)
    bench.host.kernel.write(f"/sys/class/mdev_bus/{bench.parents[0]}/mdev_supported_types/nvidia-11/create", wanted.uuid)
    with pytest.raises(DeviceForeign, match=r"that is not Lamina's stands on GPU 0000:81:00.0 already"):
        bench.host.compute.ensure_vgpus(call(), [wanted])
    bench.host.compute.release_vgpus(call(), SERVER, [wanted.uuid])
    assert list(standing(bench.host)) == [wanted.uuid]


@pytest.mark.parametrize("name", ["nvidia-11", "nvidia-12"])
def test_what_somebody_else_has_made_of_our_function_is_not_cleared(bench: Bench, name: str) -> None:
    """Our vGPU is gone with a reboot; before we were back, a person has set its function up."""
    bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    bench.host.machine.reboot()
    plant_foreign(bench.host, bench.parents[0], bench.type_id(name))
    before = standing(bench.host)
    assert [v.ours for v in bench.vgpus()] == [False]
    bench.host.compute.release_vgpus(call(), SERVER, [spec(SERVER).uuid])
    assert standing(bench.host) == before


@pytest.mark.parametrize("bench", ["vfio"], indirect=True)
def test_what_somebody_has_turned_our_vgpu_into_is_theirs(bench: Bench) -> None:
    (made,) = bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    for type_id in ("0", "12"):
        plant_foreign(bench.host, made.parent, type_id)
    assert [(v.type, v.ours) for v in bench.vgpus()] == [("nvidia-12", False)]
    bench.host.compute.release_vgpus(call(), SERVER, [made.uuid])
    assert standing(bench.host) == {str(made.parent): "12"}


@on_functions
def test_a_function_taken_at_the_last_moment_is_not_cleared(bench: Bench) -> None:
    """Between the look and the write somebody sets the function up; with the very type that we wanted."""
    framework = bench.host.compute._frameworks[bench.host.compute.report().gpus[0].gpu.framework]
    taken: list[str] = []
    look = framework.type_id_of

    def somebody_is_faster(uuid: str, parent: PciAddress) -> str | None:
        if not taken:
            taken.append(plant_foreign(bench.host, parent, bench.type_id("nvidia-11")))
        return look(uuid, parent)

    framework.type_id_of = somebody_is_faster  # type: ignore[method-assign]
    with pytest.raises(DeviceRefused):
        bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    assert list(standing(bench.host)) == taken
    assert bench.ours() == set()


# ------------------------------------------------------------------------------------------------ reboots and lost hardware


def test_after_a_reboot_vgpus_come_back_where_they_were(bench: Bench) -> None:
    wanted = [spec(SERVER, i) for i in range(3)]
    before = bench.host.compute.ensure_vgpus(call(), wanted)
    boot_id = bench.host.compute.report().boot_id
    bench.host.machine.reboot()
    bench.restart()
    assert bench.vgpus() == []
    assert bench.host.compute.report().boot_id != boot_id
    assert bench.host.compute.ensure_vgpus(call(), list(reversed(wanted))) == tuple(reversed(before))


@on_functions
def test_after_a_reboot_another_function_serves_as_well(bench: Bench) -> None:
    (before,) = bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    bench.host.machine.reboot()
    plant_foreign(bench.host, before.parent, bench.type_id("nvidia-11"))
    (after,) = bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    assert after.parent != before.parent
    assert bench.ours() == {after.uuid}


@on_functions
def test_the_function_of_a_vgpu_that_will_come_back_is_kept_for_it(bench: Bench) -> None:
    (before,) = bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    bench.host.machine.reboot()
    (other,) = bench.host.compute.ensure_vgpus(call(), [spec(OTHER)])
    assert other.parent != before.parent
    assert bench.host.compute.ensure_vgpus(call(), [spec(SERVER)]) == (before,)


@on_functions
def test_the_function_asked_for_is_taken_if_it_is_free(bench: Bench) -> None:
    for index, (parent, got) in enumerate([(3, 3), (3, 0), (5, 5)]):
        wanted = dataclasses.replace(spec(SERVER, index), parent=bench.parents[parent])
        (made,) = bench.host.compute.ensure_vgpus(call(), [wanted])
        assert made.parent == bench.parents[got]


def test_vgpus_of_a_gpu_that_is_gone_can_be_released(bench: Bench) -> None:
    wanted = spec(SERVER)
    bench.host.compute.ensure_vgpus(call(), [wanted])
    kernel, gone = bench.host.kernel, {str(p) for p in (FIRST, *bench.parents)}
    kernel._pci_functions = {name: node for name, node in kernel._pci_functions.items() if name not in gone}
    kernel._mdev_parents = {name: node for name, node in kernel._mdev_parents.items() if name not in gone}
    assert [g.gpu.address for g in bench.host.compute.report().gpus] == [SECOND]
    with pytest.raises(DeviceMissing):
        bench.host.compute.ensure_vgpus(call(), [spec(SERVER, 1)])
    bench.host.compute.release_vgpus(call(), SERVER, [wanted.uuid])
    assert wanted.uuid not in bench.journal()


def test_a_killed_service_finds_what_it_had_begun(bench: Bench) -> None:
    """Killed after the plan was written, before and after the kernel made the device."""
    for moment in ("before_write", "after_write"):

        def die(path: str, text: str) -> None:
            raise KeyboardInterrupt

        setattr(bench.host.kernel, moment, die)
        with pytest.raises(KeyboardInterrupt):
            bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
        bench.restart()
        assert spec(SERVER).uuid in bench.journal()
        assert bench.ours() == ({spec(SERVER).uuid} if moment == "after_write" else set())
        bench.host.compute.release_vgpus(call(), SERVER, [spec(SERVER).uuid])
        assert standing(bench.host) == {}
        assert spec(SERVER).uuid not in bench.journal()


# ------------------------------------------------------------------------------------------------ domains


def test_a_domain_with_its_vgpus(bench: Bench) -> None:
    wanted = [spec(SERVER, 0), spec(SERVER, 1, SECOND)]
    bench.host.compute.ensure_vgpus(call(), wanted)
    report = bench.host.compute.ensure_domain(call(), domain(*wanted))
    assert (report.power_state, report.vgpus) == (PowerState.RUNNING, tuple(s.uuid for s in wanted))
    assert bench.host.compute.report().domains == (report,)
    assert bench.host.compute.set_power(call(), SERVER, PowerAction.OFF).power_state is PowerState.SHUTDOWN
    bench.host.compute.remove_domain(call(), SERVER)
    bench.host.compute.remove_domain(call(), SERVER)
    assert bench.host.compute.report().domains == ()


def test_a_domain_is_given_its_own_servers_vgpus_only(bench: Bench) -> None:
    bench.host.compute.ensure_vgpus(call(), [spec(OTHER)])
    for missing in (spec(OTHER), spec(SERVER)):
        with pytest.raises(DeviceMissing, match=f"has no vGPU {missing.uuid} of server {SERVER}"):
            bench.host.compute.ensure_domain(call(), domain(missing))
    assert bench.host.compute.report().domains == ()


def test_a_domain_does_not_start_on_a_vgpu_that_a_reboot_took(bench: Bench) -> None:
    bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    bench.host.compute.ensure_domain(call(), domain(spec(SERVER)))
    bench.host.machine.reboot()
    with pytest.raises(DeviceMissing):
        bench.host.compute.set_power(call(), SERVER, PowerAction.ON)
    bench.host.compute.ensure_vgpus(call(), [spec(SERVER)])
    assert bench.host.compute.set_power(call(), SERVER, PowerAction.ON).power_state is PowerState.RUNNING


def test_domains_of_others_stay(bench: Bench) -> None:
    theirs = MachineDomain("theirs", 1, 512, 1, None, {}, PowerState.RUNNING, ours=False)
    bench.host.machine.state.domains[SERVER] = theirs
    bench.host.compute.remove_domain(call(), SERVER)
    with pytest.raises(HypervisorError):
        bench.host.compute.ensure_domain(call(), domain())
    (report,) = bench.host.compute.report().domains
    assert (report.name, report.server_id) == ("theirs", None)


# ------------------------------------------------------------------------------------------------ fences and threads


def test_a_stale_call_changes_nothing(bench: Bench) -> None:
    compute, wanted, stale = bench.host.compute, spec(SERVER), call(epoch=1, number=9)
    compute.ensure_vgpus(call(epoch=2, number=1), [wanted])
    compute.ensure_domain(call(epoch=2, number=2), domain(wanted))
    before = compute.report()
    for act in (
        lambda: compute.ensure_vgpus(stale, [spec(SERVER, 1)]),
        lambda: compute.release_vgpus(stale, SERVER, [wanted.uuid]),
        lambda: compute.ensure_domain(stale, domain()),
        lambda: compute.set_power(stale, SERVER, PowerAction.OFF),
        lambda: compute.remove_domain(stale, SERVER),
    ):
        with pytest.raises(StaleFence, match=f"a newer operation on server {SERVER}"):
            act()
    after = compute.report()
    assert after.sequence > before.sequence
    assert dataclasses.replace(after, sequence=before.sequence) == before
    compute.set_power(call(epoch=2, number=2), SERVER, PowerAction.OFF)
    compute.ensure_vgpus(call(epoch=1), [spec(OTHER)])


def test_servers_that_come_at_once_share_no_function(bench: Bench) -> None:
    servers = [ids.new_uuid() for _ in range(8)]
    made: dict[str, VgpuReport] = {}

    def make(server_id: str, gpu: PciAddress) -> None:
        (made[server_id],) = bench.host.compute.ensure_vgpus(call(), [spec(server_id, gpu=gpu)])

    threads = [threading.Thread(target=make, args=pair) for pair in zip(servers, itertools.cycle([FIRST, SECOND]), strict=False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.keys() == set(servers)
    assert bench.ours() == {v.uuid for v in made.values()}
    if bench.kind != "mdev":
        assert len({v.parent for v in made.values()}) == 8
