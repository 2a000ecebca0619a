"""The report for people: a summary, then a section for each pillar. The same tree gives the same text everywhere."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from lamina_review.findings import Finding
from lamina_review.pillars import PILLARS, name_of, pillars_of
from lamina_review.review import Review

#: findings that a section lists one by one; the others it counts by rule
LISTED = 40


def write(review: Review, title: str) -> str:
    """The whole report, ending in a newline."""
    return "\n".join([*_head(review, title), *(line for pillar in PILLARS for line in _section(review, pillar)), ""])


def _head(review: Review, title: str) -> Iterator[str]:
    yield f"# {title}"
    yield ""
    yield "Reviewed against the ten pillars of CWE-1000. This text is generated; do not edit it."
    yield ""
    yield f"- {review.files} files with {review.lines} lines were scanned, {len(review.unscanned)} could not be."
    yield f"- {len(review.open)} findings are open, {len(review.waived)} are waived with a reason."
    yield f"- {len(review.evidence)} tests are marked as evidence."
    yield ""
    yield "A finding is counted under its weakness's primary pillar; *also* names the other pillars above it."
    yield "Sites are the places that a rule has looked at."
    yield ""
    yield "| pillar | own rules | rules of tools | sites | open | waived | evidence |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for pillar, name in PILLARS.items():
        seen = review.examined[pillar]
        opened = sum(f.pillar == pillar for f in review.open)
        waived = sum(f.pillar == pillar for f, _ in review.waived)
        tests = sum(pillar in pillars_of(e.cwe) for e in review.evidence)
        yield f"| CWE-{pillar} {name} | {seen.own_rules} | {seen.tool_rules} | {seen.sites} | {opened} | {waived} | {tests} |"
    yield ""
    for unscanned in review.unscanned:
        yield f"- **Not scanned:** `{unscanned.path}`: {unscanned.why}"
    for wrong in review.wrong_waivers:
        yield f"- **Waiver:** {wrong}"


def _section(review: Review, pillar: int) -> Iterator[str]:
    seen = review.examined[pillar]
    yield f"## CWE-{pillar}: {PILLARS[pillar]}"
    yield ""
    rules = f"{seen.own_rules} own rules and {seen.tool_rules} rules of bandit and ruff"
    yield f"Examined: {seen.sites} sites in {review.files} files, by {rules}."
    yield ""
    yield from _findings([f for f in review.open if f.pillar == pillar])
    waived = [(f, w) for f, w in review.waived if f.pillar == pillar]
    if waived:
        yield "| waived | weakness | why it stands | until |"
        yield "| --- | --- | --- | --- |"
        yield from (f"| `{f.path}:{f.line}` {_in(f)} | CWE-{f.cwe} ({f.rule}) | {_cell(w.reason)} | {w.until} |" for f, w in waived)
        yield ""
    if review.observations[pillar]:
        yield "| observed | count | most of it in |"
        yield "| --- | ---: | --- |"
        yield from (f"| {o.what} | {o.count} | {', '.join(f'`{name}`' for name in o.where)} |" for o in review.observations[pillar])
        yield ""
    tests = [e for e in review.evidence if pillar in pillars_of(e.cwe)]
    if tests:
        yield "Evidence:"
        yield ""
        yield from (f"- CWE-{e.cwe} {name_of(e.cwe)}: `{e.test}`" for e in tests)
        yield ""


def _findings(found: Sequence[Finding]) -> Iterator[str]:
    if not found:
        yield "No open findings."
        yield ""
        return
    yield "| where | weakness | what | fingerprint |"
    yield "| --- | --- | --- | --- |"
    for f in found[:LISTED]:
        also = f", also {', '.join(map(str, f.also))}" if f.also else ""
        yield f"| `{f.path}:{f.line}` {_in(f)} | CWE-{f.cwe} {f.weakness}{also} | {_cell(f.message)} ({f.rule}) | `{f.fingerprint}` |"
    yield ""
    if len(found) > LISTED:
        yield f"And {len(found) - LISTED} more; the JSON and SARIF reports have all."
        yield ""


def _in(finding: Finding) -> str:
    return f"in `{finding.function}`" if finding.function else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
