"""The same random worlds and questions put to OpenStack Placement and to Lamina, and their answers compared.

Answers are compared as sets: the order of candidates, of traits and of providers means nothing. Before microversion
1.34 the groups are not told of, and Placement then repeats a candidate for each way to let groups change places.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from typing import Any

from compat import worlds
from compat.servers import Answer, Server
from compat.worlds import Question, World

QUESTIONS_PER_WORLD = 25
#: how often a smaller case is tried before it is small enough
MOST_ATTEMPTS = 150


@dataclasses.dataclass(frozen=True)
class Disagreement:
    world: World
    #: None where they disagree on a claim
    question: Question | None
    placement: Any
    lamina: Any

    def __str__(self) -> str:
        lines = [json.dumps(dataclasses.asdict(one)) for one in self.world.providers]
        lines += [f"claim {json.dumps(claim)}" for claim in self.world.claims]
        lines += [f"inventories of one unit {provider}" for provider in self.world.shrunk]
        lines += [f"claim instead {json.dumps(change)}" for change in self.world.changes]
        lines += [str(self.question) if self.question else "the statuses of the claims"]
        return "\n".join([*lines, f"  Placement: {_told(self.placement)}", f"  Lamina:    {_told(self.lamina)}"])


def _told(answer: Any) -> str:
    text = json.dumps(dataclasses.asdict(answer)) if isinstance(answer, Answer) else json.dumps(answer)
    return text if len(text) < 4000 else f"{text[:4000]}…"


@dataclasses.dataclass
class Tally:
    questions: int = 0
    #: Placement itself met an error, and nothing is compared
    failed: int = 0
    refused: int = 0
    candidates: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(sum(pair) for pair in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


def run(placement: Server, lamina: Server, seed: int, questions: int, tally: Tally) -> Disagreement | None:
    """Ask that many questions; the first disagreement, made small, or None."""
    for server in (placement, lamina):
        worlds.names(server)
    dice = random.Random(seed)  # noqa: S311 - a seed is a case
    while tally.questions < questions:
        world = worlds.world(dice)
        asked = [worlds.question(dice, world) for _ in range(QUESTIONS_PER_WORLD)]
        found = _claims(placement, lamina, world)
        for question in asked if found is None else ():
            theirs, ours = _asked(placement, lamina, question)
            if not _alike(theirs, ours):
                found = Disagreement(world, question, theirs, ours)
                break
            tally.questions += 1
            tally.failed += theirs.status >= 500
            tally.refused += 400 <= theirs.status < 500
            tally.candidates += len(theirs.body.get("allocation_requests", ()))
        if found is not None:
            return _shrunk(placement, lamina, found)
    return None


def _claims(placement: Server, lamina: Server, world: World) -> Disagreement | None:
    """Make the world on both servers."""
    theirs, ours = (worlds.build(server, world) for server in (placement, lamina))
    return None if theirs == ours else Disagreement(world, None, theirs, ours)


def _asked(placement: Server, lamina: Server, question: Question) -> tuple[Answer, Answer]:
    address = question.address()
    return placement.ask("GET", address, version=question.version), lamina.ask("GET", address, version=question.version)


def _alike(theirs: Answer, ours: Answer) -> bool:
    if theirs.status >= 500:
        return ours.status < 500
    return theirs.status == ours.status and (theirs.status != 200 or canonical(theirs.body) == canonical(ours.body))


def canonical(body: Any) -> Any:
    """An answer without the order of what has none."""
    if "resource_providers" in body:
        return frozenset(one["uuid"] for one in body["resource_providers"])
    summaries = {
        provider: {key: sorted(value) if key == "traits" else value for key, value in summary.items()}
        for provider, summary in body["provider_summaries"].items()
    }
    return frozenset(_request(one) for one in body["allocation_requests"]), summaries


def _request(one: Any) -> Any:
    allocations = one["allocations"]
    if isinstance(allocations, list):
        allocations = {listed["resource_provider"]["uuid"]: listed for listed in allocations}
    taken = frozenset((provider, frozenset(of["resources"].items())) for provider, of in allocations.items())
    return taken, frozenset((suffix, frozenset(serving)) for suffix, serving in one.get("mappings", {}).items())


def _shrunk(placement: Server, lamina: Server, found: Disagreement) -> Disagreement:
    """The same disagreement with less around it: whatever can go without their agreeing goes."""
    attempts = 0
    while True:
        for smaller in _smaller(found.world, found.question):
            attempts += 1
            still = _disagree(placement, lamina, *smaller)
            if still is not None:
                found = still
                break
            if attempts > MOST_ATTEMPTS:
                return found
        else:
            return found


def _disagree(placement: Server, lamina: Server, world: World, question: Question | None) -> Disagreement | None:
    found = _claims(placement, lamina, world)
    if question is None or found is not None:
        return found
    theirs, ours = _asked(placement, lamina, question)
    return None if _alike(theirs, ours) else Disagreement(world, question, theirs, ours)


def _smaller(world: World, question: Question | None) -> Iterator[tuple[World, Question | None]]:
    for change in world.changes:
        yield dataclasses.replace(world, changes=tuple(one for one in world.changes if one is not change)), question
    for shrunk in world.shrunk:
        yield dataclasses.replace(world, shrunk=tuple(one for one in world.shrunk if one != shrunk)), question
    for claim in world.claims if not world.changes else ():
        yield dataclasses.replace(world, claims=tuple(one for one in world.claims if one is not claim)), question
    parents = {one.parent for one in world.providers}
    held = {provider for claim in (*world.claims, *world.changes) for provider in claim} | {*world.shrunk}
    for provider in world.providers:
        rest = tuple(one for one in world.providers if one is not provider)
        if provider.uuid not in parents | held:
            yield dataclasses.replace(world, providers=rest), question
    for index, one in enumerate(world.providers):
        less: list[dict[str, Any]] = [{"traits": tuple(t for t in one.traits if t != trait)} for trait in one.traits]
        less += [{"aggregates": tuple(a for a in one.aggregates if a != aggregate)} for aggregate in one.aggregates]
        less += [{"inventories": {n: i for n, i in one.inventories.items() if n != name}} for name in one.inventories]
        for changed in less:
            providers = (*world.providers[:index], dataclasses.replace(one, **changed), *world.providers[index + 1 :])
            yield dataclasses.replace(world, providers=providers), question
    if question is not None:
        for index in range(len(question.parameters)):
            rest_of = question.parameters[:index] + question.parameters[index + 1 :]
            yield world, dataclasses.replace(question, parameters=rest_of)
