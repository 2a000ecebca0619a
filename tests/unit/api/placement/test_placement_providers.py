"""Providers, inventories, aggregates, traits and resource classes over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.placement.conftest import CONSUMER, GPU1, GPU2, HOST, Call, holding, why

pytestmark = pytest.mark.databases


def test_the_root_needs_no_token_and_tells_the_versions(call: Call) -> None:
    answer = call("GET", "", headers={"X-Auth-Token": ""})
    assert answer.status_code == 200
    (version,) = answer.json()["versions"]
    assert (version["min_version"], version["max_version"]) == ("1.0", "1.39")
    assert answer.headers["openstack-api-version"] == "placement 1.39"


def test_only_admins_are_answered(call: Call, headers: Any) -> None:
    assert call("GET", "/resource_providers", headers=headers("demo")).status_code == 403
    assert call("GET", "/resource_providers", headers={"X-Auth-Token": ""}).status_code == 401


def test_a_provider_is_shown_as_its_microversion_has_it(tree: Call) -> None:
    shown = tree("GET", f"/resource_providers/{GPU1}").json()
    assert shown["parent_provider_uuid"] == shown["root_provider_uuid"] == HOST
    assert [link["rel"] for link in shown["links"]] == ["self", "inventories", "usages", "aggregates", "traits", "allocations"]
    assert shown["links"][1]["href"] == f"/placement/resource_providers/{GPU1}/inventories"
    old = tree("GET", f"/resource_providers/{GPU1}", version="1.0").json()
    assert "parent_provider_uuid" not in old
    assert [link["rel"] for link in old["links"]] == ["self", "inventories", "usages"]


def test_headers_of_caching_come_with_1_15(tree: Call) -> None:
    assert "last-modified" not in tree("GET", f"/resource_providers/{HOST}", version="1.14").headers
    answer = tree("GET", f"/resource_providers/{HOST}", version="1.15")
    assert answer.headers["last-modified"] == "Fri, 15 Jan 2027 08:00:00 GMT"
    assert answer.headers["cache-control"] == "no-cache"


def test_creating_answers_the_provider_from_1_20_and_nothing_before(call: Call) -> None:
    old = call("POST", "/resource_providers", {"name": "old", "uuid": HOST}, version="1.19")
    assert (old.status_code, old.content) == (201, b"")
    assert old.headers["location"].endswith(f"/placement/resource_providers/{HOST}")
    new = call("POST", "/resource_providers", {"name": "new"}, version="1.20")
    assert (new.status_code, new.json()["generation"]) == (200, 0)


@pytest.mark.parametrize(
    ("body", "version", "said"),
    [
        ({}, "1.39", "'name' is a required property"),
        ({"name": "a" * 201}, "1.39", "200"),
        ({"name": "a", "colour": "red"}, "1.39", "Additional properties are not allowed ('colour' was unexpected)"),
        ({"name": "a", "uuid": "b"}, "1.39", "uuid"),
        ({"name": "a", "parent_provider_uuid": None}, "1.13", "1.14"),
        ({"name": "a", "parent_provider_uuid": GPU1}, "1.39", "does not exist"),
        ({"name": "a", "uuid": HOST, "parent_provider_uuid": HOST}, "1.39", "cannot be same"),
    ],
)
def test_a_wrong_provider_is_a_400_that_says_why(call: Call, body: Any, version: str, said: str) -> None:
    answer = call("POST", "/resource_providers", body, version=version)
    assert answer.status_code == 400
    assert said in answer.json()["errors"][0]["detail"]


def test_a_body_is_json_by_its_header_and_by_its_content(call: Call) -> None:
    assert call("POST", "/resource_providers", headers={"Content-Type": "text/plain"}, content=b"{}").status_code == 415
    told = why(call("POST", "/resource_providers", headers={"Content-Type": "application/json"}, content=b'{"foo": }'))
    assert told[0] == 400
    assert told[2].startswith("Malformed JSON")
    assert call("GET", "/resource_providers", headers={"Accept": "text/plain"}).status_code == 406


def test_a_nul_and_a_list_without_end_are_refused_before_the_database(tree: Call) -> None:
    assert tree("POST", "/resource_providers", {"name": "a\0"}).status_code == 400
    assert tree("GET", "/resource_providers?name=a%00").status_code == 400
    assert tree("GET", "/resource_providers/%00").status_code == 400
    many = [f"CUSTOM_{n}" for n in range(40_000)]
    body = {"resource_provider_generation": 1, "traits": many}
    assert why(tree("PUT", f"/resource_providers/{GPU1}/traits", body))[0] == 400


def test_a_name_is_given_once(tree: Call) -> None:
    told = why(tree("POST", "/resource_providers", {"name": "host"}))
    assert told[:2] == (409, "placement.duplicate_name")
    assert "code" not in tree("POST", "/resource_providers", {"name": "host"}, version="1.22").json()["errors"][0]


def test_a_listing_is_filtered(tree: Call) -> None:
    def listed(query: str) -> list[str]:
        return [p["name"] for p in tree("GET", f"/resource_providers?{query}").json()["resource_providers"]]

    assert listed("") == ["gpu1", "gpu2", "host"]
    assert listed("name=gpu1") == ["gpu1"]
    assert listed(f"uuid={GPU2}") == ["gpu2"]
    assert listed(f"in_tree={GPU2}") == ["gpu1", "gpu2", "host"]
    assert listed("resources=VGPU:2") == ["gpu1", "gpu2"]
    assert listed("resources=VGPU:3") == []
    assert listed("required=!HW_CPU_X86_AVX&resources=VCPU:1") == ["host"]


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("colour=red", "1.39"),
        ("resources=VGPU:1", "1.3"),
        ("in_tree=x", "1.39"),
        ("resources=VGPU", "1.39"),
        ("resources=VGPU:0", "1.39"),
        ("resources=VGPU:99999999999999999999", "1.39"),
        ("resources=CUSTOM_NOBODY:1", "1.39"),
        ("required=CUSTOM_NOBODY", "1.39"),
        ("required=", "1.39"),
        ("required=!HW_CPU_X86_AVX", "1.21"),
        ("required=in:HW_CPU_X86_AVX", "1.38"),
        (f"member_of={HOST},{GPU1}", "1.39"),
        (f"member_of=!{HOST}", "1.31"),
        (f"member_of={HOST}&member_of={GPU1}", "1.23"),
    ],
)
def test_a_wrong_filter_is_a_400(tree: Call, query: str, version: str) -> None:
    assert tree("GET", f"/resource_providers?{query}", version=version).status_code == 400


def test_re_parenting_takes_1_37(tree: Call) -> None:
    assert tree("PUT", f"/resource_providers/{GPU1}", {"name": "gpu1", "parent_provider_uuid": None}, version="1.36").status_code == 400
    moved = tree("PUT", f"/resource_providers/{GPU1}", {"name": "gpu1", "parent_provider_uuid": None})
    assert moved.json()["root_provider_uuid"] == GPU1
    looped = tree("PUT", f"/resource_providers/{HOST}", {"name": "host", "parent_provider_uuid": GPU2})
    assert "loop" in why(looped)[2]


def test_what_holds_a_provider_is_told_by_a_code(tree: Call) -> None:
    assert why(tree("DELETE", f"/resource_providers/{HOST}"))[:2] == (409, "placement.resource_provider.cannot_delete_parent")
    assert tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}})).status_code == 204
    assert why(tree("DELETE", f"/resource_providers/{GPU1}"))[:2] == (409, "placement.resource_provider.inuse")
    assert tree("DELETE", f"/resource_providers/{GPU2}").status_code == 204
    assert tree("GET", f"/resource_providers/{GPU2}").status_code == 404


def test_inventories_are_changed_on_the_generation_that_was_read(tree: Call) -> None:
    path = f"/resource_providers/{GPU1}/inventories"
    one = tree("PUT", f"{path}/VGPU", {"resource_provider_generation": 1, "total": 4, "reserved": 1})
    assert one.json() == {
        "total": 4,
        "reserved": 1,
        "min_unit": 1,
        "max_unit": 2147483647,
        "step_size": 1,
        "allocation_ratio": 1.0,
        "resource_provider_generation": 2,
    }
    stale = tree("PUT", f"{path}/VGPU", {"resource_provider_generation": 1, "total": 5})
    assert why(stale)[:2] == (409, "placement.concurrent_update")
    assert tree("POST", path, {"resource_class": "VCPU", "total": 1}).status_code == 201
    assert tree("POST", path, {"resource_class": "VCPU", "total": 1}).status_code == 409
    assert tree("POST", path, {"resource_class": "CUSTOM_NOBODY", "total": 1}).status_code == 400
    assert tree("DELETE", f"{path}/VCPU").status_code == 204
    assert tree("DELETE", f"{path}/VCPU").status_code == 404
    assert tree("GET", f"{path}/VCPU").status_code == 404
    assert set(tree("GET", path).json()["inventories"]) == {"VGPU"}


def test_all_of_a_provider_may_be_reserved_from_1_26(tree: Call) -> None:
    path, body = f"/resource_providers/{GPU1}/inventories/VGPU", {"resource_provider_generation": 1, "total": 2, "reserved": 2}
    assert "greater than or equal to total" in tree("PUT", path, body, version="1.25").json()["errors"][0]["detail"]
    assert tree("PUT", path, body, version="1.26").status_code == 200


@pytest.mark.parametrize(
    "field", [{"total": 0}, {"total": 2**31}, {"step_size": 0}, {"allocation_ratio": -1.0}, {"colour": 1}, {"total": "2"}]
)
def test_a_wrong_inventory_is_a_400(tree: Call, field: dict[str, Any]) -> None:
    body = {"resource_provider_generation": 1, "total": 2} | field
    assert why(tree("PUT", f"/resource_providers/{GPU1}/inventories/VGPU", body))[2].startswith("JSON does not validate")


def test_an_inventory_in_use_cannot_go(tree: Call) -> None:
    assert tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}})).status_code == 204
    path = f"/resource_providers/{GPU1}/inventories"
    assert why(tree("DELETE", path))[:2] == (409, "placement.inventory.inuse")
    assert why(tree("DELETE", f"{path}/VGPU"))[:2] == (409, "placement.inventory.inuse")
    assert tree("DELETE", path, version="1.4").status_code == 405
    assert tree("DELETE", f"/resource_providers/{GPU2}/inventories", version="1.5").status_code == 204


def test_aggregates_are_a_list_before_1_19_and_carry_the_generation_after(tree: Call) -> None:
    path = f"/resource_providers/{HOST}/aggregates"
    assert tree("PUT", path, [GPU1], version="1.18").json() == {"aggregates": [GPU1]}
    assert tree("GET", path).json() == {"aggregates": [GPU1], "resource_provider_generation": 1}
    assert tree("PUT", path, {"aggregates": [], "resource_provider_generation": 1}).json()["resource_provider_generation"] == 2
    assert tree("PUT", path, {"aggregates": [], "resource_provider_generation": 1}).status_code == 409
    assert tree("PUT", path, {"aggregates": [GPU1, GPU1], "resource_provider_generation": 2}).status_code == 400
    assert tree("GET", path, version="1.0").status_code == 404


def test_traits_are_created_set_and_searched(tree: Call) -> None:
    assert tree("PUT", "/traits/CUSTOM_A").status_code == 201
    assert tree("PUT", "/traits/CUSTOM_A").status_code == 204
    assert tree("PUT", "/traits/HW_CPU_X86_AVX").status_code == 400
    path = f"/resource_providers/{GPU1}/traits"
    body = {"resource_provider_generation": 1, "traits": ["CUSTOM_A", "HW_CPU_X86_AVX"]}
    assert tree("PUT", path, body).json() == {"resource_provider_generation": 2, "traits": ["CUSTOM_A", "HW_CPU_X86_AVX"]}
    assert why(tree("PUT", path, body))[1] == "placement.concurrent_update"
    assert tree("PUT", path, {"resource_provider_generation": 2, "traits": ["CUSTOM_B"]}).status_code == 400
    assert tree("GET", "/traits?name=startswith:CUSTOM_").json() == {"traits": ["CUSTOM_A"]}
    assert tree("GET", "/traits?associated=true").json() == {"traits": ["HW_CPU_X86_AVX", "CUSTOM_A"]}
    assert tree("GET", "/traits?name=in:CUSTOM_A,CUSTOM_B&associated=false").json() == {"traits": []}
    assert tree("GET", "/traits?name=CUSTOM_").status_code == 400
    assert tree("DELETE", "/traits/CUSTOM_A").status_code == 409
    assert tree("DELETE", path).status_code == 204
    assert tree("DELETE", "/traits/CUSTOM_A").status_code == 204
    assert tree("GET", "/traits/CUSTOM_A").status_code == 404
    assert tree("GET", "/traits", version="1.5").status_code == 404


def test_resource_classes_are_renamed_before_1_7_and_ensured_after(call: Call) -> None:
    assert call("POST", "/resource_classes", {"name": "CUSTOM_A"}).status_code == 201
    assert call("POST", "/resource_classes", {"name": "CUSTOM_A"}).status_code == 409
    assert call("POST", "/resource_classes", {"name": "GOLD"}).status_code == 400
    assert call("PUT", "/resource_classes/CUSTOM_A", {"name": "CUSTOM_B"}, version="1.6").json()["name"] == "CUSTOM_B"
    assert call("PUT", "/resource_classes/CUSTOM_A").status_code == 201
    assert call("PUT", "/resource_classes/CUSTOM_A").status_code == 204
    assert call("DELETE", "/resource_classes/CUSTOM_A").status_code == 204
    assert call("DELETE", "/resource_classes/VCPU").status_code == 400
    names = [one["name"] for one in call("GET", "/resource_classes").json()["resource_classes"]]
    assert "VGPU" in names
    assert names[-1] == "CUSTOM_B"
