"""Run schedules by their seeds: ``python -m tests.faults.simulator --from 0 --seeds 10000``.

Goes over the seeds in order on all processors and says how far it has come, so that one that was stopped goes on from there. Exit
code 1 where a promise was broken; the first such seeds are told with their shortest schedule.
"""

from __future__ import annotations

import argparse
import atexit
import collections
import functools
import multiprocessing
import multiprocessing.util
import sys
import time

import structlog

from tests.faults.simulator.scene import Stage, processors
from tests.faults.simulator.schedule import Outcome, run, shrink

CHUNK = 50
#: violations that are shrunk and told; the others are only counted
TOLD = 5


def _drop(*_given: object) -> dict[str, object]:
    raise structlog.DropEvent


def quiet() -> None:
    structlog.configure(processors=[_drop], wrapper_class=structlog.make_filtering_bound_logger(50))


@functools.cache
def stage() -> Stage:
    made = Stage()
    atexit.register(made.close)
    multiprocessing.util.Finalize(made, made.close, exitpriority=1)
    return made


def chunk(seeds: range) -> tuple[range, collections.Counter[str], list[Outcome]]:
    counted: collections.Counter[str] = collections.Counter()
    broken = []
    for seed in seeds:
        outcome = run(stage(), seed)
        counted["schedules"] += 1
        counted["crashes"] += sum(outcome.struck.get(name, 0) for name in ("crashes", "agent dies", "overtaken"))
        counted["faults"] += sum(outcome.struck.values())
        counted["operations"] += sum(outcome.ended.values())
        counted["effects"] += sum(outcome.passed.get(name, 0) for name in ("write-after", "domain-after", "journal-after"))
        if outcome.violation is not None:
            counted["violations"] += 1
            broken.append(outcome)
    return seeds, counted, broken


def told(outcome: Outcome) -> str:
    shortest = shrink(stage(), outcome)
    return "\n".join([f"seed {outcome.seed}: {shortest.violation}", *(f"    {line}" for line in shortest.trace)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--workers", type=int, default=processors())
    given = parser.parse_args()
    quiet()
    last = given.first + given.seeds
    chunks = [range(at, min(at + CHUNK, last)) for at in range(given.first, last, CHUNK)]
    total: collections.Counter[str] = collections.Counter()
    broken: list[Outcome] = []
    began = said = time.monotonic()
    with multiprocessing.Pool(given.workers, quiet) as pool:
        for done, counted, found in pool.imap(chunk, chunks):
            total += counted
            for outcome in found:
                print(f"seed {outcome.seed}: {outcome.violation}", flush=True)
            broken += found
            now = time.monotonic()
            if now - said > 10:
                said, rate = now, total["schedules"] / (now - began)
                left = (last - done.stop) / rate
                print(f"to seed {done.stop}: {rate:.0f} schedules/s, {total['violations']} violations, {left:.0f} s left", flush=True)
        pool.close()
        pool.join()
    spent = time.monotonic() - began
    print(
        f"{total['schedules']} schedules ({total['schedules'] / spent:.1f}/s), {total['operations']} operations,"
        f" {total['crashes']} crashes, {total['faults']} faults in all, {total['effects']} effects, {total['violations']} violations"
    )
    for outcome in broken[:TOLD]:
        print(told(outcome))
    if broken[TOLD:]:
        print("and the seeds", *(outcome.seed for outcome in broken[TOLD:100]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
