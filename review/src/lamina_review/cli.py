"""The command `lamina-review`: reviews trees, or says how much the rules find of the corpus."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lamina_review import corpus, waivers
from lamina_review.evidence import UnknownWeakness
from lamina_review.pillars import PILLARS
from lamina_review.reports import machine, markdown
from lamina_review.review import Review, review
from lamina_review.tools import ToolFailed


def main(arguments: list[str] | None = None) -> None:
    """Ends the program: 0 when the review passes, 1 when it does not, 2 when it could not be made."""
    given = _parser().parse_args(arguments)
    try:
        sys.exit(_corpus(given.corpus, given.names) if given.corpus else _review(given))
    except (waivers.BadWaivers, UnknownWeakness, ToolFailed) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lamina-review", description="Reviews Python trees against the ten pillars of CWE-1000.")
    parser.add_argument("paths", nargs="*", type=Path, help="trees or files to review")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report for people there; else to the terminal")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON there")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write SARIF 2.1.0 there")
    parser.add_argument("--waivers", type=Path, metavar="FILE", help="TOML file of findings that stand, and why")
    parser.add_argument("--tests", type=Path, action="append", default=[], metavar="DIR", help="where tests marked with a weakness are")
    parser.add_argument("--title", default="Security review", help="first line of the report for people")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a report that is there is not what would be written")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="say what is found of DIR/seen and DIR/unseen")
    parser.add_argument("--names", action="store_true", help="with --corpus: name what is missed of the seen half")
    return parser


def _review(given: argparse.Namespace) -> int:
    if not given.paths:
        sys.stderr.write("name a tree to review\n")
        return 2
    made = review(given.paths, waivers.read(given.waivers) if given.waivers else (), given.tests)
    reports = {
        given.markdown: markdown.write(made, given.title),
        given.json: machine.as_json(made) if given.json else "",
        given.sarif: machine.as_sarif(made) if given.sarif else "",
    }
    wanted = {path: text for path, text in reports.items() if path is not None}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text] if given.check else []
    for path, text in wanted.items():
        if not given.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if not wanted:
        sys.stdout.write(markdown.write(made, given.title))
    _tell(made, stale)
    return 0 if made.passes and not stale else 1


def _tell(made: Review, stale: list[Path]) -> None:
    """Says on the error stream what makes the review fail."""
    lines = [f"not scanned: {u.path}: {u.why}" for u in made.unscanned]
    lines += [f"{f.path}:{f.line}: CWE-{f.cwe} {f.message} ({f.rule}, {f.fingerprint})" for f in made.open]
    lines += [f"waiver {wrong}" for wrong in made.wrong_waivers]
    lines += [f"stale: {path} is not what is written without --check" for path in stale]
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _corpus(folder: Path, names: bool) -> int:
    for half in ("seen", "unseen"):
        found = corpus.score(folder / half)
        sys.stdout.write(f"{half}\n")
        for pillar, name in PILLARS.items():
            sys.stdout.write(_figures(f"CWE-{pillar} {name}", found.under(pillar)))
        sys.stdout.write(_figures("all", found))
        if names and half == "seen":
            sys.stdout.write("".join(f"  missed {m}\n" for m in found.missed) + "".join(f"  false hit {f}\n" for f in found.false_hits))
    return 0


def _figures(name: str, score: corpus.Score) -> str:
    return f"  {name:52}{len(score.results):4} pairs  recall {score.recall:6.1%}  false hits {score.false_rate:6.1%}\n"
