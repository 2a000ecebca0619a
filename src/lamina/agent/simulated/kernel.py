"""A simulated kernel under the `Sysfs` port: the files, the numbers and the refusals of a real one.

It knows cards and what stands on them, and nothing of Lamina. Rules and errno: Linux, drivers/vfio/mdev/mdev_sysfs.c
and samples/vfio-mdev; NVIDIA's drivers as recorded in harvester/pcidevices and discussed in mdevctl#115 (EINVAL when
full) and in the threads on vendor-specific VFIO (EIO when refused).
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lamina.agent.simulated.machine import Machine, MachineDevice, MachineInstance
from lamina.model import catalog, ids, partitioners
from lamina.model.errors import BadRequest
from lamina.model.gpus import Framework, Gpu, Layout, Partitioning, Spot, VgpuType
from lamina.model.ids import PciAddress
from lamina.model.partitioners import mig


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """A GPU in the machine. ``gpu`` has the kernel's ids of its types; ``functions`` are its VFs, if it has any."""

    gpu: Gpu
    vendor_id: str
    device_id: str
    subsystem_id: str | None = None
    functions: tuple[PciAddress, ...] = ()

    @property
    def parents(self) -> tuple[PciAddress, ...]:
        return self.functions or (self.gpu.address,)


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """An attribute: its text when read, what a write does."""

    read: Callable[[], str] | None = None
    write: Callable[[str], None] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, by the absolute path it leads to."""

    to: str


#: a directory: name -> how to come by what is there, made only when asked for
Folder = Mapping[str, Callable[[], "Node"]]
Node = File | Link | Folder

#: the first line of ``creatable_vgpu_types``
HEADER = "ID    : vGPU Name\n"

#: what NVIDIA's cards are bound to, and the version of it where nobody says another
DRIVER = "nvidia"
DRIVER_VERSION = "595.91.04"

#: below it lies nearly everything that is asked for
_FUNCTIONS = "/sys/bus/pci/devices/"

#: raises an OSError in place of a write, or after it: (path, text) -> None
Fault = Callable[[str, str], None]


def refuse(number: int, path: str = "") -> OSError:
    return OSError(number, os.strerror(number), path)


def text(value: object) -> Callable[[], Node]:
    return lambda: File(read=lambda: f"{value}\n")


class SimulatedKernel:
    """The `Sysfs` port on a `Machine`."""

    def __init__(self, cards: Sequence[Card], machine: Machine, driver_version: str | None = None) -> None:
        self._driver_version = driver_version or DRIVER_VERSION
        self._cards = {card.gpu.address: card for card in cards}
        self._machine = machine
        self._identities = {card.gpu.address: self._identity(card) for card in cards}
        #: the PCI functions change only when virtual functions come or go
        self._pci_functions = self._pci()
        self._parent_names = {card.gpu.address: frozenset(map(str, card.parents)) for card in cards}
        self._mdev_parents = {
            name: partial(Link, f"/sys/bus/pci/devices/{name}")
            for card in cards
            if card.gpu.framework is Framework.MDEV
            for name in self._parent_names[card.gpu.address]
        }
        #: what an idle VF of a GPU lists, and for which layout this was found out
        self._listings: dict[PciAddress, tuple[object, str]] = {}
        #: called before and after the effect of every write; fault tests raise here
        self.before_write: Fault = lambda path, text: None
        self.after_write: Fault = lambda path, text: None
        if not self._fits():
            machine.reboot()  # other cards than before are in it, and nobody exchanges them under power

    # ------------------------------------------------------------------------------------------------ the port

    def read(self, path: str) -> str:
        with self._machine.lock:
            node = self._resolve(path)
            if not isinstance(node, File):
                raise refuse(errno.EISDIR, path)
            if node.read is None:
                raise refuse(errno.EACCES, path)
            return node.read()

    def write(self, path: str, text: str) -> None:
        with self._machine.lock:
            node = self._resolve(path)
            if not isinstance(node, File):
                raise refuse(errno.EISDIR, path)
            if node.write is None:
                raise refuse(errno.EACCES, path)
            self.before_write(path, text)
            node.write(text)
            self._machine.save()
            self.after_write(path, text)

    def list(self, path: str) -> list[str]:
        with self._machine.lock:
            node = self._resolve(path)
            if isinstance(node, File | Link):
                raise refuse(errno.ENOTDIR, path)
            return sorted(node)

    def exists(self, path: str) -> bool:
        try:
            with self._machine.lock:
                self._resolve(path)
        except OSError:
            return False
        return True

    def link(self, path: str) -> str:
        with self._machine.lock:
            node = self._resolve(path, follow_last=False)
            if not isinstance(node, Link):
                raise refuse(errno.EINVAL, path)
            return node.to.rsplit("/", 1)[1]

    def _resolve(self, path: str, *, follow_last: bool = True) -> Node:
        deep = path.startswith(_FUNCTIONS) and path != _FUNCTIONS
        node: Node = self._pci_functions if deep else self._root()
        parts = (path.removeprefix(_FUNCTIONS) if deep else path).strip("/").split("/")
        for index, part in enumerate(parts):
            if isinstance(node, File | Link):
                raise refuse(errno.ENOTDIR, path)
            if part not in node:
                raise refuse(errno.ENOENT, path)
            node = node[part]()
            if isinstance(node, Link) and (follow_last or index < len(parts) - 1):
                node = self._resolve(node.to)
        return node

    # ------------------------------------------------------------------------------------------------ the tree

    def _root(self) -> Folder:
        drivers: dict[str, Callable[[], Node]] = {DRIVER: lambda: {"module": lambda: Link(f"/sys/module/{DRIVER}")}}
        bus: dict[str, Callable[[], Node]] = {"pci": lambda: {"devices": lambda: self._pci_functions, "drivers": lambda: drivers}}
        classes: dict[str, Callable[[], Node]] = {}
        if self._mdev_parents:  # the mdev bus comes with the first driver that uses it
            bus["mdev"] = lambda: {"devices": self._mdevs}
            classes["mdev_bus"] = lambda: {name: link for name, link in self._mdev_parents.items() if name in self._pci_functions}
        modules: dict[str, Callable[[], Node]] = {DRIVER: lambda: {"version": text(self._driver_version)}}
        return {"sys": lambda: {"bus": lambda: bus, "class": lambda: classes, "module": lambda: modules}}

    def _pci(self) -> Folder:
        folders: dict[str, Callable[[], Node]] = {}
        for card in self._cards.values():
            folders[str(card.gpu.address)] = self._gpu(card)
            for index, function in enumerate(self._enabled(card)):
                folders[str(function)] = partial(self._function, card, index)
        return folders

    def _enabled(self, card: Card) -> tuple[PciAddress, ...]:
        return () if str(card.gpu.address) in self._machine.state.functions_off else card.functions

    @staticmethod
    def _identity(card: Card) -> dict[str, Callable[[], Node]]:
        numa_node = card.gpu.numa_node
        files: dict[str, Callable[[], Node]] = {
            "vendor": text(f"0x{card.vendor_id}"),
            "device": text(f"0x{card.device_id}"),
            "subsystem_device": text(f"0x{card.subsystem_id or '0000'}"),
            "class": text("0x030200"),
            "numa_node": text(-1 if numa_node is None else numa_node),
        }
        if card.vendor_id == catalog.NVIDIA:
            files["driver"] = lambda: Link(f"/sys/bus/pci/drivers/{DRIVER}")
        return files

    def _gpu(self, card: Card) -> Callable[[], Node]:
        """What its folder is made by; where it changes only with its virtual functions it is one folder until then."""
        files = dict(self._identities[card.gpu.address])
        if card.gpu.framework is Framework.MDEV and not card.functions:
            return lambda: files | self._mdev_files(card, card.gpu.address)
        if card.functions:
            files["sriov_totalvfs"] = text(len(card.functions))
            files["sriov_numvfs"] = lambda: File(
                read=lambda: f"{len(self._enabled(card))}\n", write=lambda said: self._set_functions(card, said)
            )
            for index, function in enumerate(self._enabled(card)):
                files[f"virtfn{index}"] = partial(Link, f"/sys/bus/pci/devices/{function}")
        return lambda: files

    def _function(self, card: Card, index: int) -> Folder:
        function = card.functions[index]
        files = dict(self._identities[card.gpu.address])
        files["physfn"] = lambda: Link(f"/sys/bus/pci/devices/{card.gpu.address}")
        if card.gpu.framework is Framework.MDEV:
            files |= self._mdev_files(card, function)
        else:
            files["nvidia"] = lambda: self._nvidia(card, function)
        return files

    def _set_functions(self, card: Card, said: str) -> None:
        """``sriov_numvfs_store`` of drivers/pci/pci-sysfs.c, on a card that enables all or none."""
        number = said.strip()
        if not (number.isascii() and number.isdecimal()):
            raise refuse(errno.EINVAL)
        wanted, enabled, off = int(number), len(self._enabled(card)), self._machine.state.functions_off
        if wanted > len(card.functions):
            raise refuse(errno.ERANGE)
        if wanted == enabled:
            return
        if wanted and enabled:
            raise refuse(errno.EBUSY)
        if wanted and wanted != len(card.functions):
            raise refuse(errno.EINVAL)
        if wanted:
            off.discard(str(card.gpu.address))
        else:
            if any(self._busy(function) for function in card.functions):
                raise refuse(errno.EBUSY)
            off.add(str(card.gpu.address))
        self._pci_functions = self._pci()

    # ------------------------------------------------------------------------------------------------ mdev

    def _mdevs(self) -> Folder:
        found = self._machine.state.mdevs.items()
        return {uuid: partial(Link, f"/sys/bus/pci/devices/{at.parent}/{uuid}") for uuid, at in found}

    def _mdev_files(self, card: Card, parent: PciAddress) -> dict[str, Callable[[], Node]]:
        types = {t.id: partial(self._mdev_type, card, parent, t) for t in card.gpu.types}
        files: dict[str, Callable[[], Node]] = {"mdev_supported_types": lambda: types}
        for uuid, device in self._machine.state.mdevs.items():
            if device.parent == str(parent):
                files[uuid] = partial(self._mdev, uuid, device)
        return files

    def _mdev(self, uuid: str, device: MachineDevice) -> Folder:
        types = f"/sys/bus/pci/devices/{device.parent}/mdev_supported_types"
        return {"mdev_type": lambda: Link(f"{types}/{device.type_id}"), "remove": lambda: File(write=lambda said: self._remove(uuid, said))}

    def _mdev_type(self, card: Card, parent: PciAddress, vgpu_type: VgpuType) -> Folder:
        described = f"num_heads=4, frl_config=60, framebuffer={vgpu_type.framebuffer_mb}M, max_resolution=7680x4320"
        files = {
            "create": lambda: File(write=lambda said: self._create(card, parent, vgpu_type, said)),
            "available_instances": lambda: File(read=lambda: f"{self._available(card, parent, vgpu_type)}\n"),
            "device_api": text("vfio-pci"),
            "description": text(f"{described}, max_instance={vgpu_type.max_instances}"),
        }
        if vgpu_type.name != vgpu_type.id:
            files["name"] = text(vgpu_type.name)
        return files

    def _available(self, card: Card, parent: PciAddress, vgpu_type: VgpuType) -> int:
        if card.functions and self._busy(parent):
            return 0
        room = self._room(card, self._layout(card), vgpu_type)
        return min(room, 1) if card.functions else room

    def _room(self, card: Card, layout: Layout, vgpu_type: VgpuType) -> int:
        """In MIG mode a type needs a GPU instance of its profile that is there already, and free."""
        if card.gpu.partitioning is Partitioning.MIG:
            return len(self._free_instances(card, vgpu_type))
        return partitioners.kernel_room(card.gpu, layout, vgpu_type)

    def _create(self, card: Card, parent: PciAddress, vgpu_type: VgpuType, said: str) -> None:
        if len(said) not in (36, 37) or (len(said) == 37 and not said.endswith("\n")):
            raise refuse(errno.EINVAL)
        try:
            uuid = ids.parse_uuid(said.removesuffix("\n"))
        except BadRequest:
            raise refuse(errno.EINVAL) from None
        if uuid in self._machine.state.mdevs:
            raise refuse(errno.EEXIST)
        if not self._available(card, parent, vgpu_type):
            raise refuse(errno.EINVAL if card.gpu.partitioning is Partitioning.SAME_SIZE else errno.ENOSPC)
        self._machine.state.mdevs[uuid] = MachineDevice(str(parent), vgpu_type.id)

    def _remove(self, uuid: str, said: str) -> None:
        if not said.strip().isdecimal() or int(said) == 0:
            raise refuse(errno.EINVAL)
        if self._machine.holds(uuid):
            raise refuse(errno.EBUSY)
        del self._machine.state.mdevs[uuid]

    # ------------------------------------------------------------------------------------------------ vendor-specific VFIO

    def _nvidia(self, card: Card, function: PciAddress) -> Folder:
        return {
            "creatable_vgpu_types": lambda: File(read=lambda: self._creatable(card, function)),
            "current_vgpu_type": lambda: File(
                read=lambda: f"{self._machine.state.vf_types.get(str(function), '0')}\n",
                write=lambda said: self._set_type(card, function, said),
            ),
            "placement_id": lambda: File(
                read=lambda: self._placement(card, function),
                write=partial(self._wish, card, function, Partitioning.MIXED_SIZE),
            ),
            "gpu_instance_id": lambda: File(
                read=lambda: self._instance(card, function),
                write=partial(self._wish, card, function, Partitioning.MIG),
            ),
            "vgpu_params": lambda: File(read=lambda: "\n"),
        }

    def _creatable(self, card: Card, function: PciAddress) -> str:
        return HEADER if self._busy(function) else self._listing(card)

    def _listing(self, card: Card) -> str:
        layout = self._layout(card)
        state = layout, tuple(self._instances(card).items())
        known = self._listings.get(card.gpu.address)
        if known is None or known[0] != state:
            listed = [t for t in card.gpu.types if self._room(card, layout, t)]
            known = state, HEADER + "".join(f"{t.id:<6}: {t.name}\n" for t in listed)
            self._listings[card.gpu.address] = known
        return known[1]

    def _set_type(self, card: Card, function: PciAddress, said: str) -> None:
        number, key = said.strip(), str(function)
        if not (number.isascii() and number.isdecimal()):
            raise refuse(errno.EINVAL)
        if number == "0":
            if self._machine.holds(key):
                raise refuse(errno.EBUSY)
            for forgotten in (self._machine.state.vf_types, self._machine.state.vf_places, self._machine.state.vf_wishes):
                forgotten.pop(key, None)
            return
        vgpu_type = next((t for t in card.gpu.types if t.id == number), None)
        if vgpu_type is None:
            raise refuse(errno.EINVAL)
        if not self._available(card, function, vgpu_type):
            raise refuse(errno.EIO)
        place = self._place(card, vgpu_type, self._machine.state.vf_wishes.get(key))
        if place is not None:
            self._machine.state.vf_places[key] = place
        self._machine.state.vf_types[key] = number

    def _wish(self, card: Card, function: PciAddress, mode: Partitioning, said: str) -> None:
        """Where the next vGPU of a VF shall go; whether it can, the driver finds out when the type is set."""
        number = said.strip()
        if card.gpu.partitioning is not mode or not (number.isascii() and number.isdecimal()):
            raise refuse(errno.EINVAL)
        if self._busy(function):
            raise refuse(errno.EBUSY)
        self._machine.state.vf_wishes[str(function)] = int(number)

    def _place(self, card: Card, vgpu_type: VgpuType, wish: int | None) -> int | None:
        """What a new vGPU stands on: what was asked for, else the first that is free; None where the card has no places."""
        free: Sequence[int]
        if card.gpu.partitioning is Partitioning.MIXED_SIZE:
            free = partitioners.placements(card.gpu, self._layout(card), vgpu_type)
        elif card.gpu.partitioning is Partitioning.MIG:
            free = self._free_instances(card, vgpu_type)
        else:
            return None
        if wish is not None and wish not in free:
            raise refuse(errno.EIO)
        return free[0] if wish is None else wish

    def _instances(self, card: Card) -> Mapping[int, MachineInstance]:
        return self._machine.state.gpu_instances.get(str(card.gpu.address), {})

    def _free_instances(self, card: Card, vgpu_type: VgpuType) -> Sequence[int]:
        """Ids of the GPU instances of a type's profile that no vGPU stands on."""
        profile = mig.profile(card.gpu, vgpu_type)
        used = {self._machine.state.vf_places.get(str(function)) for function in card.functions}
        return sorted(i for i, g in self._instances(card).items() if profile is not None and g.profile == profile.id and i not in used)

    def _instance(self, card: Card, function: PciAddress) -> str:
        if card.gpu.partitioning is not Partitioning.MIG or not self._busy(function):
            raise refuse(errno.ENXIO)
        return f"{self._machine.state.vf_places[str(function)]}\n"

    def _placement(self, card: Card, function: PciAddress) -> str:
        """In equal-size mode the n-th vGPU starts at n times its size, in slots of 1 GiB."""
        if str(function) in self._machine.state.vf_places and card.gpu.partitioning is Partitioning.MIXED_SIZE:
            return f"{self._machine.state.vf_places[str(function)]}\n"
        occupied = [f for f in card.functions if str(f) in self._machine.state.vf_types]
        if function not in occupied:
            raise refuse(errno.ENXIO)
        number = self._machine.state.vf_types[str(function)]
        size = next(t.framebuffer_mb for t in card.gpu.types if t.id == number)
        return f"{occupied.index(function) * max(1, size // 1024)}\n"

    # ------------------------------------------------------------------------------------------------ what stands there

    def _fits(self) -> bool:
        """Whether everything that stands is on a card that is there, and of a type it has."""
        offered = {(parent, t.id) for card in self._cards.values() for parent in map(str, card.parents) for t in card.gpu.types}
        state = self._machine.state
        return offered.issuperset((d.parent, d.type_id) for d in state.mdevs.values()) and offered.issuperset(state.vf_types.items())

    def _layout(self, card: Card) -> Layout:
        types = {t.id: t for t in card.gpu.types}
        parents = self._parent_names[card.gpu.address]
        standing = [Spot(types[d.type_id]) for d in self._machine.state.mdevs.values() if d.parent in parents]
        places = self._machine.state.vf_places if card.gpu.partitioning is Partitioning.MIXED_SIZE else {}
        on_functions = self._machine.state.vf_types.items()
        standing += [Spot(types[type_id], places.get(function)) for function, type_id in on_functions if function in parents]
        return Layout.of(standing)

    def _busy(self, parent: PciAddress) -> bool:
        key = str(parent)
        return key in self._machine.state.vf_types or any(d.parent == key for d in self._machine.state.mdevs.values())
