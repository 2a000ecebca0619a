"""Real processes, a real database, real SIGKILL: at every point of create and resize on SQLite, at some and at pairs on PostgreSQL.

`make faults` runs every point and every pair on both.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.faults.kills import CHOSEN, POINTS, deaths, points
from tests.faults.world import FRAMEWORKS

#: on both kinds of cards
SINGLES = len(FRAMEWORKS) * sum(len(points(story)) for story in CHOSEN.values())


@pytest.mark.parametrize(
    ("words", "least"),
    [
        pytest.param(
            ("--database", "sqlite", "--singles"), SINGLES, id="sqlite"
        ),
        pytest.param(("--database", "postgresql", "--every", "40"), 12, id="postgresql"),
    ],
)
@pytest.mark.weakness(459)
def test_killed(words: tuple[str, ...], least: int) -> None:
    command = [sys.executable, "-m", "tests.faults.kills", "--workers", "1", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = re.fullmatch(r"killed at (\d+) points and (\d+) pairs of them, (\d+) processes in \d+ s, 0 bad", ran.stdout.splitlines()[-1])
    assert told is not None, ran.stdout
    assert int(told[1]) + int(told[2]) >= least


def test_every_pair_is_among_the_deaths() -> None:
    for story in CHOSEN.values():
        pairs = [where for where in deaths(story, pairs=True) if len(where) == 2]
        steps = len(points(story)) // len(POINTS)
        # of a step that is logged the next ones are reached, of one that is not it is reached again
        assert len(pairs) == sum(3 * 2 * left + 3 * (left - 1) for left in range(1, steps + 1))
        assert len(set(pairs)) == len(pairs)
