"""The card catalog: GPUs known by their PCI device ids, and the vGPU types each can be cut into.

The facts and their sources are in ``catalog.toml``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from lamina.model.errors import BadRequest
from lamina.model.gpus import Framework, Partitioning, VgpuType, framebuffer_of_name

NVIDIA = "10de"
#: type ids from here on are made up, where no source tells the real one
MADE_UP_IDS = 90000
_MIG_TYPE = re.compile(r"(?P<word>\d-\d+C(?:ME)?):(?P<most>\d)=(?P<id>\d+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """A model of GPU. ``virtual_functions`` is None for cards without SR-IOV."""

    key: str
    board: str
    vendor_id: str
    device_ids: tuple[str, ...]
    #: tells boards apart that share a device id
    subsystem_id: str | None
    framebuffer_mb: int
    generation: str
    virtual_functions: int | None
    types: tuple[VgpuType, ...]
    source: str

    def cuts(self, framework: Framework) -> tuple[Partitioning, ...]:
        """The ways in which it can be cut, the one that its driver begins with first.

        Mixed sizes need a place that can be chosen, and a GPU instance one that can be named, which vfio alone has.
        """
        if framework is not Framework.VFIO or self.virtual_functions is None:
            return (Partitioning.SAME_SIZE,)
        mig = any(t.mig_backed for t in self.types)
        return (Partitioning.SAME_SIZE, Partitioning.MIXED_SIZE, *((Partitioning.MIG,) if mig else ()))


@functools.cache
def cards() -> Mapping[str, Card]:
    """Every card, by its key."""
    text = resources.files("lamina.model").joinpath("catalog.toml").read_text(encoding="utf-8")
    made_up = MADE_UP_IDS
    found = {}
    for key, facts in tomllib.loads(text).items():
        found[key] = _card(key, facts, made_up)
        made_up += 100
    return found


def _card(key: str, facts: Mapping[str, Any], made_up: int) -> Card:
    ids = facts.get("ids", {})
    types = []
    for series, least in facts["series"].items():
        for pair in facts["sizes"].split():
            size, most = (int(part) for part in pair.split(":"))
            if least <= size <= facts.get("most", {}).get(series, size):
                made_up += 1
                word = f"{size}{series}"
                types.append(VgpuType(str(ids.get(word, made_up)), f"{facts['prefix']}-{word}", size * 1024, most))
    types.extend(_mig_types(facts["prefix"], facts.get("mig", "")))
    return Card(
        key=key,
        board=facts["board"],
        vendor_id=NVIDIA,
        device_ids=tuple(facts["device_ids"]),
        subsystem_id=facts.get("subsystem_id"),
        framebuffer_mb=facts["framebuffer_gb"] * 1024,
        generation=facts["generation"],
        virtual_functions=facts.get("virtual_functions"),
        types=tuple(types),
        source=facts["source"],
    )


def _mig_types(prefix: str, listed: str) -> Iterator[VgpuType]:
    for match in _MIG_TYPE.finditer(listed):
        name = f"{prefix}-{match['word']}"
        yield VgpuType(match["id"], name, framebuffer_of_name(name) or 0, int(match["most"]))


def card(key: str) -> Card:
    """The card of that key. Raises `BadRequest` that names the known ones."""
    known = cards()
    if key not in known:
        raise BadRequest(f"{key[:80]!r} is not in the card catalog; known are {', '.join(sorted(known))}")
    return known[key]


def by_pci_id(vendor_id: str, device_id: str, subsystem_id: str = "") -> Card | None:
    """The card with these ids (four hexadecimal digits each, lower case), if it is known."""
    same = [c for c in cards().values() if c.vendor_id == vendor_id and device_id in c.device_ids]
    return next((c for c in same if c.subsystem_id == subsystem_id), same[0] if same else None)


def is_type(word: str) -> bool:
    """Whether any card has a type of that name or id; under mdev the id is written ``nvidia-<number>``."""
    words = (word, word.removeprefix("nvidia-"))
    return any(t.called(w) for c in cards().values() for t in c.types for w in words)
