"""bandit and ruff, run beside the own rules, their rules put to weaknesses of CWE-1000.

A line that carries ``noqa`` for a rule of ruff's S family is settled for bandit's rule of the same number too.
"""
from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lamina_review.findings import Finding, place
from lamina_review.source import Module, Unscanned

#: bandit's rules; those that only say that a module is imported or a program run are left out
BANDIT: dict[str, int] = {
    "B102": 95, "B103": 732, "B105": 259, "B106": 259, "B107": 259, "B108": 377, "B110": 390, "B112": 390, "B113": 400,
    "B201": 489, "B202": 22, "B301": 502, "B302": 502, "B303": 327, "B304": 327, "B305": 327, "B306": 377, "B307": 95,
    "B308": 79, "B310": 22, "B311": 330, "B312": 319, "B313": 611, "B314": 611, "B315": 611, "B316": 611, "B317": 611,
    "B318": 611, "B319": 611, "B321": 319, "B323": 295, "B324": 327, "B501": 295, "B502": 327, "B503": 327, "B504": 327,
    "B505": 326, "B506": 502, "B507": 295, "B508": 319, "B509": 319, "B601": 78, "B602": 78, "B604": 78, "B605": 78,
    "B608": 89, "B609": 155, "B612": 94, "B613": 451, "B614": 502, "B701": 79, "B703": 79, "B704": 79,
}
RUFF: dict[str, int] = {
    "B012": 584, "B015": 1164, "B018": 1164, "B025": 561, "C901": 1121, "E722": 396, "F632": 595, "F811": 561,
    "F841": 563, "PLR0133": 570, "PLW0129": 571, "PLW0711": 754, "PLW1510": 252, "T100": 489,
}
#: branches of a function above which it counts as too complex
COMPLEXITY = 12


class ToolFailed(Exception):
    """bandit or ruff did not answer as it should."""


def _answer(command: list[str]) -> object:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    try:
        return json.loads(done.stdout)
    except ValueError as problem:
        raise ToolFailed(f"{command[0]} ended with {done.returncode}: {done.stderr[-400:]}") from problem


def bandit(roots: Sequence[Path], modules: Mapping[Path, Module]) -> tuple[list[Finding], list[Unscanned]]:
    """bandit's findings, and the files it could not read."""
    answer = _answer(["bandit", "-q", "-f", "json", "--exit-zero", "-t", ",".join(BANDIT), "-r", *map(str, roots)])
    assert isinstance(answer, dict)  # noqa: S101
    found = []
    for result in answer["results"]:
        module = modules.get(Path(result["filename"]).resolve())
        if module is None or _settled(module, result["line_number"], result["test_id"]):
            continue
        if re.fullmatch(r"Possible hardcoded password: '(None|True|False|)'", result["issue_text"]):
            continue  # none at all
        line = result["line_number"]
        cwe = BANDIT[result["test_id"]]
        found.append(Finding(module.path, line, f"bandit-{result['test_id']}", cwe, result["issue_text"], place(module, line)))
    unread = [Unscanned(Path(e["filename"]).name, f"bandit: {e['reason']}") for e in answer["errors"]]
    return found, sorted(unread)


def _settled(module: Module, line: int, test: str) -> bool:
    said = re.search(r"#\s*noqa:\s*([A-Z0-9, ]+)", module.line(line))
    return said is not None and f"S{test[1:]}" in re.split(r"[ ,]+", said.group(1))


def ruff(roots: Sequence[Path], modules: Mapping[Path, Module]) -> list[Finding]:
    """ruff's findings of the rules that name a weakness, without any configuration of the tree's own."""
    options = ["--isolated", "--no-cache", "--exit-zero", "--output-format", "json", "--config", f"lint.mccabe.max-complexity={COMPLEXITY}"]
    answer = _answer(["ruff", "check", *options, "--select", ",".join(RUFF), *map(str, roots)])
    assert isinstance(answer, list)  # noqa: S101
    found = []
    for result in answer:
        module = modules.get(Path(result["filename"]).resolve())
        if module is not None and result["code"] in RUFF:
            line = result["location"]["row"]
            found.append(Finding(module.path, line, f"ruff-{result['code']}", RUFF[result["code"]], result["message"], place(module, line)))
    return found
