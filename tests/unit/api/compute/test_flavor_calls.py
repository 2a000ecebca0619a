"""Flavors over HTTP: made, listed, changed, and seen by those who may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.unit.api.compute.conftest import Call, why

Stranger = Callable[..., str]


def new(**more: Any) -> dict[str, Any]:
    return {"flavor": {"name": "made", "ram": 512, "vcpus": 2, "disk": 10, "id": "made"} | more}


@pytest.fixture
def made(call: Call) -> dict[str, Any]:
    answer = call("POST", "/flavors", new(), user="admin")
    assert answer.status_code == 200
    flavor: dict[str, Any] = answer.json()["flavor"]
    return flavor


def test_a_flavor_comes_back_as_it_was_made(call: Call) -> None:
    body = new(**{"swap": 1024, "OS-FLV-EXT-DATA:ephemeral": 3, "rxtx_factor": "1.5", "description": "d"})
    made = call("POST", "/flavors", body, user="admin").json()["flavor"]
    url = "http://127.0.0.1:8774/compute"
    assert made == {
        "id": "made",
        "name": "made",
        "ram": 512,
        "vcpus": 2,
        "disk": 10,
        "swap": 1024,
        "OS-FLV-EXT-DATA:ephemeral": 3,
        "OS-FLV-DISABLED:disabled": False,
        "os-flavor-access:is_public": True,
        "rxtx_factor": 1.5,
        "description": "d",
        "extra_specs": {},
        "links": [{"rel": "self", "href": f"{url}/v2.1/flavors/made"}, {"rel": "bookmark", "href": f"{url}/flavors/made"}],
    }
    assert call("GET", "/flavors/made").json()["flavor"] == made
    assert made in call("GET", "/flavors/detail").json()["flavors"]


@pytest.mark.parametrize("said", [None, "", "auto"])
def test_an_id_is_drawn_where_none_is_given(call: Call, said: str | None) -> None:
    made = call("POST", "/flavors", new(id=said), user="admin").json()["flavor"]
    assert len(made["id"]) == 36


@pytest.mark.parametrize(
    ("version", "keys", "swap"),
    [
        ("2.1", set(), ""),
        ("2.54", set(), ""),
        ("2.55", {"description"}, ""),
        ("2.60", {"description"}, ""),
        ("2.61", {"description", "extra_specs"}, ""),
        ("2.74", {"description", "extra_specs"}, ""),
        ("2.75", {"description", "extra_specs"}, 0),
    ],
)
def test_each_version_shows_its_own_keys(call: Call, made: dict[str, Any], version: str, keys: set[str], swap: object) -> None:
    shown = call("GET", "/flavors/made", version=version).json()["flavor"]
    assert shown.keys() & {"description", "extra_specs"} == keys
    assert shown["swap"] == swap
    brief = next(f for f in call("GET", "/flavors", version=version).json()["flavors"] if f["id"] == "made")
    assert brief.keys() == {"id", "name", "links"} | (keys - {"extra_specs"})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"ram": 0}, "ram"),
    ({"ram": -1}, "ram"),
    ({"ram": 2**31}, "ram"),
    ({"ram": "1_000"}, "ram"),
    ({"ram": "٣"}, "ram"),
    ({"ram": " 5"}, "ram"),
    ({"ram": "9" * 5000}, "ram"),
    ({"ram": True}, "ram"),
    ({"ram": 1.5}, "ram"),
    ({"vcpus": 0}, "vcpus"),
    ({"disk": -1}, "disk"),
    ({"swap": -1}, "swap"),
    ({"OS-FLV-EXT-DATA:ephemeral": "x"}, "ephemeral"),
    ({"rxtx_factor": "nan"}, "rxtx_factor"),
    ({"rxtx_factor": 0}, "rxtx_factor"),
    ({"rxtx_factor": "inf"}, "rxtx_factor"),
    ({"name": ""}, "name"),
    ({"name": "x" * 256}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a\x00b"}, "name"),
    ({"id": "a/b"}, "id"),
    ({"id": " a"}, "id"),
    ({"id": "x" * 256}, "id"),
    ({"description": "x" * 65536}, "description"),
    ({"os-flavor-access:is_public": "perhaps"}, "is_public"),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("change", "field"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_flavor_is_refused_by_field(call: Call, change: dict[str, Any], field: str) -> None:
    before = call("GET", "/flavors?is_public=none", user="admin").json()
    status, message = why(call("POST", "/flavors", new(**change), user="admin"))
    assert status == 400
    assert field in message
    assert call("GET", "/flavors?is_public=none", user="admin").json() == before


def test_a_name_and_an_id_are_given_once(call: Call, made: dict[str, Any]) -> None:
    assert why(call("POST", "/flavors", new(name="other"), user="admin"))[0] == 409
    assert why(call("POST", "/flavors", new(id="other"), user="admin"))[0] == 409


def test_a_description_came_with_a_version(call: Call, made: dict[str, Any]) -> None:
    assert why(call("POST", "/flavors", new(id="b", name="b", description="d"), user="admin", version="2.54"))[0] == 400
    assert why(call("PUT", "/flavors/made", {"flavor": {"description": "d"}}, user="admin", version="2.54"))[0] == 404
    assert call("PUT", "/flavors/made", {"flavor": {"description": "d"}}, user="admin").json()["flavor"]["description"] == "d"
    assert call("PUT", "/flavors/made", {"flavor": {"description": None}}, user="admin").json()["flavor"]["description"] is None
    assert why(call("PUT", "/flavors/made", {"flavor": {"ram": 1}}, user="admin"))[0] == 400
    assert why(call("PUT", "/flavors/none", {"flavor": {"description": "d"}}, user="admin"))[0] == 404


def test_a_deleted_flavor_is_gone(call: Call, made: dict[str, Any]) -> None:
    assert call("DELETE", "/flavors/made", user="admin").status_code == 202
    assert why(call("GET", "/flavors/made")) == (404, "Flavor made could not be found.")
    assert why(call("DELETE", "/flavors/made", user="admin"))[0] == 404


# ---------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize("limit", [1, 4, 7, 40])
@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("key", ["flavorid", "name", "memory_mb", "is_public"])
def test_pages_have_every_flavor_once_in_order(call: Call, key: str, direction: str, limit: int) -> None:
    for i in range(12):
        assert call("POST", "/flavors", new(id=f"f{i}", name=f"n{i % 5}{i}", ram=64 * (1 + i % 3)), user="admin").status_code == 200
    query = f"sort_key={key}&sort_dir={direction}"
    whole = call("GET", f"/flavors/detail?{query}").json()
    assert "flavors_links" not in whole
    values = [f[{"flavorid": "id", "memory_mb": "ram", "is_public": "os-flavor-access:is_public"}.get(key, key)] for f in whole["flavors"]]
    assert values == sorted(values, reverse=direction == "desc")
    found: list[str] = []
    path = f"/flavors?{query}&limit={limit}"
    while path:
        page = call("GET", path).json()
        found += [f["id"] for f in page["flavors"]]
        links = page.get("flavors_links")
        parts = urlsplit(links[0]["href"]) if links else None
        path = f"{parts.path.removeprefix('/compute/v2.1')}?{parts.query}" if parts else ""
        assert len(found) < 40
    assert found == [f["id"] for f in whole["flavors"]]
    assert len(found) == 15


def test_no_more_than_none_are_shown(call: Call) -> None:
    assert call("GET", "/flavors?limit=0").json() == {"flavors": []}


def test_flavors_that_are_large_enough(call: Call, made: dict[str, Any]) -> None:
    assert [f["id"] for f in call("GET", "/flavors?minRam=65").json()["flavors"]] == ["made"]
    assert [f["id"] for f in call("GET", "/flavors?minDisk=10").json()["flavors"]] == ["made"]
    assert call("GET", "/flavors?minDisk=11").json()["flavors"] == []


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "marker=none", "sort_key=colour", "sort_dir=up", "minRam=x", "minDisk=-1", "minRam=99999999999"]
)
def test_a_listing_that_makes_no_sense_is_refused(call: Call, query: str) -> None:
    assert why(call("GET", f"/flavors?{query}"))[0] == 400


# ---------------------------------------------------------------------------------------------------- who may


def test_a_flavor_for_some_is_as_if_it_were_not_there_for_others(call: Call, stranger: Stranger) -> None:
    eves = stranger("eve")
    assert call("POST", "/flavors", new(**{"os-flavor-access:is_public": False}), user="admin").status_code == 200
    assert call("POST", "/flavors/made/action", {"addTenantAccess": {"tenant": eves}}, user="admin").json() == {
        "flavor_access": [{"flavor_id": "made", "tenant_id": eves}]
    }
    assert why(call("POST", "/flavors/made/action", {"addTenantAccess": {"tenant": eves}}, user="admin"))[0] == 409

    def seen(user: str, query: str = "") -> bool:
        return "made" in [f["id"] for f in call("GET", f"/flavors{query}", user=user).json()["flavors"]]

    assert (seen("eve"), seen("demo"), seen("demo", "?is_public=none"), seen("demo", "?is_public=false")) == (True, False, False, False)
    assert (seen("admin"), seen("admin", "?is_public=none"), seen("admin", "?is_public=false")) == (False, True, True)
    for path in ("/flavors/{}", "/flavors/{}/os-extra_specs", "/flavors/{}/os-extra_specs/k"):
        foreign, missing = call("GET", path.format("made")), call("GET", path.format("none"))
        assert (foreign.status_code, foreign.text.replace("made", "none")) == (404, missing.text)
    foreign, missing = call("GET", "/flavors?marker=made"), call("GET", "/flavors?marker=none")
    assert (foreign.status_code, foreign.text.replace("made", "none")) == (400, missing.text)
    assert call("GET", "/flavors/made", user="eve").status_code == 200
    assert call("POST", "/flavors/made/action", {"removeTenantAccess": {"tenant": eves}}, user="admin").json() == {"flavor_access": []}
    assert why(call("POST", "/flavors/made/action", {"removeTenantAccess": {"tenant": eves}}, user="admin"))[0] == 404
    assert call("GET", "/flavors/made", user="eve").status_code == 404


def test_a_public_flavor_has_no_list_of_projects(call: Call, made: dict[str, Any]) -> None:
    assert why(call("GET", "/flavors/made/os-flavor-access", user="admin"))[0] == 404
    assert why(call("POST", "/flavors/made/action", {"addTenantAccess": {"tenant": "p"}}, user="admin"))[0] == 400


@pytest.mark.parametrize(
    "body", [{}, {"addTenantAccess": {}}, {"addTenantAccess": {"tenant": "p"}, "removeTenantAccess": {"tenant": "p"}}, {"x": 1}]
)
def test_an_action_on_a_flavor_that_makes_no_sense_is_refused(call: Call, made: dict[str, Any], body: Any) -> None:
    assert why(call("POST", "/flavors/made/action", body, user="admin"))[0] == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/flavors"),
        ("PUT", "/flavors/small"),
        ("DELETE", "/flavors/small"),
        ("POST", "/flavors/small/os-extra_specs"),
        ("PUT", "/flavors/small/os-extra_specs/k"),
        ("DELETE", "/flavors/small/os-extra_specs/k"),
        ("GET", "/flavors/small/os-flavor-access"),
        ("POST", "/flavors/small/action"),
    ],
)
def test_flavors_are_made_by_administrators(call: Call, method: str, path: str) -> None:
    status, message = why(call(method, path, {}))
    assert status == 403
    assert message.startswith("Policy doesn't allow os_compute_api:os-flavor-")


# ---------------------------------------------------------------------------------------------------- extra specs


def test_extra_specs_are_set_read_and_taken_away(call: Call, made: dict[str, Any]) -> None:
    specs = {"resources:VGPU": 1, "trait:CUSTOM_NVIDIA_11": "required"}
    shown = {key: str(value) for key, value in specs.items()}
    path = "/flavors/made/os-extra_specs"
    assert call("POST", path, {"extra_specs": specs}, user="admin").json() == {"extra_specs": shown}
    assert call("GET", path).json() == {"extra_specs": shown}
    assert call("GET", f"{path}/resources:VGPU").json() == {"resources:VGPU": "1"}
    assert call("PUT", f"{path}/resources:VGPU", {"resources:VGPU": "2"}, user="admin").json() == {"resources:VGPU": "2"}
    assert call("GET", "/flavors/made").json()["flavor"]["extra_specs"] == shown | {"resources:VGPU": "2"}
    assert call("DELETE", f"{path}/trait:CUSTOM_NVIDIA_11", user="admin").status_code == 200
    assert call("GET", path).json() == {"extra_specs": {"resources:VGPU": "2"}}
    assert why(call("GET", f"{path}/trait:CUSTOM_NVIDIA_11"))[0] == 404
    assert why(call("DELETE", f"{path}/trait:CUSTOM_NVIDIA_11", user="admin"))[0] == 404


@pytest.mark.parametrize(
    ("specs", "named"),
    [
        ({"resources:VGPU": "many"}, "resources:VGPU"),
        ({"resources:vgpu": "1"}, "vgpu"),
        ({"trait:X": "perhaps"}, "trait:X"),
        ({"trait1:X": "required"}, "trait1"),
        ({"a/b": "1"}, "a/b"),
        ({"k": None}, "extra_specs"),
        ({"k": {"l": "m"}}, "extra_specs"),
        ({"k": "v\x00"}, "extra_specs.k"),
        ({f"k{i}": "v" for i in range(129)}, "128"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_extra_spec_is_refused_by_name(call: Call, made: dict[str, Any], specs: dict[str, Any], named: str) -> None:
    status, message = why(call("POST", "/flavors/made/os-extra_specs", {"extra_specs": specs}, user="admin"))
    assert status == 400
    assert named in message
    assert call("GET", "/flavors/made/os-extra_specs").json() == {"extra_specs": {}}


def test_an_extra_spec_is_the_one_in_the_path(call: Call, made: dict[str, Any]) -> None:
    for body in ({"b": "1"}, {"a": "1", "b": "1"}, {}):
        assert why(call("PUT", "/flavors/made/os-extra_specs/a", body, user="admin"))[0] == 400
