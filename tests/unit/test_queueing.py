"""The order of the queue: nobody is left out, projects take turns, and first come is first served within one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model.errors import BadRequest
from lamina.model.queueing import LONGEST, Waiting, in_order, parse_wait

PROJECTS = ("a", "b", "c")


def waiting(project: str, at: float, name: str = "") -> Waiting:
    return Waiting(name or f"{project}{at:g}", project, at, at + 60, "no room")


lines = st.lists(st.tuples(st.sampled_from(PROJECTS), st.integers(0, 50)), max_size=30).map(
    lambda drawn: [waiting(project, at, f"s{n}") for n, (project, at) in enumerate(drawn)]
)
turns = st.dictionaries(st.sampled_from(PROJECTS), st.floats(1, 1000))


@given(lines, turns)
def test_everybody_has_a_place_and_one_only(line: list[Waiting], served: dict[str, float]) -> None:
    ordered = in_order(line, served)
    assert sorted(one.server_id for one in ordered) == sorted(one.server_id for one in line)
    assert in_order(reversed(line), served) == ordered


@given(lines, turns)
def test_first_come_is_first_served_within_a_project(line: list[Waiting], served: dict[str, float]) -> None:
    for project in PROJECTS:
        own = [(one.queued_at, one.server_id) for one in in_order(line, served) if one.project_id == project]
        assert own == sorted(own)


@given(lines, turns)
def test_no_project_has_two_more_turns_than_another_that_still_waits(line: list[Waiting], served: dict[str, float]) -> None:
    ordered = [one.project_id for one in in_order(line, served)]
    left = {project: ordered.count(project) for project in PROJECTS}
    had = dict.fromkeys(PROJECTS, 0)
    for project in ordered:
        left[project] -= 1
        had[project] += 1
        assert all(had[project] - had[other] <= 1 for other in PROJECTS if left[other])


def test_the_one_that_was_served_longest_ago_goes_first() -> None:
    line = [waiting("a", 1), waiting("a", 2), waiting("b", 9), waiting("c", 5)]
    assert [one.server_id for one in in_order(line, {})] == ["a1", "c5", "b9", "a2"]
    assert [one.server_id for one in in_order(line, {"a": 100.0, "c": 50.0})] == ["b9", "c5", "a1", "a2"]


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e3", "ten", "\u0661", str(LONGEST + 1), "9" * 40])
def test_nonsense_is_no_time_to_wait(text: str) -> None:
    with pytest.raises(BadRequest, match="lamina:wait"):
        parse_wait(text, "lamina:wait")


def test_a_time_to_wait_is_seconds() -> None:
    assert [parse_wait(text, "") for text in ("1", "3600", str(LONGEST))] == [1.0, 3600.0, float(LONGEST)]


def test_served_in_turn_until_nobody_waits() -> None:
    """Whoever is served goes behind: a hundred of one project and one of another, and the one is second."""
    line = [waiting("a", float(n)) for n in range(100)] + [waiting("b", 99.5)]
    served: dict[str, float] = {}
    order = []
    for now in itertools.count(1000):
        if not line:
            break
        first = in_order(line, served)[0]
        served[first.project_id] = float(now)
        line.remove(first)
        order.append(first.project_id)
    assert order[:3] == ["a", "b", "a"]
