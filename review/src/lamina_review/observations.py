"""What is there to judge under each pillar, and where.

An observation is no fault: it says what a reader who doubts should look at. It names functions and never lines, and where
there are many, files or parts of the tree, so that a report changes when what it tells of does.
"""
from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from lamina_review.findings import place
from lamina_review.observers import OBSERVERS, Noted
from lamina_review.rules.reading import called
from lamina_review.source import Module

#: what gives back what the other has taken, by the first word of a function's name
PAIRS: dict[str, frozenset[str]] = {
    "create": frozenset({"delete", "remove", "destroy", "discard", "drop", "undo"}),
    "make": frozenset({"delete", "remove", "destroy", "discard", "unlink"}),
    "add": frozenset({"remove", "delete", "discard"}),
    "allocate": frozenset({"release", "deallocate", "free"}),
    "acquire": frozenset({"release"}),
    "claim": frozenset({"release", "unclaim"}),
    "reserve": frozenset({"release", "unreserve"}),
    "attach": frozenset({"detach", "remove"}),
    "connect": frozenset({"disconnect", "close"}),
    "define": frozenset({"undefine", "remove", "delete"}),
    "mount": frozenset({"unmount", "umount"}),
    "register": frozenset({"unregister", "deregister"}),
    "start": frozenset({"stop", "kill", "terminate", "cancel"}),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """A function, the file that holds it, the part of the tree that holds the file, and what is special there."""

    part: str
    file: str
    function: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Observation:
    """How often something is there, and where: each place once, in order."""

    what: str
    count: int
    places: tuple[Place, ...]


def observe(modules: Iterable[Module]) -> dict[int, tuple[Observation, ...]]:
    """The observations under each pillar, in order of their names."""
    read: Sequence[Module] = list(modules)
    root = os.path.commonpath([PurePosixPath(m.path).parent for m in read]) if read else ""
    noted = {pillar: [(m, n) for m in read for n in observer(m)] for pillar, observer in OBSERVERS.items()}
    noted[664] += _pairs(read)
    return {pillar: _gathered(seen, root) for pillar, seen in noted.items()}


def _gathered(seen: Iterable[tuple[Module, Noted]], root: str) -> tuple[Observation, ...]:
    found: dict[str, list[Place]] = {}
    for module, noted in seen:
        file = PurePosixPath(module.path).relative_to(root).with_suffix("").as_posix()
        line = getattr(noted.node, "lineno", 0)
        function = noted.name or place(module, line)
        found.setdefault(noted.what, []).append(Place(file.partition("/")[0], file, function, noted.note))
    return tuple(
        Observation(what, len(places), tuple(sorted(set(places), key=dataclasses.astuple))) for what, places in sorted(found.items())
    )


def _pairs(modules: Sequence[Module]) -> Iterator[tuple[Module, Noted]]:
    """Functions that make or take something, by whether the same file has one that gives it back, or the tree calls one."""
    words = {m.path: {f.name.strip("_") for f in m.functions()} | {called(c).strip("_") for c in m.nodes(ast.Call)} for m in modules}
    everywhere = {word for said in words.values() for word in said}
    for module in modules:
        for function in module.functions():
            first, _, noun = function.name.strip("_").partition("_")
            ends = {f"{then}_{noun}".rstrip("_") for then in PAIRS.get(first, ())}
            if not ends:
                continue
            back = sorted(ends & (everywhere if noun else words[module.path]))
            if back:
                yield module, Noted("made or taken, and given back", function, back[0])
            else:
                yield module, Noted("made or taken, with nothing of a like name to give it back", function)
