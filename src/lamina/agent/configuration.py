"""``agent.toml``: what the operator of a real host says of it. Everything may be left out.

Everything is checked before anything is begun; what is wrong is told in one sentence that names the key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lamina.model import decoding, ids, resources
from lamina.model.errors import BadRequest
from lamina.model.gpus import GpuSettings, Partitioning, VgpuType
from lamina.model.ids import PciAddress

#: where it is looked for when nobody says
DEFAULT_PATH = Path("/etc/lamina/agent.toml")

#: a Linux interface's name (net/core/dev.c, dev_valid_name), and a libvirt network's within what is sound for one
_BRIDGE = re.compile(r"[A-Za-z0-9._-]{1,15}")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"\A[A-Za-z0-9][A-Za-z0-9 ._-]*\Z")]
Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class TypeEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: Word
    max_instances: Positive
    framebuffer_mb: Positive


class GpuEntry(msgspec.Struct, forbid_unknown_fields=True):
    enabled_types: list[Word] | None = None
    resource_class: str = resources.VGPU
    max_instances: Positive | None = None
    types: list[TypeEntry] = []
    enable_functions: bool = False
    partitioning: Partitioning | None = None


class NetworkEntry(msgspec.Struct, forbid_unknown_fields=True):
    bridge: str | None = None
    libvirt: str | None = None


class ConsoleEntry(msgspec.Struct, forbid_unknown_fields=True):
    vnc: bool = True
    listen: str = "127.0.0.1"


class MigrationEntry(msgspec.Struct, forbid_unknown_fields=True):
    address: str | None = None
    transport: Literal["tls", "tcp"] = "tls"


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    host: str | None = None
    libvirt_uri: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "qemu:///system"
    open_libvirt_socket: bool = False
    shutdown_grace: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 60.0
    gpus: dict[str, GpuEntry] = {}
    networks: dict[str, NetworkEntry] = {}
    console: ConsoleEntry = msgspec.field(default_factory=ConsoleEntry)
    migration: MigrationEntry = msgspec.field(default_factory=MigrationEntry)


@dataclasses.dataclass(frozen=True, slots=True)
class HostNetwork:
    """A network as this host has it: a bridge of the kernel's, or a network of libvirt's."""

    name: str
    bridge: str | None = None
    libvirt: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """A real host's. Times in seconds."""

    host: str
    libvirt_uri: str
    #: how long a domain may take to shut down by itself before it is switched off
    shutdown_grace: float
    settings: Mapping[PciAddress, GpuSettings]
    networks: tuple[HostNetwork, ...]
    #: address that domains' VNC displays listen on, or None where they have no display
    vnc: str | None
    #: where other hosts' libvirt reaches this one's for live migration, and how this one's reaches theirs: ``tls`` or ``tcp``
    migration_address: str = ""
    migration_transport: str = "tls"
    #: whether it is in order that every user of the machine may write to libvirt's socket, for polkit asks who it is
    open_libvirt_socket: bool = False


def load(path: Path | None, *, host: str | None = None) -> Configuration:
    """The file at `path`; without one the default, and without that one what holds with nothing said.

    `host` is the name where the file has none; without it that is the machine's. Raises `BadRequest`.
    """
    at = path or DEFAULT_PATH
    try:
        return parse(at.read_text(encoding="utf-8"), named=str(at), host=host)
    except FileNotFoundError as error:
        if path is None:
            return parse("", named=str(at), host=host)
        raise BadRequest(f"--config: {path} is not there") from error
    except OSError as error:
        raise BadRequest(f"{at} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{at} is not a text file in UTF-8") from error


def parse(text: str, *, named: str = "agent.toml", host: str | None = None) -> Configuration:
    """Raises `BadRequest` that names the key."""
    try:
        content = decoding.from_plain(_decoded(text, named), _Content)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise BadRequest(f"{named}: {where.strip('`').lstrip('.') or 'the file'}: {what[0].lower()}{what[1:]}") from error
    with _key(f"{named}: host"):
        name = ids.parse_host_name(content.host or host or socket.gethostname())
    settings: dict[PciAddress, GpuSettings] = {}
    for said, entry in content.gpus.items():
        with _key(f"{named}: gpus.{said!r}"):
            address = PciAddress.parse(said)
            if address in settings:
                raise BadRequest("this GPU is there twice")
            settings[address] = _gpu(address, entry)
    networks = tuple(_network(named, name, entry) for name, entry in content.networks.items())
    with _key(f"{named}: console.listen"):
        vnc = _address(content.console.listen) if content.console.vnc else None
    with _key(f"{named}: migration.address"):
        at = ids.parse_host_name(content.migration.address or name)
    return Configuration(
        name,
        content.libvirt_uri,
        content.shutdown_grace,
        settings,
        networks,
        vnc,
        at,
        content.migration.transport,
        content.open_libvirt_socket,
    )


def _decoded(text: str, named: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise BadRequest(f"{named} is not TOML: {error}") from error


@contextlib.contextmanager
def _key(name: str) -> Iterator[None]:
    """Put the key before what is wrong with it."""
    try:
        yield
    except BadRequest as error:
        raise BadRequest(f"{name}: {error.message}") from error


def _gpu(address: PciAddress, entry: GpuEntry) -> GpuSettings:
    with _key("resource_class"):
        resource_class = resources.parse_vgpu_class(entry.resource_class)
    if len({t.name for t in entry.types}) != len(entry.types):
        raise BadRequest("types: a name is there twice")
    return GpuSettings(
        address=address,
        enabled_types=tuple(entry.enabled_types) if entry.enabled_types is not None else None,
        resource_class=resource_class,
        max_instances=entry.max_instances,
        types=tuple(VgpuType(t.name, t.name, t.framebuffer_mb, t.max_instances) for t in entry.types),
        enable_functions=entry.enable_functions,
        partitioning=entry.partitioning,
    )


def _network(named: str, name: str, entry: NetworkEntry) -> HostNetwork:
    here = f"{named}: networks.{name!r}"
    if not _NETWORK.fullmatch(name):
        raise BadRequest(f"{here}: a network's name is letters, digits, '.', '_' and '-'")
    if (entry.bridge is None) == (entry.libvirt is None):
        raise BadRequest(f"{here}: a network has either a bridge or a network of libvirt's")
    if entry.bridge is not None and (not _BRIDGE.fullmatch(entry.bridge) or entry.bridge in (".", "..")):
        raise BadRequest(f"{here}.bridge: {entry.bridge!r} is not the name of an interface")
    if entry.libvirt is not None and not _NETWORK.fullmatch(entry.libvirt):
        raise BadRequest(f"{here}.libvirt: {entry.libvirt!r} is not the name of a libvirt network")
    return HostNetwork(name, entry.bridge, entry.libvirt)


def _address(said: str) -> str:
    try:
        return str(ipaddress.ip_address(said))
    except ValueError as error:
        raise BadRequest(f"{said!r} is not an IP address") from error
