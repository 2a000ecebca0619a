"""Identifiers: parsed once, kept in one canonical form, everything else refused.

Regular expressions use ``fullmatch`` throughout, because ``$`` also matches before a trailing newline (CWE-185).
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import uuid

from lamina.model.errors import BadRequest

#: uuid5 name space of everything that Lamina derives rather than draws; drawn once for the project.
LAMINA_NAMESPACE = uuid.UUID("8d6f0c52-6a3e-5d0e-9e55-1a1c4e9f7a10")

_PCI = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")
_NODE_DEVICE = re.compile(r"pci_([0-9a-fA-F]{4})_([0-9a-fA-F]{2})_([0-9a-fA-F]{2})_([0-7])")
_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class PciAddress:
    """A PCI function, ``dddd:bb:ss.f`` in lower-case hexadecimal.

    Source of the form: Linux, Documentation/ABI/testing/sysfs-bus-pci; slots are five bits, functions three.
    """

    domain: int
    bus: int
    slot: int
    function: int

    def __post_init__(self) -> None:
        if not (0 <= self.domain <= 0xFFFF and 0 <= self.bus <= 0xFF and 0 <= self.slot <= 0x1F and 0 <= self.function <= 7):
            raise BadRequest(f"PCI address out of range: {self}")

    @classmethod
    def parse(cls, text: str) -> PciAddress:
        """Parse ``0000:81:00.0`` (either case). Raises `BadRequest` on anything else, a trailing newline included."""
        return cls._from(_PCI, text, "a PCI address looks like 0000:81:00.0")

    @classmethod
    def parse_node_device(cls, text: str) -> PciAddress:
        """Parse libvirt's ``pci_0000_81_00_0``. Raises `BadRequest` on anything else."""
        return cls._from(_NODE_DEVICE, text, "a PCI node device looks like pci_0000_81_00_0")

    @classmethod
    def _from(cls, pattern: re.Pattern[str], text: str, hint: str) -> PciAddress:
        match = pattern.fullmatch(text)
        if match is None:
            raise BadRequest(f"{text[:80]!r} is not a PCI address: {hint}")
        domain, bus, slot, function = (int(part, 16) for part in match.groups())
        if slot > 0x1F:
            raise BadRequest(f"{text[:80]!r} is not a PCI address: the slot is at most 1f")
        return cls(domain, bus, slot, function)

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function}"

    @property
    def node_device(self) -> str:
        """The name libvirt gives the function, ``pci_0000_81_00_0``."""
        return f"pci_{self.domain:04x}_{self.bus:02x}_{self.slot:02x}_{self.function}"

    def virtual_function(self, index: int, offset: int = 4, stride: int = 1) -> PciAddress:
        """Address of VF `index` (from 0): routing id + offset + index*stride (PCIe SR-IOV specification 1.1, 2.1.2)."""
        routing = (self.bus << 8 | self.slot << 3 | self.function) + offset + index * stride
        return PciAddress(self.domain, routing >> 8, routing >> 3 & 0x1F, routing & 7)


def parse_uuid(text: str, what: str = "id") -> str:
    """Canonical lower-case dashed form of a uuid given with or without dashes. Raises `BadRequest` on anything else."""
    if not _UUID.fullmatch(text):
        raise BadRequest(f"{what}: {text[:80]!r} is not a uuid")
    return str(uuid.UUID(text))


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def new_uuid() -> str:
    return str(uuid.uuid4())


def new_identity_id() -> str:
    """An id in Keystone's form: a uuid without dashes."""
    return uuid.uuid4().hex


def new_request_id() -> str:
    """A request id in OpenStack's form, ``req-<uuid>``."""
    return f"req-{uuid.uuid4()}"


def global_request_id(text: str) -> str | None:
    """What a caller names its own request by, in the form that oslo.middleware's request_id takes; anything else is ignored."""
    return text if _REQUEST_ID.fullmatch(text) else None


def vgpu_uuid(server_id: str, operation_id: str, index: int) -> str:
    """The uuid of a server's vGPU number `index` as made by one operation: the same answer however often it is asked."""
    return str(uuid.uuid5(LAMINA_NAMESPACE, f"vgpu/{server_id}/{operation_id}/{index}"))


def foreign_vf_uuid(host: str, function: PciAddress) -> str:
    """A name for what somebody else has set up on a VF, which has no uuid of its own."""
    return str(uuid.uuid5(LAMINA_NAMESPACE, f"foreign/{host}/{function}"))


def foreign_instance_uuid(host: str, gpu: PciAddress, start: int) -> str:
    """A name for a GPU instance that somebody else has made and that no vGPU stands on."""
    return str(uuid.uuid5(LAMINA_NAMESPACE, f"foreign/{host}/{gpu}/{start}"))


def host_provider_id(host: str) -> str:
    """The resource provider uuid of a host's root provider, kept over a lost database."""
    return str(uuid.uuid5(LAMINA_NAMESPACE, f"host/{host}"))


def gpu_provider_id(host: str, address: PciAddress) -> str:
    """The resource provider uuid of one GPU of a host."""
    return str(uuid.uuid5(LAMINA_NAMESPACE, f"gpu/{host}/{address}"))


def network_id(name: str) -> str:
    """The id that clients know a network by: the same for one name on every host, kept over a lost database."""
    return str(uuid.uuid5(LAMINA_NAMESPACE, f"network/{name}"))


def new_mac() -> str:
    """A random MAC address under ``fa:16:3e``, where clients expect an OpenStack server's (Neutron: base_mac)."""
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def parse_host_name(text: str) -> str:
    """A host name: letters, digits, dot, dash and underscore, at most 255. Raises `BadRequest` otherwise."""
    if not _HOST_NAME.fullmatch(text):
        raise BadRequest(f"{text[:80]!r} is not a host name: letters, digits, '.', '-' and '_', a letter or digit at both ends")
    return text
