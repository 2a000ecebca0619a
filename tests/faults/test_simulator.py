"""The crash simulator keeps its word: every kind of operation is asked for, a seed is the same schedule each time, it notices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lamina.operations import create
from lamina.operations.kinds import KINDS
from tests.faults.simulator.choosers import CHOOSERS
from tests.faults.simulator.scene import Stage
from tests.faults.simulator.schedule import EVENTS, run, shrink
from tests.faults.variants import VARIANTS, caught
from tests.faults.world import replaced, with_step

#: schedules that every run of the tests goes through; `make faults` goes through 10,000
SEEDS = 200
BATCH = 50


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def test_every_kind_of_operation_has_a_chooser() -> None:
    assert {chooser.kind for chooser in CHOOSERS} == {kind.name for kind in KINDS}


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
@pytest.mark.weakness(664)
@pytest.mark.weakness(691)
def test_no_schedule_breaks_a_promise(stage: Stage, first: int) -> None:
    broken = {seed: found.violation for seed in range(first, first + BATCH) if (found := run(stage, seed)).violation is not None}
    assert not broken


def test_the_schedules_reach_every_event_and_every_kind(stage: Stage) -> None:
    outcomes = [run(stage, seed) for seed in range(1000, 1120)]
    assert {event.what for outcome in outcomes for event in outcome.events} == set(EVENTS)
    assert {name.split()[0] for outcome in outcomes for name in outcome.ended} == {kind.name for kind in KINDS}
    assert {"crashes", "errno", "agent dies", "overtaken"} <= {name for outcome in outcomes for name in outcome.struck}


def test_a_seed_is_the_same_schedule_every_time(stage: Stage) -> None:
    digests = [run(stage, seed).digest for seed in range(6)]
    assert [run(stage, seed).digest for seed in range(6)] == digests
    code = (
        "from tests.faults.simulator.scene import Stage; from tests.faults.simulator.schedule import run; s = Stage();"
        "print('digests', *(run(s, n).digest for n in range(6))); s.close()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    ).stdout
    assert told.splitlines()[-1].split()[1:] == digests


def test_a_broken_promise_is_noticed_and_its_schedule_shrunk(stage: Stage) -> None:
    kinds = replaced(with_step(create.KIND, "vgpus_present", undo=None))
    found = next(outcome for seed in range(200) if (outcome := run(stage, seed, kinds=kinds)).violation is not None)
    shortest = shrink(stage, found, kinds)
    assert shortest.violation is not None
    assert len(shortest.events) < len(found.events)
    assert run(stage, found.seed).violation is None, "the schedule is harmless to Lamina as it is"


@pytest.mark.parametrize("name", ["a claim writes no intent down", "the journal is written after the device is made"])
def test_a_variant_without_a_protection_is_caught(name: str) -> None:
    assert caught(next(variant for variant in VARIANTS if variant.name == name), 100) is not None
