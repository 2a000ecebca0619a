"""Flavors: what may be one, what it asks of Placement, and how they are kept and listed."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from lamina.model.errors import AlreadyExists, BadRequest, NotFound
from lamina.model.flavors import MOST, Flavor
from lamina.operations.control_plane import ControlPlane
from lamina.store import flavors
from lamina.store.paging import Direction
from lamina.store.tables import compute as tables

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


# ---------------------------------------------------------------------------------------------------- store


def test_a_flavor_is_kept(plane: ControlPlane) -> None:
    full = Flavor("3", "full", 2, 1024, 10, 5, 512, 1.5, False, "d", {"resources:VGPU": "1"})
    with plane.db.write() as tx:
        flavors.create(tx, full)
    with plane.db.read() as tx:
        assert flavors.get(tx, "3") == flavors.get_named(tx, "full") == full
        with pytest.raises(NotFound, match="Flavor 4 could not be found"):
            flavors.get(tx, "4")


@pytest.mark.parametrize("taken", [{"id": "1"}, {"name": "small"}])
def test_ids_and_names_are_given_once(plane: ControlPlane, taken: dict[str, Any]) -> None:
    with plane.db.write() as tx:
        flavors.create(tx, SMALL)
    with pytest.raises(AlreadyExists), plane.db.write() as tx:
        flavors.create(tx, dataclasses.replace(VGPU, **taken))


def test_nothing_wrong_is_kept(plane: ControlPlane) -> None:
    with pytest.raises(BadRequest), plane.db.write() as tx:
        flavors.create(tx, dataclasses.replace(SMALL, vcpus=0))
    with plane.db.write() as tx:
        flavors.create(tx, VGPU)
    with pytest.raises(BadRequest), plane.db.write() as tx:
        flavors.set_extra_specs(tx, VGPU.id, {"resources:VGPU": "many"})
    with plane.db.read() as tx:
        assert flavors.page(tx) == [VGPU]


def test_extra_specs_are_set_and_deleted(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        flavors.create(tx, VGPU)
        changed = flavors.set_extra_specs(tx, VGPU.id, {"resources:VGPU": "2", "hw:x": "y"})
        assert changed.extra_specs == {**VGPU.extra_specs, "resources:VGPU": "2", "hw:x": "y"}
        changed = flavors.delete_extra_spec(tx, VGPU.id, "trait:CUSTOM_NVIDIA_A40_8Q")
        assert changed.extra_specs == {"resources:VGPU": "2", "hw:x": "y"}
        assert flavors.get(tx, VGPU.id) == changed
        with pytest.raises(NotFound, match="no extra specs with key nothing"):
            flavors.delete_extra_spec(tx, VGPU.id, "nothing")
        with pytest.raises(NotFound):
            flavors.set_extra_specs(tx, "nothing", {})


def test_a_description_may_change(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        flavors.create(tx, SMALL)
        assert flavors.describe(tx, SMALL.id, "words").description == "words"
        assert flavors.get(tx, SMALL.id).description == "words"
        assert flavors.describe(tx, SMALL.id, None) == SMALL
        with pytest.raises(BadRequest):
            flavors.describe(tx, SMALL.id, "x" * 65536)


def test_a_private_flavor_is_for_those_who_were_let_in(plane: ControlPlane) -> None:
    private = dataclasses.replace(VGPU, public=False)
    with plane.db.write() as tx:
        flavors.create(tx, SMALL)
        flavors.create(tx, private)
        flavors.add_access(tx, private.id, "lab")
        assert flavors.list_access(tx, private.id) == ["lab"]
        assert flavors.get(tx, private.id, project_id="lab") == private
        assert flavors.get_named(tx, private.name, project_id="lab") == private
        for unseen in (flavors.get, flavors.get_named):
            with pytest.raises(NotFound):
                unseen(tx, private.id, project_id="other")
        assert flavors.page(tx, project_id="lab") == [SMALL, private]
        assert flavors.page(tx, project_id="other") == [SMALL]
        assert flavors.page(tx, public=False) == [private]
        assert flavors.page(tx, public=None) == [SMALL, private]
        flavors.remove_access(tx, private.id, "lab")
        assert flavors.page(tx, project_id="lab") == [SMALL]
        with pytest.raises(NotFound):
            flavors.remove_access(tx, private.id, "lab")


def test_access_is_a_matter_of_private_flavors(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        flavors.create(tx, SMALL)
        with pytest.raises(BadRequest):
            flavors.add_access(tx, SMALL.id, "lab")
        with pytest.raises(NotFound):
            flavors.list_access(tx, SMALL.id)
        flavors.create(tx, dataclasses.replace(VGPU, public=False))
        flavors.add_access(tx, VGPU.id, "lab")
        with pytest.raises(AlreadyExists):
            flavors.add_access(tx, VGPU.id, "lab")


def test_a_deleted_flavor_takes_its_access_along(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        flavors.create(tx, dataclasses.replace(VGPU, public=False))
        flavors.add_access(tx, VGPU.id, "lab")
        flavors.delete(tx, VGPU.id)
        assert tx.scalar(sa.select(sa.func.count()).select_from(tables.flavor_access)) == 0
        with pytest.raises(NotFound):
            flavors.delete(tx, VGPU.id)


@pytest.mark.parametrize("sort", sorted(flavors.SORT_KEYS))
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_follow_each_other(plane: ControlPlane, sort: str, direction: Direction) -> None:
    with plane.db.write() as tx:
        for number in range(7):
            flavors.create(tx, Flavor(f"id{number * 3 % 7}", f"n{number}", 1 + number // 2, 512 * (1 + number % 2), number // 3))
        everything = [flavor.id for flavor in flavors.page(tx, sort=sort, direction=direction)]
        assert len(set(everything)) == 7
        read: list[str] = []
        while page := flavors.page(tx, sort=sort, direction=direction, limit=3, marker=read[-1] if read else None):
            read += [flavor.id for flavor in page]
        assert read == everything


def test_a_list_is_bounded_from_below(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        for number in (1, 2, 3):
            flavors.create(tx, Flavor(str(number), f"n{number}", 1, number * 512, number))
        assert [f.id for f in flavors.page(tx, min_memory_mb=1024)] == ["2", "3"]
        assert [f.id for f in flavors.page(tx, min_disk_gb=3)] == ["3"]
        with pytest.raises(BadRequest, match="marker"):
            flavors.page(tx, marker="nothing")
        with pytest.raises(BadRequest, match="sort_key"):
            flavors.page(tx, sort="extra_specs")
