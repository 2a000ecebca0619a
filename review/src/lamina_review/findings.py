"""What a review finds: one shape for what the own rules, bandit and ruff say."""
from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from lamina_review.pillars import name_of, pillars_of
from lamina_review.rules import RULES
from lamina_review.source import Module


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A weakness at a place. ``function`` is empty at the top of a module; ``fingerprint`` does not know the line number."""

    path: str
    line: int
    rule: str
    cwe: int
    message: str
    function: str
    fingerprint: str = ""

    @property
    def pillar(self) -> int:
        return pillars_of(self.cwe)[0]

    @property
    def also(self) -> tuple[int, ...]:
        return pillars_of(self.cwe)[1:]

    @property
    def weakness(self) -> str:
        return name_of(self.cwe)


def place(module: Module, line: int) -> str:
    """The function whose lines hold this one."""
    around = [f for f in module.functions() if f.lineno <= line <= (f.end_lineno or f.lineno)]
    return module.name_at(max(around, key=lambda f: f.lineno)) if around else ""


def own_findings(modules: Iterable[Module]) -> tuple[list[Finding], Counter[str]]:
    """What the own rules find, and how many sites each has looked at."""
    found: list[Finding] = []
    examined: Counter[str] = Counter(dict.fromkeys(RULES, 0))
    for module in modules:
        for rule in RULES.values():
            for site in rule.check(module):
                examined[rule.name] += 1
                if site.problem:
                    line = getattr(site.node, "lineno", 1)
                    found.append(Finding(module.path, line, rule.name, rule.cwe, site.problem, place(module, line)))
    return found, examined


def marked(findings: Iterable[Finding], modules: Mapping[str, Module]) -> list[Finding]:
    """The findings once each, in order, with fingerprints out of rule, file, function and the text of the line; equal ones are numbered."""
    seen: Counter[str] = Counter()
    done: list[Finding] = []
    for finding in sorted(set(findings)):
        module = modules.get(finding.path)
        text = module.line(finding.line) if module else ""
        key = "\0".join([finding.rule, finding.path, finding.function, " ".join(text.split())])
        seen[key] += 1
        digest = hashlib.sha256(f"{key}\0{seen[key]}".encode()).hexdigest()[:12]
        done.append(dataclasses.replace(finding, fingerprint=digest))
    return done
