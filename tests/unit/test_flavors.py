"""Flavors: what may be one, and what it asks of Placement."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model.errors import BadRequest
from lamina.model.flavors import MOST, Flavor
from lamina.model.policies import EXTRA_SPEC as PLACED_BY
from lamina.model.policies import PolicyName
from lamina.model.queueing import WORD as WAIT

SMALL = Flavor(id="1", name="small", vcpus=1, memory_mb=512, disk_gb=1)
VGPU = dataclasses.replace(SMALL, id="2", name="vgpu", extra_specs={"resources:VGPU": "1", "trait:CUSTOM_NVIDIA_A40_8Q": "required"})

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
_AMOUNT = st.integers(1, 2**20)
FLAVORS = st.builds(
    Flavor,
    id=st.from_regex(r"[a-z0-9._-]{1,30}", fullmatch=True),
    name=_TEXT,
    vcpus=_AMOUNT,
    memory_mb=_AMOUNT,
    disk_gb=st.integers(0, 2**20),
    ephemeral_gb=st.integers(0, 2**20),
    swap_mb=st.integers(0, 2**20),
    rxtx_factor=st.floats(0.1, 100),
    public=st.booleans(),
    description=st.none() | _TEXT,
    extra_specs=st.dictionaries(st.from_regex(r"hw:[a-z_]{1,20}", fullmatch=True), _TEXT, max_size=4),
)


@given(FLAVORS)
def test_a_flavor_comes_back_as_it_was(flavor: Flavor) -> None:
    flavor.checked()
    assert Flavor.from_plain(msgspec.json.decode(msgspec.json.encode(flavor.to_plain()))) == flavor


@given(FLAVORS)
def test_the_disk_asked_for_holds_everything(flavor: Flavor) -> None:
    (group,) = flavor.request.groups
    asked = group.resources.get("DISK_GB", 0)
    needed_mb = (flavor.disk_gb + flavor.ephemeral_gb) * 1024 + flavor.swap_mb
    assert 0 <= asked * 1024 - needed_mb < 1024
    assert (group.resources["VCPU"], group.resources["MEMORY_MB"]) == (flavor.vcpus, flavor.memory_mb)


def test_a_vgpu_flavor_asks_for_a_vgpu() -> None:
    (group,) = VGPU.request.groups
    assert group.resources == {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1, "VGPU": 1}
    assert group.required == (frozenset({"CUSTOM_NVIDIA_A40_8Q"}),)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": ""}, "id"),
        ({"id": " 1"}, "id"),
        ({"id": "1\n"}, "id"),
        ({"id": "a/b"}, "id"),
        ({"id": "x" * 256}, "id"),
        ({"name": ""}, "name"),
        ({"name": " small"}, "name"),
        ({"name": "sm\nall"}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": MOST + 1}, "vcpus"),
        ({"memory_mb": 0}, "ram"),
        ({"disk_gb": -1}, "disk"),
        ({"ephemeral_gb": -1}, "OS-FLV-EXT-DATA:ephemeral"),
        ({"swap_mb": -1}, "swap"),
        ({"disk_gb": MOST, "swap_mb": 1}, "disk"),
        ({"rxtx_factor": 0.0}, "rxtx_factor"),
        ({"rxtx_factor": float("nan")}, "rxtx_factor"),
        ({"rxtx_factor": float("inf")}, "rxtx_factor"),
        ({"description": "x" * 65536}, "description"),
        ({"extra_specs": {"": "x"}}, "extra_specs"),
        ({"extra_specs": {"a b\n": "x"}}, "extra_specs"),
        ({"extra_specs": {"ä": "x"}}, "extra_specs"),
        ({"extra_specs": {"a": "x" * 256}}, "extra_specs"),
        ({"extra_specs": {f"a{n}": "" for n in range(129)}}, "extra_specs"),
        ({"extra_specs": {"resources:VGPU": "one"}}, "resources:VGPU"),
        ({"extra_specs": {"resources:VGPU": "-1"}}, "resources:VGPU"),
        ({"extra_specs": {"trait:CUSTOM_X": "wanted"}}, "trait:CUSTOM_X"),
        ({"extra_specs": {"resources1:VGPU": "1", "resources2:VGPU": "1"}}, "group_policy"),
    ],
)
def test_what_is_no_flavor(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=f"^{named}"):
        dataclasses.replace(SMALL, **change).checked()


def test_limits_are_within() -> None:
    dataclasses.replace(SMALL, id="x" * 255, name="x" * 255, vcpus=MOST, memory_mb=MOST, disk_gb=MOST).checked()
    dataclasses.replace(SMALL, name="größe 1", extra_specs={"a" * 255: "x" * 255}).checked()


@pytest.mark.parametrize("edge", ["a", "z", "A", "Z", "0", "9", ".", "_", "-"])
def test_ids_and_keys_take_every_letter_and_digit_everywhere(edge: str) -> None:
    for text in (edge, f"{edge}x", f"x{edge}x", f"x{edge}", f"x {edge} x"):
        dataclasses.replace(SMALL, id=text, extra_specs={text: ""}).checked()
    for wrong in (f" {edge}", f"{edge} ", f"{edge};{edge}"):
        with pytest.raises(BadRequest, match=r"^extra_specs"):
            dataclasses.replace(SMALL, extra_specs={wrong: ""}).checked()


def test_bounds_are_where_they_are_said_to_be() -> None:
    """The largest of each that is taken; what is beyond each is refused above and here."""
    largest = [
        {"ephemeral_gb": MOST, "disk_gb": 0},
        {"disk_gb": MOST - 1, "swap_mb": 1024},
        {"swap_mb": MOST, "disk_gb": 0},
        {"rxtx_factor": 3.40282e38},
        {"rxtx_factor": 0.5},
        {"name": "x", "vcpus": 1, "memory_mb": 1, "disk_gb": 0},
        {"description": "x" * 65535},
        {"extra_specs": {f"a{n}": "" for n in range(128)}},
    ]
    for change in largest:
        assert dataclasses.replace(SMALL, **change).checked() == dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
    beyond = [
        {"memory_mb": MOST + 1},
        {"disk_gb": MOST + 1},
        {"ephemeral_gb": MOST + 1},
        {"swap_mb": MOST + 1},
        {"disk_gb": MOST - 1, "swap_mb": 1025},
        {"rxtx_factor": 3.41e38},
        {"rxtx_factor": -0.5},
        {"extra_specs": {"a" * 256: ""}},
        {"extra_specs": {PLACED_BY: "nowhere"}},
        {"extra_specs": {WAIT: "0"}},
    ]
    for change in beyond:
        with pytest.raises(BadRequest):
            dataclasses.replace(SMALL, **change).checked()  # type: ignore[arg-type]


def test_a_flavor_says_how_it_is_placed_and_how_long_its_servers_wait_or_nothing() -> None:
    told = dataclasses.replace(SMALL, extra_specs={PLACED_BY: "pack", WAIT: "90"})
    assert (told.policy, told.wait) == (PolicyName.PACK, 90.0)
    assert (SMALL.policy, SMALL.wait) == (None, None)
