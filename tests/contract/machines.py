"""Machines to hold contracts against: one of each kind, simulated, and the same trees of files on a real file system.

A real implementation is added by one more entry in a fixture's parameters.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lamina.agent.frameworks.framework import FrameworkPort
from lamina.agent.frameworks.mdev import Mdev
from lamina.agent.frameworks.vfio import Vfio
from lamina.agent.simulated.fleet import FleetHost, parse_fleet
from lamina.agent.simulated.host import SimulatedHost, simulated_host
from lamina.agent.simulated.kernel import File, Link, Node, SimulatedKernel
from lamina.agent.sysfs import Sysfs
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

FIRST = PciAddress.parse("0000:81:00.0")
SECOND = PciAddress.parse("0000:82:00.0")
#: no machine here has a GPU there
NOWHERE = PciAddress.parse("0000:99:00.0")


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
    current = f"/sys/bus/pci/devices/{parent}/nvidia/current_vgpu_type"
    if host.kernel.exists(current):
        host.kernel.write(current, type_id)
        return str(parent)
    uuid = ids.new_uuid()
    host.kernel.write(f"/sys/class/mdev_bus/{parent}/mdev_supported_types/{type_id}/create", uuid)
    return uuid


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
