"""What the demo holds against each other after every step: records, devices, and what allocations pay for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Answer = Mapping[str, Any]


def disagreement(expected: Mapping[str, int], vgpus: Iterable[Answer], gpus: Iterable[Answer], paid: Mapping[str, int]) -> str | None:
    """What is not as it should be, in words, or None.

    `expected` is type -> number, `vgpus` those of the demo's servers, `gpus` the GPUs concerned, and `paid` is provider
    id -> how much of the GPU's resource class Placement says is used there.
    """
    recorded: dict[str, int] = {}
    for vgpu in vgpus:
        if not vgpu["on_host"]:
            return f"vGPU {vgpu['uuid']} is recorded and not on its host {vgpu['host']}"
        recorded[vgpu["type"]] = recorded.get(vgpu["type"], 0) + 1
    if recorded != expected:
        return f"the demo's servers have {_told(recorded)} and should have {_told(expected)}"
    for gpu in gpus:
        used = paid[gpu["provider_id"]]
        if used != gpu["used"]:
            return f"GPU {gpu['address']} of {gpu['host']} holds {gpu['used']} vGPUs and allocations pay for {used}"
    return None


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items())) or "no vGPU"


def came_back(before: Iterable[Answer], now: Iterable[Answer]) -> bool:
    """Whether the vGPUs are the same ones, by uuid and type, on their hosts and held by running servers."""
    held = list(now)
    same = {v["uuid"]: v["type"] for v in held} == {v["uuid"]: v["type"] for v in before}
    return same and all(v["on_host"] and v["state"] == "attached" for v in held)
