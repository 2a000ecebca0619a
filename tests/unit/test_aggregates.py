"""Aggregates: zones of hosts, and what flavors ask of metadata."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model.aggregates import SCOPE, Aggregate, matches, moved, serving
from lamina.model.errors import Conflict
from lamina.scheduling import filters
from lamina.scheduling.filters import Wanted
from tests.unit.test_scheduling import host, request


def aggregate(number: int, *hosts: str, **metadata: str) -> Aggregate:
    return Aggregate(number, f"uuid-{number}", 0, f"name-{number}", 0.0, metadata=metadata, hosts=frozenset(hosts))


def test_a_hosts_zone_is_that_of_its_aggregate() -> None:
    plain, east, west = aggregate(1, "a"), aggregate(2, "a", "b", availability_zone="east"), aggregate(3, availability_zone="west")
    assert moved([], [plain]) == {}
    assert moved([plain], [plain, east]) == {"a": "east", "b": "east"}
    assert moved([plain, east], [plain]) == {"a": "nova", "b": "nova"}
    assert moved([east], [aggregate(2, "b", availability_zone="west")]) == {"a": "nova", "b": "west"}
    assert moved([east, west], [east, west]) == {}
    assert moved([], [aggregate(1, "a", availability_zone="nova")]) == {}


def test_a_host_is_in_one_zone_only() -> None:
    east = aggregate(1, "a", "b", availability_zone="east")
    with pytest.raises(Conflict, match="Host b would be in the availability zones east and west"):
        moved([east], [east, aggregate(2, "b", availability_zone="west")])
    assert moved([east], [east, aggregate(2, "b", availability_zone="east")]) == {}


hosts = st.frozensets(st.sampled_from("abcd"), max_size=4)
aggregates = st.lists(st.tuples(hosts, st.sampled_from([None, "nova", "east"])), max_size=4).map(
    lambda made: [
        aggregate(number, *members, **({} if zone is None else {"availability_zone": zone}))
        for number, (members, zone) in enumerate(made)
    ]
)


@given(aggregates, aggregates)
def test_a_change_and_its_reverse_move_the_same_hosts(before: list[Aggregate], after: list[Aggregate]) -> None:
    try:
        there, back = moved(before, after), moved(after, before)
    except Conflict:
        return
    assert there.keys() == back.keys()
    assert all(there[name] != back[name] for name in there)


@pytest.mark.parametrize(
    ("value", "wanted", "is_it"),
    [
        ("ssd", "ssd", True),
        ("ssd", "hdd", False),
        ("ssd", "SSD", False),
        ("", "", True),
        ("a b", "a b", True),
        ("ssd", "<or> hdd <or> ssd", True),
        ("ssd", "<or> hdd", False),
        ("or", "<or> hdd <or> ssd", False),
        ("ssd", "<or>", False),
        ("fast ssd", "<in> ssd", True),
        ("fast", "<in> ssd", False),
        ("fast ssd", "<all-in> ssd fast", True),
        ("fast", "<all-in> ssd fast", False),
        ("fast", "<all-in>", False),
        ("8", "= 4", True),
        ("2", "= 4", False),
        ("4", "== 4.0", True),
        ("4", "!= 4", False),
        ("4", "<= 4", True),
        ("10", ">= 9", True),
        ("many", ">= 9", False),
        ("10", ">= many", False),
        ("10", ">=", False),
        ("10", "s>= 9", False),
        ("b", "s> a", True),
        ("b", "s< a", False),
        ("b", "s<= b", True),
        ("b", "s== b", True),
        ("b", "s!= b", False),
        ("b", "s==", False),
    ],
)
def test_operators_of_extra_specs(value: str, wanted: str, is_it: bool) -> None:
    assert matches(value, wanted) is is_it


@given(st.text(), st.text())
def test_no_extra_spec_is_an_error(value: str, wanted: str) -> None:
    assert matches(value, wanted) in (True, False)


def test_a_flavor_is_served_by_hosts_in_an_aggregate_that_has_what_it_asks() -> None:
    known = [aggregate(1, "a", "b", disk="ssd, nvme"), aggregate(2, "c", disk="hdd"), aggregate(3, "b", "c", rack="7")]
    asked = {f"{SCOPE}disk": "nvme", f"{SCOPE}rack": ">= 5", "resources:VGPU": "1"}
    assert serving(known, asked) == {"disk=nvme": frozenset("ab"), "rack=>= 5": frozenset("bc")}
    assert serving(known, {}) == {}
    assert serving([], asked) == {"disk=nvme": frozenset(), "rack=>= 5": frozenset()}
    wanted = Wanted(request(), aggregates=serving(known, asked))
    assert [filters.why_not(host(name), wanted) for name in "abc"] == [
        "in no aggregate whose metadata has rack=>= 5",
        None,
        "in no aggregate whose metadata has disk=nvme",
    ]


def test_an_aggregate_without_a_zone_makes_none() -> None:
    assert aggregate(1, "a").zone is None
    assert dataclasses.replace(aggregate(1, "a"), metadata={"availability_zone": "east"}).zone == "east"
