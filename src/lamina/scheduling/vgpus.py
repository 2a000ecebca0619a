"""Which vGPU types a candidate comes to: the partitioner's word inside the claim. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lamina.model import capacity, partitioners
from lamina.model.gpus import Gpu, Layout, VgpuType
from lamina.model.providers import Candidate
from lamina.model.requests import CandidateRequest, RequestGroup


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """One vGPU to be made. ``start`` is the slot it gets, None on a card without slots."""

    provider_id: str
    type: VgpuType
    start: int | None = None


def allowed_types(gpu: Gpu, layout: Layout, group: RequestGroup) -> tuple[VgpuType, ...]:
    """The types that a group's traits leave: a required type trait must be the type's own, a forbidden one must not."""
    type_traits = capacity.all_type_traits(gpu)
    asked = [choice & type_traits for choice in group.required if choice & type_traits]
    return tuple(
        t for t in partitioners.offered_types(gpu, layout) if all(t.trait in choice for choice in asked) and t.trait not in group.forbidden
    )


def place(
    candidate: Candidate, request: CandidateRequest, gpus: Mapping[str, Gpu], layouts: Mapping[str, Layout]
) -> tuple[Placed, ...] | None:
    """The vGPUs of a candidate with their types, or None where a GPU's layout does not allow them.

    `gpus` and `layouts` are by provider id; providers that are no GPUs take no part.
    """
    layouts = dict(layouts)
    placed: list[Placed] = []
    for group in request.groups:
        for resource_class, amount in sorted(group.resources.items()):
            provider_id = _provider_of(candidate, group, resource_class, gpus)
            if provider_id is None:
                continue
            gpu, layout = gpus[provider_id], layouts[provider_id]
            spots = partitioners.fill(gpu, layout, allowed_types(gpu, layout, group), amount)
            if spots is None:
                return None
            for spot in spots:
                layout = layout.plus(*spot)
                placed.append(Placed(provider_id, *spot))
            layouts[provider_id] = layout
    return tuple(placed)


def _provider_of(candidate: Candidate, group: RequestGroup, resource_class: str, gpus: Mapping[str, Gpu]) -> str | None:
    for provider_id in candidate.mappings[group.suffix]:
        gpu = gpus.get(provider_id)
        if gpu is not None and gpu.resource_class == resource_class and resource_class in candidate.allocations[provider_id]:
            return provider_id
    return None
