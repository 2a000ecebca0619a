"""Flavors: how much a server gets, and what its extra specs ask for.

Limits are the Compute API's (Nova: nova/api/openstack/compute/schemas/flavors.py, schemas/flavors_extraspecs.py).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lamina.model import decoding
from lamina.model.errors import BadRequest
from lamina.model.policies import EXTRA_SPEC, PolicyName, parse_policy
from lamina.model.queueing import WORD, parse_wait
from lamina.model.requests import CandidateRequest, flavor_request

MOST = 2**31 - 1
MOST_EXTRA_SPECS = 128

_ID = re.compile(r"[a-zA-Z0-9._-](?:[a-zA-Z0-9. _-]{0,253}[a-zA-Z0-9._-])?")
_SPEC_KEY = re.compile(r"[a-zA-Z0-9:._-](?:[a-zA-Z0-9:. _-]{0,253}[a-zA-Z0-9:._-])?")


@dataclasses.dataclass(frozen=True, slots=True)
class Flavor:
    """A size of server. A server keeps the flavor it was given as a snapshot; later changes do not reach it."""

    id: str
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    rxtx_factor: float = 1.0
    public: bool = True
    description: str | None = None
    extra_specs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def total_disk_gb(self) -> int:
        """What a server of this flavor takes of a host's disk: root, ephemeral and swap, each begun GiB counted whole."""
        return self.disk_gb + self.ephemeral_gb + -(-self.swap_mb // 1024)

    @property
    def request(self) -> CandidateRequest:
        """What Placement is asked for. Raises `BadRequest` naming the extra spec that is wrong."""
        return flavor_request(self.vcpus, self.memory_mb, self.total_disk_gb, self.extra_specs)

    @property
    def policy(self) -> PolicyName | None:
        """The placement policy of its own, if it has one. Raises `BadRequest`."""
        said = self.extra_specs.get(EXTRA_SPEC)
        return parse_policy(said, EXTRA_SPEC) if said is not None else None

    @property
    def wait(self) -> float | None:
        """Seconds that its servers wait for room, if they do. Raises `BadRequest`."""
        said = self.extra_specs.get(WORD)
        return parse_wait(said, WORD) if said is not None else None

    def checked(self) -> Flavor:
        """This flavor, if a caller may create it. Raises `BadRequest` that says what to mend.

        Not done on construction, so that a flavor recorded under older rules can still be read.
        """
        if not _ID.fullmatch(self.id):
            raise BadRequest("id: a flavor's id has letters, digits, '.', '_', '-' and inner spaces, at most 255 of them")
        if not (1 <= len(self.name) <= 255 and self.name.isprintable() and self.name == self.name.strip()):
            raise BadRequest("name: a flavor's name has 1 to 255 printable characters and no space at either end")
        for what, amount, least in (
            ("vcpus", self.vcpus, 1),
            ("ram", self.memory_mb, 1),
            ("disk", self.disk_gb, 0),
            ("OS-FLV-EXT-DATA:ephemeral", self.ephemeral_gb, 0),
            ("swap", self.swap_mb, 0),
        ):
            if not least <= amount <= MOST:
                raise BadRequest(f"{what}: {amount} is not a whole number from {least} to {MOST}")
        if self.total_disk_gb > MOST:
            raise BadRequest(f"disk: root, ephemeral and swap together are more than {MOST} GiB")
        if not 0 < self.rxtx_factor <= 3.40282e38:
            raise BadRequest(f"rxtx_factor: {self.rxtx_factor} is not a number above 0")
        if self.description is not None and len(self.description) > 65535:
            raise BadRequest("description: at most 65535 characters")
        _check_extra_specs(self.extra_specs)
        _ = self.request
        _ = self.policy
        _ = self.wait
        return self

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a JSON column."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Flavor:
        """What `to_plain` gave, read back. Raises `msgspec.ValidationError` on anything else."""
        return decoding.from_plain(plain, cls)


def _check_extra_specs(specs: Mapping[str, str]) -> None:
    if len(specs) > MOST_EXTRA_SPECS:
        raise BadRequest(f"extra_specs: {len(specs)} extra specs are more than {MOST_EXTRA_SPECS}")
    for key, value in specs.items():
        if not _SPEC_KEY.fullmatch(key):
            raise BadRequest(f"extra_specs: {key[:80]!r} is not a key: letters, digits, ':', '.', '_', '-' and inner spaces, at most 255")
        if len(value) > 255:
            raise BadRequest(f"extra_specs: the value of {key} has more than 255 characters")
