"""How much the review finds: pairs of a bad and a good example, in two halves.

Rules may be written by the *seen* half only. The *unseen* half was written before there was a rule, from the descriptions
of weaknesses, and is not looked at while rules are changed; its figures say what to expect of code nobody has tuned for.

A bad example is found when a finding in it lies below the primary pillar of its weakness. A good example is a false hit
when there is any finding in it at all.
"""
from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lamina_review.findings import Finding
from lamina_review.pillars import pillars_of
from lamina_review.review import review


@dataclasses.dataclass(frozen=True)
class Pair:
    """``cwe`` is shown by ``bad`` and not by ``good``."""

    name: str
    cwe: int
    title: str
    bad: str
    good: str


@dataclasses.dataclass(frozen=True)
class Result:
    """Whether the bad example was found, and the rules that found something in the good one."""

    pair: Pair
    found: bool
    hits: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Score:
    """What was found of pairs. Rates are of none where there are no pairs."""

    results: tuple[Result, ...]

    @property
    def missed(self) -> tuple[str, ...]:
        return tuple(f"{r.pair.name} CWE-{r.pair.cwe} {r.pair.title}" for r in self.results if not r.found)

    @property
    def false_hits(self) -> tuple[str, ...]:
        return tuple(f"{r.pair.name} {', '.join(r.hits)}" for r in self.results if r.hits)

    @property
    def recall(self) -> float:
        return sum(r.found for r in self.results) / max(len(self.results), 1)

    @property
    def false_rate(self) -> float:
        return len(self.false_hits) / max(len(self.results), 1)

    def under(self, pillar: int) -> Score:
        """The part of one pillar."""
        return Score(tuple(r for r in self.results if pillars_of(r.pair.cwe)[0] == pillar))


def pairs(folder: Path) -> Iterator[Pair]:
    """The pairs of a half: files ``cwe-NNN.txt`` of a pillar each, with ``=== bad CWE-NNN title`` and ``=== good`` before each example."""
    for file in sorted(folder.glob("cwe-*.txt")):
        blocks = file.read_text(encoding="utf-8").split("=== ")[1:]
        for number, (bad, good) in enumerate(zip(blocks[::2], blocks[1::2], strict=True), 1):
            head, _, code = bad.partition("\n")
            _, cwe, title = head.split(" ", 2)
            yield Pair(f"{file.stem}-{number}", int(cwe.removeprefix("CWE-")), title, code, good.partition("\n")[2])


def score(folder: Path) -> Score:
    """Review all examples of a half at once."""
    listed = list(pairs(folder))
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "examples"
        root.mkdir()
        for pair in listed:
            (root / f"{pair.name}.bad.py").write_text(pair.bad, encoding="utf-8")
            (root / f"{pair.name}.good.py").write_text(pair.good, encoding="utf-8")
        done = review([root])
    if done.unscanned:
        raise ValueError(f"an example is no Python: {done.unscanned[0]}")
    by_name: dict[str, list[Finding]] = {}
    for finding in done.open:
        by_name.setdefault(Path(finding.path).stem, []).append(finding)
    return Score(tuple(_result(pair, by_name) for pair in listed))


def _result(pair: Pair, findings: dict[str, list[Finding]]) -> Result:
    pillar = pillars_of(pair.cwe)[0]
    found = any(pillar in (f.pillar, *f.also) for f in findings.get(f"{pair.name}.bad", []))
    return Result(pair, found, tuple(f.rule for f in findings.get(f"{pair.name}.good", [])))
