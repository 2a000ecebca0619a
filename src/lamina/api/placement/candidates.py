"""Allocation candidates. Source: Placement API reference, "Allocation candidates"."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any, Literal

from lamina.api.placement import queries
from lamina.api.placement.answers import BadValue, MissingValue, at_least, reply, route
from lamina.api.routing import Reply, Request
from lamina.model.errors import BadRequest
from lamina.model.providers import Candidate
from lamina.model.requests import MOST_GROUPS, CandidateRequest, RequestGroup
from lamina.scheduling.candidates import permuted

#: most candidates of one answer, whatever the caller's limit
MOST_CANDIDATES = 1000

#: what may carry a group's suffix, and the minor version that brought each
_GROUPED = (("resources", 10), ("required", 17), ("member_of", 21), ("in_tree", 31))
#: what concerns the whole request
_WIDE = (("limit", 16), ("group_policy", 25), ("root_required", 35), ("same_subtree", 36))

_NUMBER = r"[1-9][0-9]*"
_WORD = r"[a-zA-Z0-9_-]{1,64}"


def list_candidates(request: Request) -> Reply:
    """GET /allocation_candidates."""
    wanted = parse(request)
    limit = _limit(request)
    index = request.plane.index
    index.refresh()
    traits = {trait for g in wanted.groups for trait in frozenset().union(g.forbidden, *g.required)}
    unsure = index.unsure(wanted.total(), traits | wanted.root_required | wanted.root_forbidden)
    if any(unsure):
        with request.plane.db.read() as tx:
            queries.must_exist(tx, *unsure)
    found = index.candidates(wanted)
    if not at_least(request, 29):
        found = (one for one in found if _flat(request, one))
    if at_least(request, 34):
        found = permuted(found, wanted)
    kept = list(itertools.islice(found, limit))
    return reply(request, {"allocation_requests": _requests(request, kept), "provider_summaries": _summaries(request, wanted, kept)})


def _flat(request: Request, candidate: Candidate) -> bool:
    """Whether no two providers are of one tree: callers before 1.29 know nothing of trees."""
    roots = {tree.root.id for p in candidate.allocations if (tree := request.plane.index.tree_of(p)) is not None}
    return len(roots) == len(candidate.allocations)


def _limit(request: Request) -> int:
    text = queries.first(request, "limit")
    if text is None:
        return MOST_CANDIDATES
    if not re.fullmatch(r"[1-9][0-9]*", text):
        what = f"limit: {text[:80]!r} is not a whole number from 1 on"
        raise BadRequest(f"Invalid query string parameters: {what}. Failed validating 'pattern'")
    return MOST_CANDIDATES if len(text) > 9 else min(int(text), MOST_CANDIDATES)


def parse(request: Request) -> CandidateRequest:
    """The query as a request. Raises `BadRequest` and its kin."""
    suffixes = _suffixes(request)
    together = tuple(_subtree(value) for value in request.values("same_subtree"))
    groups = tuple(_group(request, suffix) for suffix in suffixes)
    _must_ask(request, groups, frozenset().union(*together))
    queries.single(request, "root_required")
    root_required, root_forbidden = queries.possible_traits(request, "root_required")
    if any(len(choice) > 1 for choice in root_required):
        raise BadValue("root_required does not take 'in:'")
    return CandidateRequest(
        groups=groups,
        group_policy=_policy(request, sum(1 for g in groups if g.suffix)),
        same_subtree=together,
        root_required=frozenset().union(*root_required),
        root_forbidden=root_forbidden,
    )


def _suffixes(request: Request) -> list[str]:
    """The suffixes of all groups, in order. Raises `BadRequest` for a parameter that is not known."""
    grouped = [name for name, since in _GROUPED if at_least(request, since)]
    pattern = _WORD if at_least(request, 33) else _NUMBER
    key = re.compile(f"({'|'.join(grouped)})({pattern if at_least(request, 25) else ''})?")
    wide = {name for name, since in _WIDE if at_least(request, since)}
    found: set[str] = set()
    others: list[str] = list(wide)
    for name, _ in request.query:
        match = None if name in wide else key.fullmatch(name)
        if match is not None:
            found.add(match[2] or "")
            others.append(name)
    unknown = sorted({name for name, _ in request.query} - set(others))
    if unknown and at_least(request, 25):
        shapes = ", ".join(f"'^{name}({pattern})?$'" for name in grouped)
        raise BadRequest(f"Invalid query string parameters: '{unknown[0][:80]}' does not match any of the regexes: {shapes}")
    queries.must_know(request, others)
    if len(found) > MOST_GROUPS:
        raise BadRequest(f"{len(found)} resource groups are more than {MOST_GROUPS}")
    return sorted(found)


def _group(request: Request, suffix: str) -> RequestGroup:
    asked = queries.single(request, f"resources{suffix}")
    in_tree = queries.single(request, f"in_tree{suffix}")
    required, forbidden = queries.possible_traits(request, f"required{suffix}")
    member_of, not_member_of = queries.aggregates(request, f"member_of{suffix}")
    return RequestGroup(
        suffix=suffix,
        resources={} if asked is None else queries.amounts(asked),
        required=required,
        forbidden=forbidden,
        member_of=member_of,
        not_member_of=not_member_of,
        in_tree=None if in_tree is None else queries.uuid(in_tree, f"in_tree{suffix}"),
    )


def _must_ask(request: Request, groups: Sequence[RequestGroup], tied: frozenset[str]) -> None:
    """Every group asks for resources; from 1.36 on one that is part of a ``same_subtree`` need not."""
    bare = [g.suffix for g in groups if not g.resources]
    if not at_least(request, 36):
        orphans = [f"required{g.suffix}" for g in groups if not g.resources and g.required]
        if orphans:
            raise BadRequest(
                f"All traits parameters must be associated with resources. Found the following orphaned traits keys: {', '.join(orphans)}"
            )
        orphans = [f"member_of{g.suffix}" for g in groups if not g.resources and (g.member_of or g.not_member_of)]
        if orphans:
            raise BadRequest(
                "All member_of parameters must be associated with resources. "
                f"Found the following orphaned member_of keys: {', '.join(orphans)}"
            )
        if bare:
            raise BadRequest(f"All request groups must specify resources. Group '{bare[0]}' does not.")
        if not groups and not at_least(request, 25):
            raise BadRequest("Invalid query string parameters: 'resources' is a required property")
        if not groups:
            raise BadRequest("At least one request group (`resources` or `resources{$S}`) is required.")
        return
    if len(bare) == len(groups):
        raise MissingValue("There must be at least one resources or resources[$S] parameter.")
    untied = [suffix for suffix in bare if suffix not in tied]
    if untied:
        raise BadValue(
            f"Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - {untied}."
        )
    missing = sorted(tied - {g.suffix for g in groups})
    if missing:
        raise BadValue(
            f"Real suffixes should be specified in `same_subtree`: {missing} not found in {[g.suffix for g in groups]}."
        )


def _subtree(value: str) -> frozenset[str]:
    suffixes = [word.strip() for word in value.split(",")]
    if not all(suffixes):
        raise BadValue(f"Empty string (unsuffixed group) can not be specified in `same_subtree`: {value[:255]!r}")
    return frozenset(suffixes)


def _policy(request: Request, numbered: int) -> Literal["none", "isolate"] | None:
    policy = queries.first(request, "group_policy")
    if policy is None:
        if numbered > 1:
            raise BadRequest('The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.')
        return None
    if policy == "none":
        return "none"
    if policy == "isolate":
        return "isolate"
    raise BadRequest(f"Invalid query string parameters: {policy[:80]!r} is not one of ['none', 'isolate']")


def _requests(request: Request, kept: Sequence[Candidate]) -> list[dict[str, Any]]:
    if not at_least(request, 12):
        return [
            {"allocations": [{"resource_provider": {"uuid": p}, "resources": amounts} for p, amounts in one.allocations.items()]}
            for one in kept
        ]
    plain: list[dict[str, Any]] = [
        {"allocations": {p: {"resources": amounts} for p, amounts in one.allocations.items()}} for one in kept
    ]
    if at_least(request, 34):
        for shown, one in zip(plain, kept, strict=True):
            shown["mappings"] = one.mappings
    return plain


def _summaries(request: Request, wanted: CandidateRequest, kept: Sequence[Candidate]) -> dict[str, dict[str, Any]]:
    """The providers of the candidates, from 1.29 on with everything in their trees; from 1.27 on with every class."""
    asked = wanted.total()
    every_class, with_traits, whole_trees = at_least(request, 27), at_least(request, 17), at_least(request, 29)
    named = {provider_id for one in kept for provider_id in one.allocations}
    summary: dict[str, Any]
    found: dict[str, dict[str, Any]] = {}
    trees = {tree.root.id: tree for p in named if (tree := request.plane.index.tree_of(p)) is not None}
    for tree in sorted(trees.values(), key=lambda tree: tree.root.name):
        for provider in tree.providers:
            if provider.id not in named and not whole_trees:
                continue
            stock = {
                name: {"capacity": inventory.capacity, "used": provider.used.get(name, 0)}
                for name, inventory in provider.inventories.items()
                if every_class or name in asked
            }
            found[provider.id] = summary = {"resources": stock}
            if with_traits:
                summary["traits"] = sorted(provider.traits, key=lambda name: (name.startswith("CUSTOM_"), name))
            if whole_trees:
                summary |= {"parent_provider_uuid": provider.parent_id, "root_provider_uuid": provider.root_id}
    return found


ROUTES = (
    route(
        "GET",
        "/allocation_candidates",
        list_candidates,
        "allocation_candidates:list",
        since=10,
        query=("group_policy", "limit", "root_required", "same_subtree"),
    ),
)
