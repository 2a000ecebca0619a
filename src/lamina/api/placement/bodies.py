"""Bodies that say what consumers shall hold, in the shape of each microversion, and the one value they all become.

1.0 a list of providers, 1.8 with project and user, 1.12 an object by provider, 1.28 with the consumer's generation,
1.34 with ``mappings`` (read and ignored), 1.38 with the consumer's type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from lamina.api.placement.answers import MOST_LISTED, at_least
from lamina.api.routing import Request
from lamina.model import ids, resources
from lamina.model.errors import BadRequest
from lamina.store.allocations import ANY, Consumer, Replacement

Amount = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Resources = Annotated[dict[str, Amount], Meta(min_length=1, max_length=MOST_LISTED)]
Owner = Annotated[str, Meta(min_length=1, max_length=255)]

#: who owns an allocation made before 1.8, when nobody said it (Placement's incomplete_consumer_project_id and …user_id)
NOBODY = "00000000-0000-0000-0000-000000000000"


class ProviderRef(msgspec.Struct, forbid_unknown_fields=True):
    uuid: str


class ListedAllocation(msgspec.Struct, forbid_unknown_fields=True):
    resource_provider: ProviderRef
    resources: Resources


class OldAllocations(msgspec.Struct, forbid_unknown_fields=True):
    """1.0 to 1.7."""

    allocations: Annotated[list[ListedAllocation], Meta(min_length=1, max_length=MOST_LISTED)]


class OwnedAllocations(msgspec.Struct, forbid_unknown_fields=True):
    """1.8 to 1.11."""

    allocations: Annotated[list[ListedAllocation], Meta(min_length=1, max_length=MOST_LISTED)]
    project_id: Owner
    user_id: Owner


class Allocation(msgspec.Struct, forbid_unknown_fields=True):
    """Of one provider. The generation is read and ignored, so that what was read may be sent back."""

    resources: Resources
    generation: int | UnsetType = UNSET


class Allocations(msgspec.Struct, forbid_unknown_fields=True):
    """From 1.12 on; what a microversion does not have yet is refused by `_must_match`."""

    allocations: Annotated[dict[str, Allocation], Meta(max_length=MOST_LISTED)]
    project_id: Owner
    user_id: Owner
    consumer_generation: int | UnsetType | None = UNSET
    mappings: dict[str, Annotated[list[str], Meta(min_length=1)]] | UnsetType = UNSET
    consumer_type: str | UnsetType = UNSET


def old(consumer_id: str, said: OldAllocations | OwnedAllocations, before: Consumer | None) -> Replacement:
    """Before 1.12. A consumer that is known keeps its owner where the body does not say one."""
    wanted: dict[str, Mapping[str, int]] = {}
    for one in said.allocations:
        provider_id = _provider(one.resource_provider.uuid)
        if provider_id in wanted:
            raise BadRequest(f"JSON does not validate: allocations: provider {provider_id} is given twice")
        wanted[provider_id] = _amounts(one.resources)
    if isinstance(said, OwnedAllocations):
        return Replacement(consumer_id, wanted, said.project_id, said.user_id)
    project_id, user_id = (before.project_id, before.user_id) if before else (NOBODY, NOBODY)
    return Replacement(consumer_id, wanted, project_id, user_id)


def replacement(request: Request, consumer_id: str, said: Allocations) -> Replacement:
    """From 1.12 on. Raises `BadRequest`."""
    _must_match(request, said)
    wanted = {_provider(key): _amounts(one.resources) for key, one in said.allocations.items()}
    kind = None if isinstance(said.consumer_type, UnsetType) else _consumer_type(said.consumer_type)
    generation = ANY if isinstance(said.consumer_generation, UnsetType) else said.consumer_generation
    return Replacement(consumer_id, wanted, said.project_id, said.user_id, kind, generation)


def _must_match(request: Request, said: Allocations) -> None:
    fields: tuple[tuple[str, Any, int, bool], ...] = (
        ("consumer_generation", said.consumer_generation, 28, True),
        ("mappings", said.mappings, 34, False),
        ("consumer_type", said.consumer_type, 38, True),
    )
    for name, value, since, needed in fields:
        given = not isinstance(value, UnsetType)
        if given and not at_least(request, since):
            raise BadRequest(f"JSON does not validate: Additional properties are not allowed ('{name}' was unexpected before 1.{since})")
        if needed and not given and at_least(request, since):
            raise BadRequest(f"JSON does not validate: '{name}' is a required property")
    if not isinstance(said.mappings, UnsetType):
        if not said.mappings:
            raise BadRequest("JSON does not validate: mappings: {} should be non-empty")
        for provider_ids in said.mappings.values():
            for provider_id in provider_ids:
                ids.parse_uuid(provider_id, "JSON does not validate: mappings")


def _provider(text: str) -> str:
    if not ids.is_uuid(text):
        raise BadRequest(f"JSON does not validate: {text[:80]!r} does not match any of the regexes of 'allocations': it is not a uuid")
    return ids.parse_uuid(text)


def _amounts(said: Mapping[str, int]) -> Mapping[str, int]:
    try:
        return {resources.parse_resource_class(name): amount for name, amount in said.items()}
    except BadRequest as error:
        raise BadRequest(f"JSON does not validate: a name does not match any of the regexes of 'resources': {error.message}") from error


def _consumer_type(text: str) -> str:
    """Upper-case letters, digits and ``_``, as resource classes are written."""
    try:
        return resources.parse_resource_class(text)
    except BadRequest as error:
        raise BadRequest(f"JSON does not validate: {text[:80]!r} does not match '^[A-Z0-9_]+$', which a consumer_type does") from error
