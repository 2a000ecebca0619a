"""The reports for programs: plain JSON, and SARIF 2.1.0 as code-scanning services read it."""
from __future__ import annotations

import dataclasses
import json

from lamina_review.findings import Finding
from lamina_review.pillars import PILLARS, name_of, pillars_of
from lamina_review.review import Review
from lamina_review.rules import RULES
from lamina_review.waivers import Waiver

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_json(review: Review) -> str:
    """Everything a review knows, findings with their pillars spelled out."""
    value = {
        "files": review.files,
        "lines": review.lines,
        "passes": review.passes,
        "unscanned": [dataclasses.asdict(u) for u in review.unscanned],
        "wrong_waivers": review.wrong_waivers,
        "findings": [_finding(f) for f in review.open],
        "waived": [{**_finding(f), "reason": w.reason, "until": w.until.isoformat()} for f, w in review.waived],
        "pillars": {
            str(pillar): {
                "name": name,
                "examined": dataclasses.asdict(review.examined[pillar]),
                "observations": [dataclasses.asdict(o) for o in review.observations[pillar]],
                "evidence": [dataclasses.asdict(e) for e in review.evidence if pillar in pillars_of(e.cwe)],
            }
            for pillar, name in PILLARS.items()
        },
    }
    return json.dumps(value, indent=1) + "\n"


def _finding(finding: Finding) -> dict[str, object]:
    return {**dataclasses.asdict(finding), "weakness": finding.weakness, "pillar": finding.pillar, "also": finding.also}


def as_sarif(review: Review) -> str:
    """One run with a rule for each that found something; a waived finding is a suppressed result."""
    results: list[tuple[Finding, Waiver | None]] = sorted([(f, None) for f in review.open] + list(review.waived), key=lambda r: r[0])
    rules = sorted({(f.rule, f.cwe) for f, _ in results})
    driver = {"name": "lamina-review", "rules": [_rule(name, cwe) for name, cwe in rules]}
    notes = [{"level": "error", "message": {"text": f"not scanned: {u.path}: {u.why}"}} for u in review.unscanned]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not review.unscanned, "toolExecutionNotifications": notes}],
        "results": [_result(f, w, rules.index((f.rule, f.cwe))) for f, w in results],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _rule(name: str, cwe: int) -> dict[str, object]:
    own = RULES.get(name)
    tags = ["security", f"external/cwe/cwe-{cwe:03}", *(f"pillar/cwe-{p}" for p in pillars_of(cwe))]
    why = own.why if own else name_of(cwe)
    return {"id": name, "shortDescription": {"text": name_of(cwe)}, "fullDescription": {"text": why}, "properties": {"tags": tags}}


def _result(finding: Finding, waiver: Waiver | None, index: int) -> dict[str, object]:
    place: dict[str, object] = {"physicalLocation": {"artifactLocation": {"uri": finding.path}, "region": {"startLine": finding.line}}}
    if finding.function:
        place["logicalLocations"] = [{"fullyQualifiedName": finding.function, "kind": "function"}]
    result: dict[str, object] = {
        "ruleId": finding.rule, "ruleIndex": index, "level": "warning", "message": {"text": finding.message}, "locations": [place],
        "partialFingerprints": {"reviewFingerprint/v1": finding.fingerprint},
        "properties": {"pillar": finding.pillar, "also": list(finding.also)},
    }
    if waiver is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": waiver.reason}]
    return result
