"""Each parser fed with a hundred thousand inputs that are nearly good, or a share of that where one costs milliseconds; no crash."""

from __future__ import annotations

import os

import pytest

from lamina.model.errors import BadRequest
from tests.pillars.fuzz import PARSERS, RUNS, Crash, Parser, bodies, fuzz, one


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.weakness(20)
@pytest.mark.weakness(248)
def test_nothing_comes_out_of_a_parser_but_what_it_names(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "oslo_policy")
    count, taken = fuzz(name, int(os.environ.get("RUNS", RUNS)))
    print(f"\n{name}: {count} runs, {taken} taken, 0 crashes")
    assert count >= 1


def test_every_body_of_every_room_takes_part() -> None:
    assert len(bodies()) > 90


def test_a_crash_is_noticed() -> None:
    with pytest.raises(Crash, match="ValueError"):
        one(Parser(int, ("1",)), "x")
    with pytest.raises(Crash, match="is another"):
        one(Parser(lambda text: text.strip(), ("1",), (BadRequest,), again=lambda value: value + " x"), "1")
