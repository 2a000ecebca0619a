"""``python -m compat --lamina PATH``: the whole comparison; exit 1 where Lamina answers otherwise than it should."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

from compat import differential, gabbits, servers  # noqa: E402 - the libraries of Placement warn while they are imported

#: tests that must pass, of 1,003; and those that may fail, each with its reason in docs/api.md
ENOUGH = 1000
SEEDS = range(1, 23)
#: of each seed
QUESTIONS = 125
KNOWN = frozenset(line for line in Path(__file__).with_name("known_failures.txt").read_text().splitlines() if line)


def main() -> int:
    parser = argparse.ArgumentParser(prog="compat", description=__doc__)
    parser.add_argument("--lamina", default="lamina", help="the program to start")
    parser.add_argument("--only", default="*", help="of the HTTP tests only the files that match")
    asked = parser.parse_args()
    with servers.lamina(asked.lamina) as lamina:
        passed = _gabbits(lamina, asked.only)
        with servers.placement() as placement:
            agreed = _differential(placement, lamina)
    return 0 if passed and agreed else 1


def _gabbits(lamina: servers.Server, only: str) -> bool:
    started = time.monotonic()
    outcome = gabbits.run(lamina, only)
    for failure in outcome.failures:
        print(f"{'known' if str(failure) in KNOWN else 'FAILED'}  {failure}\n        {failure.why[:1000]}")
    total = outcome.passed + len(outcome.failures)
    print(f"HTTP tests: {outcome.passed} of {total} passed, {len(outcome.failures)} failed ({time.monotonic() - started:.0f} s)")
    unknown = [failure for failure in outcome.failures if str(failure) not in KNOWN]
    return not unknown and (only != "*" or outcome.passed >= ENOUGH)


def _differential(placement: servers.Server, lamina: servers.Server) -> bool:
    agreed, started = True, time.monotonic()
    total = differential.Tally()
    for seed in SEEDS:
        tally = differential.Tally()
        found = differential.run(placement, lamina, seed, QUESTIONS, tally)
        told = f"seed {seed}: {tally.questions} questions, {tally.refused} refused, {tally.candidates} candidates"
        print(f"{told}: {'the same answers' if found is None else 'DIFFERENT answers'}", flush=True)
        if found is not None:
            agreed = False
            print(found)
        total += tally
    alike = total.questions - total.failed
    print(f"{alike} questions answered alike, {total.failed} where Placement failed ({time.monotonic() - started:.0f} s)")
    return agreed


if __name__ == "__main__":
    sys.exit(main())
