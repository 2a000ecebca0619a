"""Limits: what a project, and a user within it, may have at most, and the sentence that refuses more. Pure.

Resources are named as in Nova's unified limits: ``servers``, ``server_groups``, ``server_group_members``, ``server_key_pairs``, and
``class:`` with a resource class of Placement (``class:VCPU``, ``class:VGPU``). Lamina's own is ``vgpu_type:`` with the name of a
vGPU type (``vgpu_type:NVIDIA A40-8Q``); names that come to the same trait are names of the same type, as they are in a flavor.
Sources: Nova, "Manage Unified Limits Quotas"; Keystone, "Unified Limits". What has no limit at all is not limited.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from lamina.model import resources
from lamina.model.errors import BadRequest
from lamina.model.requests import CandidateRequest

UNLIMITED = -1
#: the largest limit, as in Keystone
MOST = 2**31 - 1

SERVERS = "servers"
GROUPS = "server_groups"
MEMBERS = "server_group_members"
KEY_PAIRS = "server_key_pairs"
CORES = f"class:{resources.VCPU}"
MEMORY = f"class:{resources.MEMORY_MB}"

#: the Compute API's names of quotas -> those of unified limits
QUOTAS: Mapping[str, str] = {
    "cores": CORES,
    "instances": SERVERS,
    "key_pairs": KEY_PAIRS,
    "ram": MEMORY,
    "server_group_members": MEMBERS,
    "server_groups": GROUPS,
}
_TOLD = {key: quota for quota, key in QUOTAS.items()}
_CLASS, _TYPE = "class:", "vgpu_type:"
_NUMBER = re.compile(r"-1|[0-9]{1,10}")


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """What can be limited. ``key`` is what is compared, ``name`` what a person wrote."""

    key: str
    name: str

    @property
    def told(self) -> str:
        """As the Compute API calls it."""
        return _TOLD.get(self.key, self.name)


def parse_resource(text: str) -> Resource:
    """A resource by its name in unified limits. Raises `BadRequest` that says which there are."""
    if text in _TOLD:
        return Resource(text, text)
    if text.startswith(_CLASS):
        name = text.removeprefix(_CLASS)
        if name not in resources.STANDARD_CLASSES:
            resources.parse_custom_class(name)
        return Resource(text, text)
    if text.startswith(_TYPE):
        return _of_type(text)
    raise BadRequest(f"{text[:80]!r} cannot be limited: {', '.join(sorted(_TOLD))}, class:RESOURCE_CLASS and vgpu_type:NAME can")


def _of_type(text: str) -> Resource:
    name = text.removeprefix(_TYPE)
    key = type_key(name)
    if len(text) > resources.MOST_NAME or not name.isprintable() or key == type_key(""):
        raise BadRequest(f"{text[:80]!r} names no vGPU type: it is vgpu_type: and a name as in 'NVIDIA A40-8Q', at most 255 characters")
    return Resource(key, text)


def parse_quota(text: str) -> Resource:
    """A resource by its name in the Compute API, or in unified limits. Raises `BadRequest`."""
    return parse_resource(QUOTAS.get(text, text))


def class_key(resource_class: str) -> str:
    return _CLASS + resource_class


def type_key(vgpu_type: str) -> str:
    """The key of a vGPU type, by its name or its trait."""
    return _TYPE + resources.type_trait(vgpu_type.removeprefix("CUSTOM_"))


def is_class(key: str) -> bool:
    return key.startswith(_CLASS)


def is_type(key: str) -> bool:
    return key.startswith(_TYPE)


def of_type(vgpu_type: str) -> Resource:
    """A vGPU type by the name that its vGPUs are recorded with."""
    return Resource(type_key(vgpu_type), _TYPE + vgpu_type)


def parse_amount(given: object, what: str) -> int:
    """A limit: a whole number from -1, which is no limit, to 2**31-1. Raises `BadRequest` naming `what`."""
    text = str(given)
    if isinstance(given, bool) or not isinstance(given, int | str) or not _NUMBER.fullmatch(text) or int(text) > MOST:
        raise BadRequest(f"{what}: {text[:80]!r} is not a whole number from -1, which is no limit, to {MOST}")
    return int(text)


# ---------------------------------------------------------------------------------------------------- what is asked and taken


def asked_by(request: CandidateRequest, count: int = 1) -> dict[str, int]:
    """Key -> how much `count` servers with this request will take, as far as the request tells.

    A type is told where a group that asks for vGPUs binds them to its trait; which type any other gets, its claim says.
    """
    asked = {class_key(name): amount * count for name, amount in request.total().items()}
    for group in request.groups:
        vgpus = sum(n for name, n in group.resources.items() if name not in resources.STANDARD_CLASSES or name == resources.VGPU)
        for choice in group.required:
            if vgpus and len(choice) == 1:
                (trait,) = choice
                asked[type_key(trait)] = asked.get(type_key(trait), 0) + vgpus * count
    return asked


def taken_by(allocations: Mapping[str, Mapping[str, int]], vgpu_types: Iterable[str]) -> dict[str, int]:
    """Key -> how much allocations (provider id -> resource class -> amount) and the types of their vGPUs come to."""
    taken: dict[str, int] = {}
    for of_class in allocations.values():
        for name, amount in of_class.items():
            taken[class_key(name)] = taken.get(class_key(name), 0) + amount
    for vgpu_type in vgpu_types:
        taken[type_key(vgpu_type)] = taken.get(type_key(vgpu_type), 0) + 1
    return taken


# ---------------------------------------------------------------------------------------------------- the rule


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """A limit, of a project or of one user of it, and what is asked and used of the resource there."""

    resource: Resource
    limit: int
    used: int
    requested: int
    of_user: bool = False

    @property
    def exceeded(self) -> bool:
        """Who asks for nothing of a resource exceeds nothing of it, however much there is of it already (as in oslo.limit)."""
        return self.requested > 0 and self.limit != UNLIMITED and self.used + self.requested > self.limit

    @property
    def told(self) -> str:
        return f"{self.resource.told} of the user" if self.of_user else self.resource.told


def refusal(bounds: Iterable[Bound]) -> str | None:
    """Why it is too much: every limit that would be exceeded, in Nova's words; None where none is."""
    over = sorted((bound for bound in bounds if bound.exceeded), key=lambda bound: bound.told)
    if not over:
        return None
    names, requested, used, limits = (
        ", ".join(str(value) for value in column)
        for column in zip(*((bound.told, bound.requested, bound.used, bound.limit) for bound in over), strict=True)
    )
    return f"Quota exceeded for {names}: Requested {requested}, but already used {used} of {limits} {names}"
