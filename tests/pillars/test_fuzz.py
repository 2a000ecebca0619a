"""Each parser fed with a hundred thousand inputs that are nearly good, whole files in YAML with a share of that; no crash."""

from __future__ import annotations

import os

import pytest

from lamina.model.errors import BadRequest
from tests.pillars.fuzz import PARSERS, RUNS, Crash, Parser, bodies, fuzz, one


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.weakness(20)
@pytest.mark.weakness(248)
def test_nothing_comes_out_of_a_parser_but_what_it_names(name: str, caplog: pytest.LogCaptureFixture) -> None:
    for library in ("oslo_policy", "oslo_utils"):
        caplog.set_level("CRITICAL", library)
    runs = int(os.environ.get("RUNS", RUNS))
    count, taken = fuzz(name, runs)
    print(f"\n{name}: {count} runs, {taken} taken, 0 crashes")
    assert count == (runs if "whole" not in name else max(1, runs // 40))


def test_every_body_of_every_room_takes_part() -> None:
    assert len(bodies()) > 90


def test_a_crash_is_noticed() -> None:
    with pytest.raises(Crash, match="ValueError"):
        one(Parser(int, ("1",)), "x")
    with pytest.raises(Crash, match="is another"):
        one(Parser(lambda text: text.strip(), ("1",), (BadRequest,), again=lambda value: value + " x"), "1")
