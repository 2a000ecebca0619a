"""What a server asks of Placement: request groups, as allocation candidate queries and flavors spell them.

Sources: Placement API reference, "Allocation candidates" (granular request groups from microversion 1.25,
``group_policy``, ``in_tree`` from 1.31, any-traits from 1.39); Nova, "Extra specs" (``resources``, ``trait``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

from lamina.model import resources
from lamina.model.errors import BadRequest

# suffixes as Placement 1.33 and Nova have them; a name of any kind is taken in here and parsed after
_SPEC = re.compile(r"(resources|trait)([a-zA-Z0-9_-]{1,64})?:(.*)", re.DOTALL)
#: most numbered groups of one request, and most of one class in one group
MOST_GROUPS = 64
MOST_AMOUNT = 2**31 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class RequestGroup:
    """Resources that belong together. With a suffix all come from one provider; without one from anywhere in the tree."""

    suffix: str = ""
    resources: Mapping[str, int] = dataclasses.field(default_factory=dict)
    #: each element is a set of traits of which at least one is required
    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()
    #: each element is a set of aggregates; the provider is in at least one of every set
    member_of: tuple[frozenset[str], ...] = ()
    not_member_of: frozenset[str] = frozenset()
    #: a provider id: only providers of its tree
    in_tree: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CandidateRequest:
    """A whole request: its groups and the rules between them."""

    groups: tuple[RequestGroup, ...]
    group_policy: Literal["none", "isolate"] | None = None
    #: each element is a set of group suffixes whose providers share an ancestor that satisfies one of them
    same_subtree: tuple[frozenset[str], ...] = ()
    root_required: frozenset[str] = frozenset()
    root_forbidden: frozenset[str] = frozenset()

    def total(self) -> dict[str, int]:
        """Resource class -> amount over all groups."""
        sums: dict[str, int] = {}
        for group in self.groups:
            for name, amount in group.resources.items():
                sums[name] = sums.get(name, 0) + amount
        return sums


def parse_amount(text: str, what: str) -> int:
    """A positive decimal integer of at most 2**31-1. Raises `BadRequest` naming `what`."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= MOST_AMOUNT:
        raise BadRequest(f"{what}: {text[:80]!r} is not a whole number from 1 to {MOST_AMOUNT}")
    return int(text)


def flavor_request(vcpus: int, memory_mb: int, disk_gb: int, extra_specs: Mapping[str, str]) -> CandidateRequest:
    """The request of a flavor: its own vCPUs, memory and disk in the unnumbered group, and its extra specs.

    ``resources:VCPU=0`` (and MEMORY_MB, DISK_GB) takes the flavor's own figure out, as in Nova. Raises `BadRequest`
    naming the extra spec that is wrong.
    """
    amounts: dict[str, dict[str, int]] = {"": {}}
    for name, amount in ((resources.VCPU, vcpus), (resources.MEMORY_MB, memory_mb), (resources.DISK_GB, disk_gb)):
        if amount:
            amounts[""][name] = amount
    required: dict[str, list[frozenset[str]]] = {}
    forbidden: dict[str, set[str]] = {}
    for key, value in sorted(extra_specs.items()):
        match = _SPEC.fullmatch(key)
        if match is None:
            continue
        kind, suffix, name = match[1], match[2] or "", match[3]
        if kind == "resources":
            resource_class = resources.parse_resource_class(name)
            if value == "0" and not suffix:
                amounts[""].pop(resource_class, None)
            else:
                amounts.setdefault(suffix, {})[resource_class] = parse_amount(value, key)
        else:
            trait = resources.parse_trait(name)
            if value == "required":
                required.setdefault(suffix, []).append(frozenset({trait}))
            elif value == "forbidden":
                forbidden.setdefault(suffix, set()).add(trait)
            else:
                raise BadRequest(f"{key}: {value[:80]!r} is neither 'required' nor 'forbidden'")
    if len(amounts) > MOST_GROUPS:
        raise BadRequest(f"{len(amounts)} resource groups are more than {MOST_GROUPS}")
    for suffix in (required.keys() | forbidden.keys()) - amounts.keys():
        raise BadRequest(f"trait{suffix}: there is no resources{suffix} for it")
    return CandidateRequest(
        groups=tuple(
            RequestGroup(suffix, amounts[suffix], tuple(required.get(suffix, ())), frozenset(forbidden.get(suffix, ())))
            for suffix in sorted(amounts)
            if amounts[suffix]
        ),
        group_policy=_group_policy(extra_specs, len(amounts.keys() - {""})),
    )


def _group_policy(extra_specs: Mapping[str, str], numbered: int) -> Literal["none", "isolate"] | None:
    policy = extra_specs.get("group_policy")
    if policy is None:
        if numbered > 1:
            raise BadRequest("group_policy: 'none' or 'isolate' must be said where there are several numbered resource groups")
        return None
    if policy == "none":
        return "none"
    if policy == "isolate":
        return "isolate"
    raise BadRequest(f"group_policy: {policy[:80]!r} is neither 'none' nor 'isolate'")
