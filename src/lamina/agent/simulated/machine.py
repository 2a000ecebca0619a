"""A simulated machine: what a reboot keeps and what it loses, on disk apart from everything of Lamina's.

Killing Lamina leaves its machines as it would leave real ones: devices stand, domains run. The state is one JSON file,
replaced whole at every change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from lamina.model import decoding, ids
from lamina.model.errors import Conflict
from lamina.model.hosts import Nic, PowerState


class MachineDevice(msgspec.Struct, frozen=True):
    """A vGPU: where it stands (a VF, or the GPU), and the kernel's id of its type."""

    parent: str
    type_id: str


class MachineInstance(msgspec.Struct, frozen=True):
    """A GPU instance: the number of its profile, and the memory slice it starts at."""

    profile: int
    start: int


class MachineDomain(msgspec.Struct):
    """A domain as the hypervisor keeps it. ``devices`` maps vGPU uuid -> the mdev's uuid or the VF's address."""

    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    image_id: str | None
    devices: dict[str, str]
    power_state: PowerState
    #: made by Lamina, as a real domain's metadata would say
    ours: bool
    nics: tuple[Nic, ...] = ()
    config_drive: dict[str, bytes] | None = None
    #: what it boots from in place of its own disk
    rescue_image_id: str | None = None


class MachineState(msgspec.Struct):
    boot_id: str
    #: mdevs by uuid, lost at a reboot
    mdevs: dict[str, MachineDevice] = {}
    #: VF address -> kernel's id of its type, lost at a reboot
    vf_types: dict[str, str] = {}
    #: VF address -> what its vGPU stands on: a slot in mixed-size mode, a GPU instance's id in MIG mode; lost at a reboot
    vf_places: dict[str, int] = {}
    #: the same as somebody has asked for before setting the type
    vf_wishes: dict[str, int] = {}
    #: GPU address -> its GPU instances by their ids, lost at a reboot
    gpu_instances: dict[str, dict[int, MachineInstance]] = {}
    #: by server's id: what tells one disk from another
    disks: dict[str, str] = {}
    #: PFs whose virtual functions are not enabled
    functions_off: set[str] = set()
    #: by uuid; definitions outlive a reboot
    domains: dict[str, MachineDomain] = {}


class Machine:
    """One machine's state and its power switch."""

    def __init__(self, path: Path) -> None:
        """Raises `Conflict` for a file that is not a machine's."""
        self._path = path
        self.lock = threading.RLock()
        #: called once it is up again
        self.rebooted: list[Callable[[], None]] = []
        try:
            self.state = decoding.from_json(path.read_bytes(), MachineState)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Conflict(f"The simulated machine {path} is damaged ({error}); remove the file to begin with a new one.") from error
        except FileNotFoundError:
            self.state = MachineState(boot_id=ids.new_uuid())
            self.save()

    def save(self) -> None:
        """A killed process must find what it had done; a power cut of the real machine is not this file's business."""
        draft = self._path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(self.state))
        draft.replace(self._path)

    def reboot(self) -> None:
        """Devices are gone, domains are shut off, VFs are enabled again as by a boot unit."""
        with self.lock:
            self.state.boot_id = ids.new_uuid()
            self.state.mdevs.clear()
            for lost in (self.state.vf_types, self.state.vf_places, self.state.vf_wishes, self.state.gpu_instances):
                lost.clear()
            for domain in self.state.domains.values():
                if not domain.power_state.is_off:  # memory that was saved is on disk
                    domain.power_state = PowerState.SHUTDOWN
            self.save()
        for tell in self.rebooted:
            tell()

    def holds(self, handle: str) -> bool:
        """Whether a domain that is on has this device (an mdev's uuid, or a VF's address) open."""
        return any(handle in d.devices.values() for d in self.state.domains.values() if not d.power_state.is_off)
