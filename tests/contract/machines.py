"""Machines to hold contracts against: one of each kind, simulated; in the lab the same kinds on a real kernel.

With `LAMINA_TEST_REAL` set, which the lab's guest does, the contracts are held against the real thing instead.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from lamina.agent.frameworks.framework import FrameworkPort
from lamina.agent.frameworks.mdev import Mdev
from lamina.agent.frameworks.vfio import Vfio
from lamina.agent.simulated.fleet import FleetHost, parse_fleet
from lamina.agent.simulated.host import SimulatedHost, simulated_host
from lamina.agent.simulated.kernel import File, Link, Node, SimulatedKernel
from lamina.agent.sysfs import LocalSysfs, Sysfs
from lamina.model import ids
from lamina.model.hosts import Call, Fence, VgpuSpec
from lamina.model.ids import PciAddress

TYPES = (
    "[{name: nvidia-11, max_instances: 4, framebuffer_mb: 512}, {name: nvidia-12, max_instances: 2, framebuffer_mb: 1024}]"
)
CARDS = {
    "mdev": "framework: mdev",
    "mdev-on-vf": "framework: mdev, virtual_functions: 6",
    "vfio": "framework: vfio, virtual_functions: 6",
}
#: every way of making vGPUs that Lamina knows
KINDS = tuple(CARDS)
#: whether contracts are held against this machine's kernel, which must be the lab's
REAL = bool(os.environ.get("LAMINA_TEST_REAL"))

FIRST = PciAddress.parse("0000:81:00.0")
SECOND = PciAddress.parse("0000:82:00.0")
#: no machine here has a GPU there
NOWHERE = PciAddress.parse("0000:99:00.0")


#: the lab's GPUs of each kind: an emulated PCI device, or the physical function of one with six virtual functions
REAL_GPUS = {
    "mdev": ("0000:00:05.0", "0000:00:06.0"),
    "mdev-on-vf": ("0000:01:00.0", "0000:02:00.0"),
    "vfio": ("0000:03:00.0", "0000:04:00.0"),
}


class StillClock:
    """Time that passes only when somebody sleeps; ``slept`` is how long that was, in seconds."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> float:
        return 1_000_000.0 + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def described(kind: str, partitioning: str = "same-size", more: str = "") -> FleetHost:
    """A host with two equal GPUs of a kind."""
    card = f"{CARDS[kind]}, types: {TYPES}, partitioning: {partitioning}{more}"
    gpus = "".join(f'      - {{address: "{address}", {card}}}\n' for address in (FIRST, SECOND))
    text = f"hosts:\n  - name: host\n    vcpus: 8\n    memory_mb: 16384\n    disk_gb: 100\n    gpus:\n{gpus}"
    return parse_fleet(text).hosts[0]


def switched_on(kind: str, state: Path, clock: StillClock | None = None, more: str = "") -> SimulatedHost:
    """Such a host; on a `state` that is there already, the machine goes on as it was left."""
    return simulated_host(described(kind, more=more), state, clock or StillClock())


def framework_on(kind: str, sysfs: Sysfs, clock: StillClock) -> FrameworkPort:
    return Vfio(sysfs, clock) if kind == "vfio" else Mdev(sysfs, clock)


def call(epoch: int = 1, number: int = 1) -> Call:
    return Call("operation", "step", Fence(epoch, number))


def spec(server_id: str, index: int = 0, gpu: PciAddress = FIRST, vgpu_type: str = "nvidia-11") -> VgpuSpec:
    return VgpuSpec(ids.vgpu_uuid(server_id, "operation", index), server_id, gpu, vgpu_type)


def plant_foreign(host: SimulatedHost, parent: PciAddress, type_id: str) -> str:
    """Set up a vGPU as somebody else would, by the kernel's files. The mdev's uuid, or the VF's address."""
    return plant(host.kernel, parent, type_id)


def standing(host: SimulatedHost) -> dict[str, str]:
    """What the machine itself has: mdev uuid or VF address -> kernel's id of the type."""
    state = host.machine.state
    return {uuid: device.type_id for uuid, device in state.mdevs.items()} | state.vf_types


def copy_tree(kernel: SimulatedKernel, root: Path) -> None:
    """Lay a simulated kernel's files out on a real file system, links as links."""
    _copy(kernel, kernel._resolve("/sys"), "/sys", root)


def _copy(kernel: SimulatedKernel, node: Node, path: str, root: Path) -> None:
    at = root / path.removeprefix("/")
    if isinstance(node, Link):
        at.symlink_to(root / node.to.removeprefix("/"))
    elif isinstance(node, File):
        try:
            at.write_text(node.read() if node.read is not None else "")
        except OSError:
            at.write_text("")  # an attribute that answers with an errno has no like among ordinary files
    else:
        at.mkdir(parents=True)
        for name, below in node.items():
            _copy(kernel, below(), f"{path}/{name}", root)


@dataclasses.dataclass
class FailingSysfs:
    """A `Sysfs` whose reads of paths with `word` in them fail with `number`, as those of a GPU off its bus do."""

    below: Sysfs
    word: str
    number: int

    def _check(self, path: str) -> None:
        if self.word in path:
            raise OSError(self.number, "off the bus", path)

    def read(self, path: str) -> str:
        self._check(path)
        return self.below.read(path)

    def write(self, path: str, text: str) -> None:
        self.below.write(path, text)

    def list(self, path: str) -> list[str]:
        return self.below.list(path)

    def exists(self, path: str) -> bool:
        return self.below.exists(path)

    def link(self, path: str) -> str:
        return self.below.link(path)


# ---------------------------------------------------------------------------------------------------- either machine

Hook = Callable[[str, str], None]


class HookedSysfs(Protocol):
    """A `Sysfs` that calls these before and after the effect of every write."""

    before_write: Hook
    after_write: Hook

    def read(self, path: str) -> str: ...
    def write(self, path: str, text: str) -> None: ...
    def list(self, path: str) -> list[str]: ...
    def exists(self, path: str) -> bool: ...
    def link(self, path: str) -> str: ...


@dataclasses.dataclass
class TestMachine:
    """A machine with two equal GPUs of a kind, `first` and `second`, and nothing else that makes vGPUs."""

    __test__ = False

    kind: str
    first: PciAddress
    second: PciAddress
    sysfs: HookedSysfs
    #: what stands: mdev uuid or VF address -> kernel's id of the type
    standing: Callable[[], Mapping[str, str]]
    #: have the driver refuse the next creation with this errno
    refuse_next: Callable[[int], None]

    def plant(self, parent: PciAddress, type_id: str) -> str:
        """Set up a vGPU as somebody else would. The mdev's uuid, or the VF's address."""
        return plant(self.sysfs, parent, type_id)


def plant(sysfs: Sysfs, parent: PciAddress, type_id: str) -> str:
    current = f"/sys/bus/pci/devices/{parent}/nvidia/current_vgpu_type"
    if sysfs.exists(current):
        sysfs.write(current, type_id)
        return str(parent)
    uuid = ids.new_uuid()
    sysfs.write(f"/sys/class/mdev_bus/{parent}/mdev_supported_types/{type_id}/create", uuid)
    return uuid


@contextmanager
def any_machine(kind: str, state: Path, clock: StillClock) -> Iterator[TestMachine]:
    """Such a machine: the lab's if contracts are held against it, else a simulated one."""
    if REAL:
        with real_machine(kind) as real:
            yield real
    else:
        host = switched_on(kind, state, clock)
        yield TestMachine(kind, FIRST, SECOND, host.kernel, lambda: standing(host), partial(_refuse_next, host))


class RealSysfs(LocalSysfs):
    """This machine's kernel, with hooks as the simulated one has them."""

    def __init__(self) -> None:
        super().__init__()
        self.before_write: Hook = lambda path, text: None
        self.after_write: Hook = lambda path, text: None

    def write(self, path: str, text: str) -> None:
        self.before_write(path, text)
        super().write(path, text)
        self.after_write(path, text)


@contextmanager
def real_machine(kind: str) -> Iterator[TestMachine]:
    """The lab's machine with no GPUs but those of one kind: functions of the others are off, their driver is unbound."""
    sysfs, bus = LocalSysfs(), Path("/sys/bus/pci")
    for other, addresses in REAL_GPUS.items():
        for address in addresses:
            bound = bus / "drivers/nvidia" / address
            if other == "mdev" and bound.exists() != (kind == other):
                (bus / "drivers/nvidia" / ("bind" if kind == other else "unbind")).write_text(address)
            elif other != "mdev":
                _set_functions(bus / "devices" / address, 6 if kind == other else 0)
    first, second = (PciAddress.parse(address) for address in REAL_GPUS[kind])
    clean(sysfs)
    try:
        refuse = Path("/sys/module/lamina_lab/parameters/fail_create")
        yield TestMachine(kind, first, second, RealSysfs(), lambda: really_standing(sysfs), lambda number: _tell(refuse, number))
    finally:
        clean(sysfs)


def _refuse_next(host: SimulatedHost, number: int) -> None:
    def refuse(path: str, text: str) -> None:
        host.kernel.before_write = lambda path, text: None
        raise OSError(number, os.strerror(number), path)

    host.kernel.before_write = refuse


def _tell(path: Path, number: int) -> None:
    path.write_text(str(number))


def _set_functions(device: Path, count: int) -> None:
    if int((device / "sriov_numvfs").read_text()) != count:
        (device / "sriov_numvfs").write_text(str(count))
    while len(list(device.glob("virtfn*"))) != count:
        time.sleep(0.01)


def really_standing(sysfs: Sysfs) -> dict[str, str]:
    mdevs = Path("/sys/bus/mdev/devices")
    found = {uuid: sysfs.link(f"{mdevs}/{uuid}/mdev_type") for uuid in sysfs.list(str(mdevs))}
    for path in Path("/sys/bus/pci/devices").glob("*/nvidia/current_vgpu_type"):
        if (type_id := path.read_text().strip()) != "0":
            found[path.parts[-3]] = type_id
    return found


def clean(sysfs: Sysfs) -> None:
    """Take away every vGPU of the lab's machine, whoever made it."""
    for handle in really_standing(sysfs):
        if ids.is_uuid(handle):
            sysfs.write(f"/sys/bus/mdev/devices/{handle}/remove", "1")
        else:
            sysfs.write(f"/sys/bus/pci/devices/{handle}/nvidia/current_vgpu_type", "0")
