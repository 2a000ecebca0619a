"""GPUs, vGPU types and vGPUs as facts: no behaviour of any driver lives here."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from lamina.model import resources
from lamina.model.ids import PciAddress

# "NVIDIA A40-8Q", "GRID T4-2Q", "NVIDIA A100-1-5CME"; the part after the first word tells the type (the vendor word varies by driver).
_TYPE_NAME = re.compile(
    r"(?:NVIDIA|GRID) (?P<family>.+?)-(?:(?P<slices>\d+)-)?(?P<gib>\d+)(?P<series>[ABCQ])(?P<suffix>\d|ME|NOME|MEALL|GFX)?"
)


class Framework(enum.StrEnum):
    """How the kernel makes vGPUs on a GPU."""

    #: mediated devices in sysfs (Linux, Documentation/driver-api/vfio-mediated-device.rst)
    MDEV = "mdev"
    #: vendor-specific VFIO on SR-IOV virtual functions (NVIDIA vGPU 17 and later on Linux 6.8 and later)
    VFIO = "vfio"


class Partitioning(enum.StrEnum):
    """Which rule says what layouts of a GPU are legal; `lamina.model.partitioners` has one class for each."""

    #: one framebuffer size at a time
    SAME_SIZE = "same-size"
    #: several sizes, each at starts of its own
    MIXED_SIZE = "mixed-size"
    #: each on a GPU instance of its own
    MIG = "mig"
    #: any sizes, as long as the memory lasts
    SHARED_POOL = "shared-pool"


#: the ways in which it matters where on the GPU a vGPU stands
HAVE_SLOTS = (Partitioning.MIXED_SIZE, Partitioning.MIG)


class VgpuState(enum.StrEnum):
    """Where a vGPU stands, as ``GET /fleet/v1/vgpus`` shows it."""

    #: written down and paid for, not on the hardware yet
    PLANNED = "planned"
    #: on the hardware, no domain holds it
    PRESENT = "present"
    #: on the hardware and part of a server's domain
    ATTACHED = "attached"
    #: made by Lamina, and nothing in the records pays for it
    ORPHAN = "orphan"
    #: made by somebody else: counted, shown, never touched
    FOREIGN = "foreign"


@dataclasses.dataclass(frozen=True, slots=True)
class VgpuType:
    """One profile a GPU can be cut into.

    ``id`` is the kernel's word (``nvidia-558`` under mdev, ``558`` under vfio) and means nothing on another host;
    ``name`` is what operators write (``NVIDIA A40-2Q``, or the id where the driver gives no name).
    """

    id: str
    name: str
    framebuffer_mb: int
    #: most instances on one empty GPU
    max_instances: int

    @property
    def series(self) -> str:
        """``Q``, ``C``, ``B`` or ``A`` by the type's name, or ``""`` for names outside NVIDIA's grammar."""
        return _named(self.name)[0]

    @property
    def mig_backed(self) -> bool:
        """Whether it stands on a GPU instance of its own, by the type's name (``A100-1-5C``: one slice)."""
        return self.slices > 0

    @property
    def slices(self) -> int:
        """The compute slices of its GPU instance, by the type's name; 0 for types that stand on none."""
        return _named(self.name)[1]

    @property
    def trait(self) -> str:
        return resources.type_trait(self.name)

    def called(self, word: str) -> bool:
        """Whether an operator's `word` means this type: its name, its id, or its name under the other vendor word."""
        return word in (self.name, self.id) or (" " in word and " " in self.name and word.split(" ", 1)[1] == self.name.split(" ", 1)[1])


@functools.lru_cache(maxsize=4096)
def _named(name: str) -> tuple[str, int]:
    """Series and compute slices of a type's name, as far as it has them."""
    match = _TYPE_NAME.fullmatch(name)
    return (match["series"], int(match["slices"] or 0)) if match else ("", 0)


def framebuffer_of_name(name: str) -> int | None:
    """Framebuffer in MiB told by a type's name (``A40-8Q``: 8192; ``…-0B`` and ``…-0Q``: 512), or None."""
    match = _TYPE_NAME.fullmatch(name)
    if match is None:
        return None
    gib = int(match["gib"])
    return gib * 1024 if gib else 512


@dataclasses.dataclass(frozen=True, slots=True)
class GpuSettings:
    """What the operator says of one GPU, in a fleet file or in ``agent.toml``; everything may be left out."""

    address: PciAddress
    #: type names or ids; None enables every type the kernel offers
    enabled_types: tuple[str, ...] | None = None
    resource_class: str = resources.VGPU
    #: most vGPUs that Lamina makes on it (Nova's ``max_instances``)
    max_instances: int | None = None
    #: facts of types that neither the kernel's files nor the catalog tell
    types: tuple[VgpuType, ...] = ()
    #: whether a host's compute service enables all of its virtual functions where none is
    enable_functions: bool = False
    #: how a card is cut that can be cut in several ways; None for what its driver does by itself
    partitioning: Partitioning | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU and what may be made on it. Everything the partitioners need, and nothing that changes with use."""

    address: PciAddress
    model: str
    framework: Framework
    partitioning: Partitioning
    framebuffer_mb: int
    #: every type the card offers
    types: tuple[VgpuType, ...]
    #: names of the types that may be made here, in the operator's order of preference
    enabled_types: tuple[str, ...]
    resource_class: str = resources.VGPU
    max_instances: int | None = None
    #: how many parents it has: its VFs on SR-IOV cards, None where the GPU itself is the parent
    virtual_functions: int | None = None
    numa_node: int | None = None
    #: the kernel driver it is bound to, and that driver's version
    driver: str | None = None
    driver_version: str | None = None
    #: whether these modes are on, where the card has them and its management library tells
    ecc: bool | None = None
    mig: bool | None = None
    mixed: bool | None = None
    #: the card's, which decides where its vGPUs may start in mixed-size mode; "" where nobody knows
    generation: str = ""

    def type_named(self, name: str) -> VgpuType:
        """The type of that name. Raises KeyError."""
        for vgpu_type in self.types:
            if vgpu_type.name == name:
                return vgpu_type
        raise KeyError(name)

    def remembering(self, before: Gpu) -> Gpu:
        """This GPU with the types of an earlier look that it does not tell of now.

        A driver lists what could be made, not what the card offers: a card that others have filled tells of nothing.
        """
        if (before.model, before.framework) != (self.model, self.framework):
            return self
        told = {t.name for t in self.types}
        missing = tuple(t for t in before.types if t.name not in told)
        enabled = tuple(t.name for t in missing if t.name in before.enabled_types)
        return dataclasses.replace(
            self,
            framebuffer_mb=max(self.framebuffer_mb, before.framebuffer_mb) if missing else self.framebuffer_mb,
            types=self.types + missing,
            enabled_types=self.enabled_types + enabled,
        )

    @property
    def enabled(self) -> tuple[VgpuType, ...]:
        return tuple(self.type_named(name) for name in self.enabled_types)


class Spot(NamedTuple):
    """A vGPU on a GPU: its type, and the slot it starts at (None on a card without slots, or where nobody knows)."""

    type: VgpuType
    start: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The vGPUs on one GPU: the types of ours (planned ones too) and of foreign ones, and where each stands.

    ``starts`` are the slots of ours and ``foreign_starts`` of the foreign, in the same order; they are empty where none
    is known, as on cards that have no slots.
    """

    ours: tuple[VgpuType, ...] = ()
    foreign: tuple[VgpuType, ...] = ()
    starts: tuple[int | None, ...] = ()
    foreign_starts: tuple[int | None, ...] = ()

    @classmethod
    def of(cls, ours: Iterable[Spot], foreign: Iterable[Spot] = ()) -> Layout:
        ours, foreign = tuple(ours), tuple(foreign)
        return cls(tuple(s.type for s in ours), tuple(s.type for s in foreign), _starts(ours), _starts(foreign))

    @property
    def all(self) -> tuple[VgpuType, ...]:
        return self.ours + self.foreign

    @property
    def spots(self) -> tuple[Spot, ...]:
        """Every vGPU with its place, ours first."""
        starts = (self.starts or (None,) * len(self.ours)) + (self.foreign_starts or (None,) * len(self.foreign))
        return tuple(map(Spot, self.all, starts))

    def plus(self, vgpu_type: VgpuType, start: int | None = None) -> Layout:
        """This layout with one more of ours."""
        starts = self.starts
        if starts or start is not None:
            starts = (*(starts or (None,) * len(self.ours)), start)
        return Layout((*self.ours, vgpu_type), self.foreign, starts, self.foreign_starts)

    def minus(self, vgpu_type: VgpuType, start: int | None = None) -> Layout:
        """This layout with one less of ours. Raises ValueError where that one is not in it."""
        ours = list(self.spots[: len(self.ours)])
        ours.remove(Spot(vgpu_type, start))
        return Layout.of(ours, self.spots[len(self.ours) :])

    def in_order(self) -> Layout:
        """The same layout, written as every layout is that has the same vGPUs in the same places."""
        spots = self.spots
        return Layout.of(sorted(spots[: len(self.ours)], key=_order), sorted(spots[len(self.ours) :], key=_order))


def _order(spot: Spot) -> tuple[str, int]:
    return spot.type.name, -1 if spot.start is None else spot.start


def _starts(spots: tuple[Spot, ...]) -> tuple[int | None, ...]:
    return tuple(s.start for s in spots) if any(s.start is not None for s in spots) else ()
