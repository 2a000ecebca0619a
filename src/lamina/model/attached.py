"""Attached vGPUs: what a server was given beside its flavor, while it goes on. Pure.

They are written into the server's own copy of its flavor, each as a numbered request group (`resources_ATTACHED1:VGPU=1` and the trait of
its type), so that whatever finds the server a place takes them along, and a resize, which gives the copy of another flavor, ends them.
"""

from __future__ import annotations

import dataclasses
import re

from lamina.model.errors import Conflict
from lamina.model.flavors import Flavor
from lamina.model.requests import CandidateRequest, RequestGroup

_GROUP = re.compile(r"resources(_ATTACHED[1-9][0-9]{0,2}):(.+)")
#: most that one server is given beside its flavor
MOST = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Attached:
    """One vGPU beside the flavor. ``trait`` is that of its type."""

    suffix: str
    resource_class: str
    trait: str

    def request(self) -> CandidateRequest:
        """What Placement is asked for it."""
        return CandidateRequest((RequestGroup(self.suffix, {self.resource_class: 1}, (frozenset({self.trait}),)),))


def of(flavor: Flavor) -> list[Attached]:
    """What a server with this copy of its flavor was given, in the order of the groups' numbers."""
    found = []
    for match in filter(None, map(_GROUP.fullmatch, flavor.extra_specs)):
        start = f"trait{match[1]}:"
        trait = next(key.removeprefix(start) for key in flavor.extra_specs if key.startswith(start))
        found.append(Attached(match[1], match[2], trait))
    return sorted(found, key=lambda one: (len(one.suffix), one.suffix))


def attach(flavor: Flavor, resource_class: str, trait: str) -> tuple[Flavor, Attached]:
    """The copy with one vGPU more. Raises `Conflict` where there are as many as may be."""
    taken = {one.suffix for one in of(flavor)}
    suffix = next((name for number in range(1, MOST + 1) if (name := f"_ATTACHED{number}") not in taken), None)
    if suffix is None:
        raise Conflict(f"The server has {MOST} vGPUs beside its flavor already, and is given no more.")
    new = Attached(suffix, resource_class, trait)
    specs = {"group_policy": "none"} | dict(flavor.extra_specs) | _specs(new)
    return dataclasses.replace(flavor, extra_specs=specs), new


def detach(flavor: Flavor, resource_class: str, trait: str) -> Flavor:
    """The copy with one vGPU of this type less. Raises `Conflict` where none was attached."""
    found = [one for one in of(flavor) if (one.resource_class, one.trait) == (resource_class, trait)]
    if not found:
        raise Conflict("The server's flavor gives it this vGPU: a resize takes it away.")
    gone = _specs(found[-1])
    return dataclasses.replace(flavor, extra_specs={key: value for key, value in flavor.extra_specs.items() if key not in gone})


def _specs(one: Attached) -> dict[str, str]:
    return {f"resources{one.suffix}:{one.resource_class}": "1", f"trait{one.suffix}:{one.trait}": "required"}
