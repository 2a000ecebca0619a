"""A whole review: files read, rules run, tools run, waivers applied."""
from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

from lamina_review import tools, waivers
from lamina_review.evidence import Evidence, evidence
from lamina_review.findings import Finding, marked, own_findings
from lamina_review.observations import Observation, observe
from lamina_review.pillars import PILLARS, pillars_of
from lamina_review.rules import RULES
from lamina_review.source import Unscanned, load


@dataclasses.dataclass(frozen=True)
class Examined:
    """What was looked at under a pillar: the sites of each own rule, and the rules of bandit and ruff, by their weakness."""

    sites: dict[str, int]
    tool_rules: dict[int, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Review:
    """Everything that a report says. It passes when nothing is unscanned, open or wrong with the waivers."""

    files: int
    lines: int
    unscanned: tuple[Unscanned, ...]
    open: tuple[Finding, ...]
    waived: tuple[tuple[Finding, waivers.Waiver], ...]
    wrong_waivers: tuple[str, ...]
    examined: dict[int, Examined]
    observations: dict[int, tuple[Observation, ...]]
    evidence: tuple[Evidence, ...]

    @property
    def passes(self) -> bool:
        return not (self.unscanned or self.open or self.wrong_waivers)


def review(
    roots: Sequence[Path], known: Sequence[waivers.Waiver] = (), tests: Sequence[Path] = (), today: datetime.date | None = None
) -> Review:
    """Review trees or files. Raises `tools.ToolFailed` when bandit or ruff cannot be run, and `UnknownWeakness` for a mark of that kind."""
    modules, unscanned = load(roots)
    by_file = {module.file.resolve(): module for module in modules}
    own, sites = own_findings(modules)
    present = [root for root in roots if root.exists()]
    by_bandit, unread = tools.bandit(present, by_file) if by_file else ([], [])
    by_ruff = tools.ruff(present, by_file) if by_file else []
    findings = marked([*own, *by_bandit, *by_ruff], {module.path: module for module in modules})
    still_open, waived, wrong = waivers.split(findings, known, today or datetime.datetime.now(tz=datetime.UTC).date())
    missed = {Path(u.path).name for u in unscanned}
    return Review(
        files=len(modules),
        lines=sum(module.text.count("\n") for module in modules),
        unscanned=(*unscanned, *(u for u in unread if u.path not in missed)),
        open=tuple(still_open),
        waived=tuple(waived),
        wrong_waivers=tuple(wrong),
        examined={pillar: _examined(pillar, sites) for pillar in PILLARS},
        observations=observe(modules),
        evidence=tuple(evidence(tests)),
    )


def _examined(pillar: int, sites: dict[str, int]) -> Examined:
    others: dict[int, tuple[str, ...]] = {}
    for tool, cwe in [*((f"bandit {r}", cwe) for r, cwe in tools.BANDIT.items()), *((f"ruff {r}", cwe) for r, cwe in tools.RUFF.items())]:
        if pillars_of(cwe)[0] == pillar:
            others[cwe] = (*others.get(cwe, ()), tool)
    own = {rule.name: sites[rule.name] for rule in RULES.values() if pillars_of(rule.cwe)[0] == pillar}
    return Examined(dict(sorted(own.items())), dict(sorted(others.items())))
