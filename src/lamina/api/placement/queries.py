"""Query strings of the Placement API as values: ``resources``, ``required``, ``member_of``, ``in_tree``.

Each parser takes every value that was given under its name, and says in its error what a good one looks like.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import sqlalchemy as sa

from lamina.api.placement.answers import BadValue, DuplicateKey, at_least
from lamina.api.routing import Request
from lamina.model import ids, resources
from lamina.model.errors import BadRequest
from lamina.model.requests import parse_amount
from lamina.store.resource_names import RESOURCE_CLASSES, TRAITS

#: most resource classes of one group
MOST_CLASSES = 64
#: most names that a refusal tells of
MOST_NAMED = 20

#: what is needed, each element a set of which at least one is; and what must not be
Wanted: TypeAlias = tuple[tuple[frozenset[str], ...], frozenset[str]]


def must_know(request: Request, names: Collection[str]) -> None:
    """Raises `BadRequest` for a query parameter that is not one of `names`."""
    unknown = sorted({key for key, _ in request.query} - set(names))
    if unknown:
        raise BadRequest(f"Invalid query string parameters: Additional properties are not allowed ({unknown[0][:80]!r} was unexpected)")


def first(request: Request, name: str) -> str | None:
    """The first value of a parameter, or None: where Placement lets a repetition pass."""
    return next(iter(request.values(name)), None)


def single(request: Request, name: str) -> str | None:
    """The only value of a parameter, or None. Raises `DuplicateKey`."""
    values = request.values(name)
    if len(values) > 1:
        raise DuplicateKey(f"Query parameter '{name}' may be specified only once.")
    return values[0] if values else None


def uuid(text: str, what: str) -> str:
    """Raises `BadValue` on anything but a uuid."""
    if not ids.is_uuid(text):
        raise BadValue(f"Invalid query string parameters: Expected '{what}' parameter to be a format of uuid. Got: {text[:80]}")
    return ids.parse_uuid(text)


def amounts(text: str) -> dict[str, int]:
    """``VCPU:2,MEMORY_MB:1024``."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.strip().partition(":")
        if not (colon and name and amount):
            raise BadRequest(
                "Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {part[:80] or ('' if text else 'empty string')}."
            )
        if not re.fullmatch(r"-?[0-9]+", amount):
            raise BadRequest(f"Requested resource {name[:80]} expected positive integer amount. Got: {amount[:80]}.")
        if amount.startswith("-") or not int(amount[:11]):
            raise BadRequest(f"Requested resource {name[:80]} requires amount >= 1. Got: {amount[:80]}.")
        if name in found:
            raise BadRequest(f"resources: {name[:80]} is given twice")
        found[resources.parse_resource_class(name)] = parse_amount(amount, f"Requested resource {name}")
    if len(found) > MOST_CLASSES:
        raise BadRequest(f"resources: {len(found)} resource classes are more than {MOST_CLASSES}")
    return found


def traits(request: Request, name: str) -> Wanted:
    """``T1,!T2`` (``!`` from 1.22), and from 1.39 ``in:T1,T2`` and the parameter several times."""
    # before 1.39 Placement reads the last one only
    values = request.values(name) if at_least(request, 39) else request.values(name)[-1:]
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        if value.startswith("in:") and not at_least(request, 39):
            raise BadRequest("The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported since microversion 1.39.")
        if value.startswith("in:"):
            required.append(frozenset(_trait(request, name, value, word) for word in value[3:].split(",")))
            continue
        for word in value.split(","):
            if word.strip().startswith("!") and at_least(request, 22):
                forbidden.add(_trait(request, name, value, word.strip()[1:]))
            else:
                required.append(frozenset({_trait(request, name, value, word)}))
    return tuple(required), frozenset(forbidden)


def possible_traits(request: Request, name: str) -> Wanted:
    """As `traits`. Raises `BadRequest` where a trait is both required and forbidden; a listing of providers just has none then."""
    required, forbidden = traits(request, name)
    for choice in required:
        if choice <= forbidden:
            told = ", ".join(sorted(choice))
            if name == "root_required":
                raise BadValue(f"Conflicting required and forbidden traits found in root_required: {told}")
            raise BadRequest(f"Conflicting required and forbidden traits found in the following traits keys: {name}: ({told})")
    return required, forbidden


def _trait(request: Request, name: str, value: str, word: str) -> str:
    try:
        return resources.parse_trait(word.strip())
    except BadRequest as error:
        shape = "HW_CPU_X86_VMX,!CUSTOM_MAGIC" if at_least(request, 22) else "HW_CPU_X86_VMX,CUSTOM_MAGIC"
        message = f"Invalid query string parameters: Expected '{name}' parameter value of the form: {shape}. Got: {value[:255]}"
        raise BadRequest(message) from error


def aggregates(request: Request, name: str) -> Wanted:
    """``uuid``, ``in:uuid,uuid``, from 1.32 either behind a ``!``, and from 1.24 the parameter several times."""
    values = request.values(name)
    if len(values) > 1 and not at_least(request, 24):
        raise DuplicateKey(f"Multiple {name} parameters are not supported before microversion 1.24")
    needed: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        text = value.removeprefix("!")
        if text != value and not at_least(request, 32):
            raise BadRequest(f"Forbidden member_of parameters are not supported in the specified microversion; got {value[:80]}.")
        listed = text.startswith("in:")
        words = text[3:].split(",") if listed else [text]
        if not listed and "," in text:
            raise BadRequest(
                f"Multiple values for '{name}' must be prefixed with the 'in:' or '!in:' keyword using the valid microversion. "
                f"Got: {value[:255]}"
            )
        found = frozenset(_aggregate(name, value, word) for word in words)
        if text != value:
            forbidden |= found
        else:
            needed.append(found)
    return tuple(needed), frozenset(forbidden)


def _aggregate(name: str, value: str, word: str) -> str:
    if not ids.is_uuid(word):
        raise BadRequest(f"Invalid query string parameters: Expected '{name}' parameter to contain valid UUID(s). Got: {value[:255]}")
    return ids.parse_uuid(word)


def must_exist(tx: sa.Connection, classes: Iterable[str], trait_names: Iterable[str]) -> None:
    """Raises `BadRequest` that names the resource classes or traits that nobody created."""
    unknown = RESOURCE_CLASSES.unknown(tx, classes)
    if unknown:
        raise BadRequest(f"Invalid resource class in resources parameter: No such resource class {named(unknown)}.")
    unknown = TRAITS.unknown(tx, trait_names)
    if unknown:
        raise BadRequest(f"No such trait(s): {named(unknown)}.")


def named(names: Sequence[str]) -> str:
    """Names as a sentence has them: the first of very many."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
