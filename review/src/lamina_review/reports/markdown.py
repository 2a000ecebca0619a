"""The report for people: a summary, then a section for each pillar.

The same tree gives the same text everywhere. Figures above ten are rounded down to the next of 10, 20, 50, 100, 200, … and
what is no finding stands under the name of its function, so that the text changes when what it tells of does and not with
every line of code.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from lamina_review.findings import Finding
from lamina_review.observations import Observation, Place
from lamina_review.pillars import PILLARS, name_of, pillars_of
from lamina_review.review import Examined, Review
from lamina_review.rules import RULES
from lamina_review.waivers import Waiver

#: findings that a section lists one by one; the others it counts
LISTED = 40
#: functions, else files, that an observation names
NAMED = 20


def write(review: Review, title: str) -> str:
    """The whole report, ending in a newline."""
    return "\n".join([*_head(review, title), *(line for pillar in PILLARS for line in _section(review, pillar)), ""]).rstrip("\n") + "\n"


def about(number: int) -> str:
    """A figure that changes seldom: 7, over 10, over 200, over 5000."""
    if number <= 10:
        return str(number)
    step = 10 ** (len(str(number)) - 1)
    return f"over {max(times * step for times in (1, 2, 5) if times * step <= number)}"


def _head(review: Review, title: str) -> Iterator[str]:
    yield f"# {title}"
    yield ""
    yield "Written by `lamina-review`; not to be edited. It looks for the weaknesses below the ten pillars of CWE-1000."
    yield ""
    left = f"{len(review.unscanned)} could not be read" if review.unscanned else "none was left out"
    yield f"- **Read:** {about(review.files)} files of Python with {about(review.lines)} lines; {left}."
    yield f"- **Found:** {len(review.open)} findings are open, {len(review.waived)} stand for a reason that is given."
    yield f"- **Shown by running it:** {len({e.test for e in review.evidence})} tests are marked as evidence that a weakness is absent."
    yield ""
    for unscanned in review.unscanned:
        yield f"- **Not scanned:** `{unscanned.path}`: {unscanned.why}"
    for wrong in review.wrong_waivers:
        yield f"- **Waiver** {wrong}"
    if review.unscanned or review.wrong_waivers:
        yield ""
    yield "A rule counts and a finding stands under the first pillar above its weakness; *also* names the others. Sites are the places"
    yield "that a rule has judged, good ones too. What is *observed* is no fault but where a doubt would begin. Figures above ten are"
    yield "rounded down; the JSON report has them exactly."
    yield ""
    yield from _table(
        ("pillar", "own rules", "rules of bandit and ruff", "sites", "open", "waived", "evidence"), "lrrrrrr",
        ([f"[{_heading(p)}](#{_anchor(_heading(p))})", *map(str, _summed(review, p))] for p in PILLARS),
    )


def _heading(pillar: int) -> str:
    return f"CWE-{pillar}: {PILLARS[pillar]}"


def _anchor(heading: str) -> str:
    """What a heading's place is called where Markdown is shown."""
    return heading.lower().replace(":", "").replace(" ", "-")


def _summed(review: Review, pillar: int) -> tuple[int | str, ...]:
    seen = review.examined[pillar]
    return (
        len(seen.sites), sum(map(len, seen.tool_rules.values())), about(sum(seen.sites.values())),
        sum(f.pillar == pillar for f in review.open), sum(f.pillar == pillar for f, _ in review.waived),
        sum(pillar in pillars_of(e.cwe) for e in review.evidence),
    )


def _section(review: Review, pillar: int) -> Iterator[str]:
    yield f"## {_heading(pillar)}"
    yield ""
    yield from _findings([f for f in review.open if f.pillar == pillar])
    yield from _waived([(f, w) for f, w in review.waived if f.pillar == pillar])
    tests = [e for e in review.evidence if pillar in pillars_of(e.cwe)]
    if tests:
        yield "Evidence:"
        yield ""
        for cwe, those in itertools.groupby(tests, key=lambda e: e.cwe):
            yield f"- CWE-{cwe} {name_of(cwe)}"
            yield from (f"  - `{e.test}`" for e in those)
        yield ""
    if review.observations[pillar]:
        yield "Observed:"
        yield ""
        yield from (f"- **{o.what}** ({about(o.count)}): {_where(o)}" for o in review.observations[pillar])
        yield ""
    yield from _examined(review.examined[pillar])


def _findings(found: Sequence[Finding]) -> Iterator[str]:
    if not found:
        yield "No finding is open."
        yield ""
        return
    yield from _table(("where", "weakness", "what", "fingerprint"), "llll", (
        (f"`{f.path}:{f.line}` {_in(f)}", f"CWE-{f.cwe} {f.weakness}{_also(f)}", f"{_cell(f.message)} ({f.rule})", f"`{f.fingerprint}`")
        for f in found[:LISTED]
    ))
    if len(found) > LISTED:
        yield f"And {len(found) - LISTED} more; the JSON and SARIF reports have all."
        yield ""


def _waived(found: Sequence[tuple[Finding, Waiver]]) -> Iterator[str]:
    if found:
        yield from _table(("waived", "weakness", "why it stands", "until"), "llll", (
            (f"`{f.path}` {_in(f)}", f"CWE-{f.cwe} {f.weakness}{_also(f)}: {_cell(f.message)}", _cell(w.reason), str(w.until))
            for f, w in found
        ))


def _where(observation: Observation) -> str:
    """The functions, by file; the files, where there are too many functions; the parts of the tree, where there are too many files."""
    places = observation.places
    if len(places) > NAMED:
        files = sorted({p.file for p in places})
        return "in " + ", ".join(f"`{name}`" for name in (files if len(files) <= NAMED else sorted({p.part for p in places})))
    return "; ".join(_in_file(file, those) for file, those in itertools.groupby(places, key=lambda p: p.file))


def _in_file(file: str, places: Iterable[Place]) -> str:
    told = []
    for function, those in itertools.groupby(places, key=lambda p: p.function):
        notes = ", ".join(_code(p.note) for p in those if p.note)
        told.append(" ".join(part for part in (function and _code(function), notes and f"({notes})") if part))
    return f"{_code(file)}: {', '.join(told)}" if any(told) else _code(file)


def _code(text: str) -> str:
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def _examined(seen: Examined) -> Iterator[str]:
    yield "Examined:"
    yield ""
    yield from _table(("rule", "weakness", "what it looks for", "sites"), "lllr", (
        (f"`{name}`", f"CWE-{RULES[name].cwe}", _cell(RULES[name].why), about(sites)) for name, sites in seen.sites.items()
    ))
    if seen.tool_rules:
        named = "; ".join(f"{name_of(cwe)} (CWE-{cwe}: {', '.join(rules)})" for cwe, rules in seen.tool_rules.items())
        yield f"And by bandit and ruff: {named}."
        yield ""


def _table(head: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---:' if side == 'r' else '---' for side in sides)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _in(finding: Finding) -> str:
    return f"in `{finding.function}`" if finding.function else ""


def _also(finding: Finding) -> str:
    return f", also {', '.join(map(str, finding.also))}" if finding.also else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
