"""Random providers and random questions about them: small, so that a person can follow a case, and dense in rules that meet.

A world is plain data; `build` makes it on a server. Everything follows from a `random.Random`, so a seed is a case.
"""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from compat.servers import Server

SHARES = "MISC_SHARES_VIA_AGGREGATE"
TRAITS = ("HW_CPU_X86_AVX2", "HW_NUMA_ROOT", "CUSTOM_RED", "CUSTOM_BLUE")
#: minor microversions that changed what is asked for candidates or what is told of them; the newest more often
MINORS = (10, 12, 16, 17, 18, 21, 22, 24, 25, 26, 27, 29, 31, 32, 33, 34, 35, 36, 37, 38, 39, 39, 39, 39, 39, 39)


@dataclasses.dataclass(frozen=True)
class Provider:
    uuid: str
    name: str
    parent: str | None
    inventories: dict[str, dict[str, Any]]
    traits: tuple[str, ...] = ()
    aggregates: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class World:
    providers: tuple[Provider, ...]
    #: each of a new consumer: provider -> class -> amount; one that does not fit is refused by both servers
    claims: tuple[dict[str, dict[str, int]], ...] = ()
    #: providers whose inventories all become one unit after the claims
    shrunk: tuple[str, ...] = ()
    #: what the consumers of the first claims hold instead in the end
    changes: tuple[dict[str, dict[str, int]], ...] = ()


@dataclasses.dataclass(frozen=True)
class Question:
    version: str
    path: str
    parameters: tuple[tuple[str, str], ...]

    def address(self) -> str:
        return f"{self.path}?{urlencode(self.parameters, safe=':,!')}"

    def __str__(self) -> str:
        return f"GET {self.address()} (microversion {self.version})"


def names(server: Server) -> None:
    """Make the custom names that worlds use."""
    for trait in TRAITS:
        if trait.startswith("CUSTOM_"):
            server.must("PUT", f"/traits/{trait}")
    server.must("PUT", "/resource_classes/CUSTOM_LICENCE")


def build(server: Server, world: World) -> list[int]:
    """Make the world, where nothing else is; the status of every claim."""
    server.clear()
    for one in world.providers:
        server.must("POST", "/resource_providers", {"uuid": one.uuid, "name": one.name, "parent_provider_uuid": one.parent})
        base, generation = f"/resource_providers/{one.uuid}", 0
        if one.aggregates:
            server.must("PUT", f"{base}/aggregates", list(one.aggregates), "1.18")
        if one.inventories:
            stock = {"resource_provider_generation": generation, "inventories": one.inventories}
            generation = server.must("PUT", f"{base}/inventories", stock)["resource_provider_generation"]
        if one.traits:
            server.must("PUT", f"{base}/traits", {"resource_provider_generation": generation, "traits": list(one.traits)})
    statuses = [_hold(server, index, claim) for index, claim in enumerate(world.claims)]
    for provider in world.shrunk:
        path = f"/resource_providers/{provider}/inventories"
        found = server.must("GET", path)
        for inventory in found["inventories"].values():
            inventory.update(total=1, reserved=0, allocation_ratio=1.0)
        server.must("PUT", path, found)
    return statuses + [_hold(server, index, change) for index, change in enumerate(world.changes)]


def _hold(server: Server, index: int, wanted: dict[str, dict[str, int]]) -> int:
    """Let a consumer hold exactly this; the status."""
    path = f"/allocations/{uuid.UUID(int=index + 1)}"
    body = {
        "allocations": {provider: {"resources": amounts} for provider, amounts in wanted.items()},
        "consumer_generation": server.must("GET", path).get("consumer_generation"),
        "consumer_type": "INSTANCE",
        "project_id": "project",
        "user_id": "user",
    }
    return server.ask("PUT", path, body).status


def world(dice: random.Random) -> World:
    """One to four hosts with nodes and cards below, and providers that share."""
    aggregates = [_uuid(dice) for _ in range(3)]
    made: list[Provider] = []

    def add(name: str, parent: Provider | None, classes: Sequence[str], *traits: str) -> Provider:
        one = Provider(
            _uuid(dice),
            name,
            parent.uuid if parent else None,
            {resource: _inventory(dice) for resource in classes},
            (*traits, *_some(dice, TRAITS, 0.45)),
            tuple(_some(dice, aggregates, 0.4)),
        )
        made.append(one)
        return one

    for host in range(dice.choice((1, 2, 2, 3))):
        root = add(f"host{host}", None, _some(dice, ("VCPU", "MEMORY_MB", "DISK_GB"), 0.8))
        above = [root]
        of_node = ("VCPU", "MEMORY_MB", "CUSTOM_LICENCE")
        above += [add(f"host{host}-node{node}", root, _some(dice, of_node, 0.6)) for node in range(dice.choice((0, 0, 1, 2)))]
        for card in range(dice.choice((0, 1, 2, 3))):
            add(f"host{host}-card{card}", dice.choice(above), ("VGPU", *_some(dice, ("CUSTOM_LICENCE",), 0.3)))
    for pool in range(dice.choice((0, 0, 1, 2))):
        add(f"pool{pool}", None, (*_some(dice, ("DISK_GB", "CUSTOM_LICENCE", "VGPU"), 0.6),), SHARES)
    if dice.random() < 0.1:
        add("child-that-shares", made[0], ("DISK_GB",), SHARES)
    claims = tuple(_claim(dice, made) for _ in range(dice.choice((0, 1, 2, 3))))
    shrunk = tuple({provider: None for claim in claims for provider in claim if dice.random() < 0.4})
    kept = [claim for claim in claims if dice.random() < 0.6]
    changes = tuple({p: {name: dice.choice((1, 1, 2)) for name in of} for p, of in claim.items()} for claim in kept)
    return World(tuple(made), claims, shrunk, changes)


def _uuid(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


def _some(dice: random.Random, all_: Sequence[str], chance: float) -> list[str]:
    return [one for one in all_ if dice.random() < chance]


def _inventory(dice: random.Random) -> dict[str, Any]:
    total = dice.choice((1, 2, 4, 8, 15))
    plain = {"total": total, "reserved": 0, "allocation_ratio": 1.0, "min_unit": 1, "max_unit": total, "step_size": 1}
    if dice.random() < 0.7:
        return plain
    return plain | {
        "reserved": dice.choice((0, 0, 1, total)),
        "allocation_ratio": dice.choice((1.0, 1.5, 2.0, 4.0, 0.5)),
        "min_unit": dice.choice((1, 1, 2)),
        "max_unit": dice.choice((total, 2 * total, 1, 2)),
        "step_size": dice.choice((1, 1, 2, 3)),
    }


def _claim(dice: random.Random, providers: Sequence[Provider]) -> dict[str, dict[str, int]]:
    chosen = dice.sample(providers, min(len(providers), dice.randint(1, 2)))
    return {one.uuid: {dice.choice([*one.inventories, "VCPU"]): dice.choice((1, 1, 2, 4))} for one in chosen}


def question(dice: random.Random, asked_of: World) -> Question:
    """A question about the world, good most of the time, of a microversion that may not know all its words."""
    minor = dice.choice(MINORS)
    version = f"1.{minor}"
    # now and then a word that came later, which both have to refuse
    known = 39 if dice.random() < 0.03 else minor
    if dice.random() < 0.15:
        return Question(version, "/resource_providers", tuple(_group(dice, asked_of, "", known, least=0)))
    return Question(version, "/allocation_candidates", tuple(_candidates(dice, asked_of, known)))


def _candidates(dice: random.Random, asked_of: World, known: int) -> list[tuple[str, str]]:
    numbered = dice.choice((0, 0, 1, 2, 2, 3)) if known >= 25 else 0
    suffixes = [str(n + 1) if known < 33 else dice.choice((f"_{'ABC'[n]}", str(n + 1))) for n in range(numbered)]
    said: list[tuple[str, str]] = []
    alike = dice.random() < 0.3
    for suffix in [*([""] if not numbered or dice.random() < 0.6 else []), *suffixes]:
        before = [(key, value) for key, value in said if suffixes[:1] and key.endswith(suffixes[0])]
        if alike and suffix in suffixes[1:] and before:
            said += [(key.removesuffix(suffixes[0]) + suffix, value) for key, value in before]
        else:
            bare = known >= 36 and suffix and dice.random() < 0.15
            said += _group(dice, asked_of, suffix, known, least=0 if bare else 1)
    if numbered > 1 and dice.random() < 0.97:
        said.append(("group_policy", dice.choice(("none", "isolate"))))
    if known >= 35 and dice.random() < 0.15:
        said.append(("root_required", ",".join(dice.choice(("", "!")) + one for one in dice.sample(TRAITS, dice.randint(1, 2)))))
    if known >= 36 and suffixes and dice.random() < 0.35:
        said.append(("same_subtree", ",".join(dice.sample(suffixes, dice.randint(1, len(suffixes))))))
    return said


def _group(dice: random.Random, asked_of: World, suffix: str, known: int, least: int) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    if suffix and not least and dice.random() < 0.5:
        return [(f"required{suffix}", dice.choice(TRAITS))]
    least = least or bool(suffix)
    there = [name for one in asked_of.providers for name in one.inventories] + ["VCPU"]
    classes = dict.fromkeys(dice.choice(there) for _ in range(dice.choice((1, 1, 1, 2) if least else (0, 0, 1, 1, 2))))
    if classes:
        said.append((f"resources{suffix}", ",".join(f"{one}:{dice.choice((1, 1, 1, 1, 2, 3))}" for one in classes)))
    if known >= 18 and dice.random() < 0.25:
        said += [(f"required{suffix}", _required(dice, known)) for _ in range(dice.choice((1, 1, 2)) if known >= 39 else 1)]
    if known >= 21 and dice.random() < 0.2:
        said += [(f"member_of{suffix}", _member_of(dice, asked_of, known)) for _ in range(dice.choice((1, 1, 2)) if known >= 24 else 1)]
    if known >= 31 and dice.random() < 0.08:
        said.append((f"in_tree{suffix}", dice.choice(asked_of.providers).uuid))
    return said


def _required(dice: random.Random, known: int) -> str:
    chosen = dice.sample(TRAITS, dice.choice((1, 1, 2)))
    if known >= 39 and dice.random() < 0.3:
        return "in:" + ",".join(chosen)
    return ",".join(("!" if known >= 22 and dice.random() < 0.4 else "") + one for one in chosen)


def _member_of(dice: random.Random, asked_of: World, known: int) -> str:
    there = sorted({one for provider in asked_of.providers for one in provider.aggregates}) or [_uuid(dice)]
    chosen = dice.sample(there, min(len(there), dice.choice((1, 1, 2))))
    listed = "in:" + ",".join(chosen) if len(chosen) > 1 or dice.random() < 0.3 else chosen[0]
    return ("!" if known >= 32 and dice.random() < 0.3 else "") + listed
