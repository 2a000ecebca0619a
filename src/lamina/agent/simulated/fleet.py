"""Fleet files: simulated hosts and their GPUs, described in YAML.

Everything is checked before anything is begun; what is wrong is told in one sentence that names the field.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from importlib import resources as package
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from lamina.agent.simulated.kernel import Card
from lamina.model import catalog, decoding, driver_advisories, ids, resources
from lamina.model.errors import BadRequest
from lamina.model.gpus import HAVE_SLOTS, Framework, Gpu, GpuSettings, Partitioning, VgpuType
from lamina.model.ids import PciAddress

#: device id of a card that is described by hand; no vendor uses it
BY_HAND = "fffe"
#: a vendor id for cards of a shared pool, QEMU's own
POOL_VENDOR = "1234"
_NO_VALUE = "the fleet file has a value that cannot be read"
_TYPE_NUMBER = re.compile(r"nvidia-([0-9]{1,9})")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"\A[A-Za-z0-9][A-Za-z0-9 ._-]*\Z")]


class TypeEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    max_instances: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    framebuffer_mb: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class GpuEntry(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    framework: Framework
    model: str | None = None
    types: list[TypeEntry] | None = None
    enabled_types: list[Name] | None = None
    resource_class: str = resources.VGPU
    max_instances: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    partitioning: Partitioning | None = None
    virtual_functions: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    numa_node: Annotated[int, msgspec.Meta(ge=0, le=1023)] | None = None


class HostEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    vcpus: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    memory_mb: Annotated[int, msgspec.Meta(ge=512, le=1 << 27)]
    disk_gb: Annotated[int, msgspec.Meta(ge=0, le=10**6)]
    gpus: list[GpuEntry] = []
    networks: list[Name] = []
    #: of the hypervisor that the host has
    hypervisor_version: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\Z")] = "9.0.0"
    #: of the driver of its NVIDIA GPUs
    driver_version: Annotated[str, msgspec.Meta(pattern=rf"\A{driver_advisories.VERSION}\Z")] | None = None
    #: what moving a running domain to another host takes
    migration_seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0
    count: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None


class FleetEntry(msgspec.Struct, forbid_unknown_fields=True):
    hosts: Annotated[list[HostEntry], msgspec.Meta(min_length=1)]


@dataclasses.dataclass(frozen=True, slots=True)
class FleetHost:
    """One simulated host: its cards, and what its operator says of them."""

    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    cards: tuple[Card, ...]
    settings: dict[PciAddress, GpuSettings]
    networks: tuple[str, ...] = ()
    #: major * 1000000 + minor * 1000 + release
    hypervisor_version: int = 9_000_000
    migration_seconds: float = 0.0
    driver_version: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    hosts: tuple[FleetHost, ...]


def demo_fleet() -> Fleet:
    """The fleet that comes along."""
    return parse_fleet(package.files("lamina.agent.simulated").joinpath("demo.yaml").read_text(encoding="utf-8"))


def load_fleet(path: Path) -> Fleet:
    """Raises `BadRequest`."""
    try:
        return parse_fleet(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"--fleet: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"--fleet: {path} is not a text file in UTF-8") from error


def parse_fleet(text: str) -> Fleet:
    """Raises `BadRequest` that names the field."""
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise BadRequest(f"the fleet file is not YAML{f' (line {mark.line + 1})' if mark is not None else ''}") from error
    except (ValueError, RecursionError) as error:  # a date that is none, lists in lists in lists
        raise BadRequest(_NO_VALUE) from error
    return fleet_of(said)


def fleet_of(said: object) -> Fleet:
    """The fleet that a file describes, by what the file says. Raises `BadRequest` that names the field."""
    try:
        entry = decoding.from_plain(said, FleetEntry)
    except msgspec.ValidationError as error:
        raise BadRequest(_told(error)) from error
    except ValueError as error:  # half of a character, as "\ud800" is
        raise BadRequest(_NO_VALUE) from error
    hosts: list[FleetHost] = []
    names: set[str] = set()
    offered = {t.name for h in entry.hosts for g in h.gpus for t in g.types or ()}
    for index, described in enumerate(entry.hosts):
        where = f"hosts[{index}]"
        cards, settings = _gpus(where, described, offered)
        if len(set(described.networks)) < len(described.networks):
            raise BadRequest(f"{where}.networks: one of them is there twice")
        for name in _names(where, described):
            if name in names:
                raise BadRequest(f"{where}.name: there are two hosts {name!r}")
            names.add(name)
            size = (described.vcpus, described.memory_mb, described.disk_gb)
            major, minor, release = map(int, described.hypervisor_version.split("."))
            version = major * 1_000_000 + minor * 1000 + release
            on = tuple(described.networks)
            told = (described.migration_seconds, described.driver_version)
            hosts.append(FleetHost(name, *size, cards, settings, on, version, *told))
    return Fleet(tuple(hosts))


def _told(error: msgspec.ValidationError) -> str:
    """msgspec's ``Expected … - at `$.hosts[0].vcpus``` with the field first."""
    what, _, where = str(error).partition(" - at `$")
    return f"{where.strip('`').lstrip('.') or 'the fleet file'}: {what[0].lower()}{what[1:]}"


@contextlib.contextmanager
def _field(name: str) -> Iterator[None]:
    """Put the field's name before what is wrong with it."""
    try:
        yield
    except BadRequest as error:
        raise BadRequest(f"{name}: {error.message}") from error


def _names(where: str, entry: HostEntry) -> Iterator[str]:
    for number in range(1, entry.count + 1) if entry.count is not None else ("",):
        with _field(f"{where}.name"):
            name = ids.parse_host_name(f"{entry.name}{number}")
        yield name


def _gpus(where: str, entry: HostEntry, offered: set[str]) -> tuple[tuple[Card, ...], dict[PciAddress, GpuSettings]]:
    cards: list[Card] = []
    settings: dict[PciAddress, GpuSettings] = {}
    used: dict[PciAddress, str] = {}
    for index, gpu in enumerate(entry.gpus):
        here = f"{where}.gpus[{index}]"
        with _field(f"{here}.address"):
            address = PciAddress.parse(gpu.address)
        with _field(f"{here}.resource_class"):
            resource_class = resources.parse_vgpu_class(gpu.resource_class)
        for number, word in enumerate(gpu.enabled_types or ()):
            if word not in offered and not catalog.is_type(word):
                raise BadRequest(f"{here}.enabled_types[{number}]: no card of the catalog or of this file has a vGPU type {word!r}")
        card = _card(here, gpu, address)
        for function in (address, *card.functions):
            if function in used:
                raise BadRequest(f"{here}.address: {function} is already used by {used[function]}")
            used[function] = here
        cards.append(card)
        settings[address] = GpuSettings(
            address=address,
            enabled_types=tuple(gpu.enabled_types) if gpu.enabled_types is not None else None,
            resource_class=resource_class,
            max_instances=gpu.max_instances,
            types=card.gpu.types if gpu.types is not None else (),
            partitioning=gpu.partitioning if gpu.model is not None else None,
        )
    return tuple(cards), settings


def _card(here: str, entry: GpuEntry, address: PciAddress) -> Card:
    if (entry.model is None) == (entry.types is None):
        raise BadRequest(f"{here}: a GPU has either a model from the catalog or types given by hand")
    if entry.model is not None:
        with _field(f"{here}.model"):
            known = catalog.card(entry.model)
        cuts = known.cuts(entry.framework)
        if entry.partitioning not in (None, *cuts):
            raise BadRequest(f"{here}.partitioning: a {known.board} under {entry.framework} can be cut {' or '.join(cuts)}")
        vendor_id, device_id, subsystem_id = known.vendor_id, known.device_ids[0], known.subsystem_id
        partitioning, types, default_functions = entry.partitioning or cuts[0], known.types, known.virtual_functions
        generation = known.generation
        if entry.framework is Framework.VFIO and default_functions is None:
            raise BadRequest(f"{here}.framework: a {known.board} has no SR-IOV, which vfio needs")
        if entry.virtual_functions is not None and default_functions is None:
            raise BadRequest(f"{here}.virtual_functions: a {known.board} has no SR-IOV")
    else:
        partitioning, generation = entry.partitioning or Partitioning.SAME_SIZE, ""
        if partitioning in HAVE_SLOTS:
            raise BadRequest(f"{here}.partitioning: only for a card of the catalog it is known where {partitioning} vGPUs may start")
        types = _types_by_hand(here, entry)
        vendor_id = catalog.NVIDIA if partitioning is Partitioning.SAME_SIZE else POOL_VENDOR
        device_id, subsystem_id = BY_HAND, None
        default_functions = max(32, *(t.max_instances for t in types)) if entry.framework is Framework.VFIO else None
    if entry.framework is Framework.MDEV:
        types = tuple(dataclasses.replace(t, id=t.id if entry.types is not None else f"nvidia-{t.id}") for t in types)
    functions = entry.virtual_functions or default_functions or 0
    gpu = Gpu(
        address=address,
        model=entry.model or "by hand",
        framework=entry.framework,
        partitioning=partitioning,
        framebuffer_mb=max(t.framebuffer_mb * t.max_instances for t in types),
        types=types,
        enabled_types=(),
        virtual_functions=functions or None,
        numa_node=entry.numa_node,
        generation=generation,
    )
    try:
        return Card(gpu, vendor_id, device_id, subsystem_id, tuple(address.virtual_function(i) for i in range(functions)))
    except BadRequest as error:
        raise BadRequest(f"{here}.virtual_functions: {functions} do not fit behind {address} on its bus") from error


def _types_by_hand(here: str, entry: GpuEntry) -> tuple[VgpuType, ...]:
    types: list[VgpuType] = []
    for index, described in enumerate(entry.types or ()):
        if any(t.name == described.name for t in types):
            raise BadRequest(f"{here}.types[{index}].name: {described.name!r} is there twice")
        number = _TYPE_NUMBER.fullmatch(described.name)
        if entry.framework is Framework.MDEV:
            type_id = described.name.replace(" ", "-")
        else:
            type_id = str(int(number[1]) if number else catalog.MADE_UP_IDS + index)
            if type_id == "0":
                raise BadRequest(f"{here}.types[{index}].name: under vfio the number 0 means that there is no vGPU")
        if any(t.id == type_id for t in types):
            raise BadRequest(f"{here}.types[{index}].name: {described.name!r} has the same number as another type")
        types.append(VgpuType(type_id, described.name, described.framebuffer_mb, described.max_instances))
    if not types:
        raise BadRequest(f"{here}.types: a GPU given by hand has at least one type")
    return tuple(types)
