"""Host aggregates: availability zones, and what flavors may ask of the hosts in them. Pure.

Sources: Compute API reference, "Host aggregates"; Nova admin guide, "Availability Zones" (a host is in one zone; no
server moves from one zone to another because its host does) and "Host aggregates" (AggregateInstanceExtraSpecsFilter).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence

from lamina.model.errors import Conflict

#: of a host that no aggregate puts into another one (Nova: default_availability_zone)
DEFAULT_ZONE = "nova"
#: the key of an aggregate's metadata that names the zone of its hosts
ZONE = "availability_zone"
#: how the extra specs of flavors begin that are about aggregates
SCOPE = "aggregate_instance_extra_specs:"


@dataclasses.dataclass(frozen=True, slots=True)
class Aggregate:
    """``id`` is what the Compute API knows it by, ``uuid`` what Placement does. Times are seconds since the epoch."""

    id: int
    uuid: str
    generation: int
    name: str
    created_at: float
    updated_at: float | None = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hosts: frozenset[str] = frozenset()

    @property
    def zone(self) -> str | None:
        return self.metadata.get(ZONE)

    def has(self, key: str, wanted: str) -> bool:
        """Whether its metadata has, for this key, a value that is what an extra spec wants; commas separate several."""
        return key in self.metadata and any(matches(value.strip(), wanted) for value in self.metadata[key].split(","))


def moved(before: Iterable[Aggregate], after: Sequence[Aggregate]) -> dict[str, str]:
    """Host -> its zone, for every host whose zone is another afterwards. Raises `Conflict` for one that would be in two."""
    old, new = _zones(before), _zones(after)
    for host, zones in sorted(new.items()):
        if len(zones) > 1:
            raise Conflict(f"Host {host} would be in the availability zones {' and '.join(sorted(zones))}; it can be in one only.")
    default = frozenset({DEFAULT_ZONE})
    return {host: min(new.get(host, default)) for host in sorted(old | new) if old.get(host, default) != new.get(host, default)}


def _zones(aggregates: Iterable[Aggregate]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for aggregate in aggregates:
        if aggregate.zone is not None:
            found |= {host: found.get(host, frozenset()) | {aggregate.zone} for host in aggregate.hosts}
    return found


def serving(aggregates: Sequence[Aggregate], extra_specs: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """What a flavor asks of aggregates, as ``key=value`` -> the hosts that are in one which has it."""
    asked = {key.removeprefix(SCOPE): value for key, value in sorted(extra_specs.items()) if key.startswith(SCOPE)}
    return {
        f"{key}={value}": frozenset[str]().union(*(a.hosts for a in aggregates if a.has(key, value))) for key, value in asked.items()
    }


# ---------------------------------------------------------------------------------------------------- operators

_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,  # sic: at least
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
_WORDS: dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s>=": operator.ge,
    "s>": operator.gt,
    "s<=": operator.le,
    "s<": operator.lt,
    "<in>": operator.contains,
}


def matches(value: str, wanted: str) -> bool:
    """Whether a value is what an extra spec wants: an operator and its operands, or else the very same text.

    Source of the operators: Nova user guide, "Extra specs"; what is no number is no match for those of numbers.
    """
    sign, *operands = wanted.split() or [""]
    if sign == "<or>":
        return value in operands[::2]
    if sign == "<all-in>":
        return bool(operands) and all(operand in value for operand in operands)
    if sign in _WORDS:
        return bool(operands) and _WORDS[sign](value, operands[0])
    if sign in _NUMBERS:
        try:
            return _NUMBERS[sign](float(value), float(operands[0]))
        except (ValueError, IndexError):
            return False
    return value == wanted
