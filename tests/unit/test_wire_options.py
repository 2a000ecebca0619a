"""What is typed for limits, and what Lamina makes of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lamina.cli.wire_options import read_failures, read_rate
from lamina.model.errors import BadRequest
from lamina.model.rates import Rate


@pytest.mark.parametrize(("text", "meant"), [("off", None), ("1", 1), ("60", 60), ("600", 600)])
def test_logins_that_may_fail(text: str, meant: int | None) -> None:
    assert read_failures(text) == meant


def test_reads_a_second() -> None:
    assert read_rate("off") is None
    assert read_rate("500") == Rate(500, 10_000)


@pytest.mark.parametrize("text", ["", "0", "-1", "601", "1.5", "ten", "٣", "Off", "1e2"])
def test_nonsense(text: str) -> None:
    with pytest.raises(BadRequest, match="--failed-logins"):
        read_failures(text)


@pytest.mark.parametrize("verb", ["up", "api"])
def test_both_verbs_take_it(verb: str) -> None:
    # in a process of its own: the verbs say where the whole process logs
    command = [sys.executable, "-m", "lamina.cli.main", verb, "--failed-logins", "nonsense", "--state", "/proc/no"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode != 0
    assert "--failed-logins: 'nonsense' is neither" in told.stderr
