"""How flavors are kept and listed, and who sees which."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, BadRequest, NotFound
from lamina.model.flavors import Flavor
from lamina.operations.control_plane import ControlPlane
from lamina.store import flavors
from lamina.store.paging import Direction
from lamina.store.tables import compute as tables
from tests.unit.test_flavors import SMALL, VGPU


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
