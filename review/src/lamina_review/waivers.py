"""Findings that are known and why they stand: a TOML file of ``[[waiver]]`` tables.

Each names the rule, the file, the fingerprint that the report shows, the reason, and the day until which it holds. One
that is past its day, or matches nothing, is an error: waivers do not outlive what they were written for.
"""
from __future__ import annotations

import dataclasses
import datetime
import tomllib
from collections.abc import Sequence
from pathlib import Path

from lamina_review.findings import Finding


class BadWaivers(Exception):
    """The file of waivers does not have the form it should."""


@dataclasses.dataclass(frozen=True)
class Waiver:
    """Why one finding stands. ``until`` is the last day on which that holds."""

    rule: str
    file: str
    fingerprint: str
    reason: str
    until: datetime.date

    def covers(self, finding: Finding) -> bool:
        return (self.rule, self.file, self.fingerprint) == (finding.rule, finding.path, finding.fingerprint)


def read(path: Path) -> list[Waiver]:
    """The waivers of a file. Raises `BadWaivers` naming what is wrong."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("waiver", [])
    except (tomllib.TOMLDecodeError, OSError) as problem:
        raise BadWaivers(f"{path.name}: {problem}") from problem
    fields = {field.name: field.type for field in dataclasses.fields(Waiver)}
    for number, table in enumerate(tables, 1):
        if set(table) != set(fields):
            raise BadWaivers(f"{path.name}: waiver {number} has {sorted(table)}; it needs {sorted(fields)}")
        if not str(table["reason"]).strip() or type(table["until"]) is not datetime.date:
            raise BadWaivers(f"{path.name}: waiver {number} needs a reason, and a date as until")
    return [Waiver(**table) for table in tables]


def split(
    findings: Sequence[Finding], waivers: Sequence[Waiver], today: datetime.date
) -> tuple[list[Finding], list[tuple[Finding, Waiver]], list[str]]:
    """The findings that stand open, those that are waived, and what is wrong with the waivers."""
    wrong = [f"expired on {w.until}: {w.rule} in {w.file}" for w in waivers if w.until < today]
    wrong += [f"matches nothing: {w.rule} in {w.file} ({w.fingerprint})" for w in waivers if not any(w.covers(f) for f in findings)]
    valid = [w for w in waivers if w.until >= today]
    waived = [(f, w) for f in findings for w in valid if w.covers(f)]
    covered = {f for f, _ in waived}
    return [f for f in findings if f not in covered], waived, sorted(wrong)
