"""GET /allocation_candidates: the query of each microversion, and the shape of its answer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.placement.conftest import CONSUMER, GPU1, GPU2, HOST, Call, holding

pytestmark = pytest.mark.databases


def asked(call: Call, query: str, version: str = "1.39") -> Any:
    answer = call("GET", f"/allocation_candidates?{query}", version=version)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_candidate_is_the_body_of_an_allocation(tree: Call) -> None:
    found = asked(tree, "resources=VCPU:2&resources1=VGPU:1")
    assert [one["allocations"] for one in found["allocation_requests"]] == [
        {HOST: {"resources": {"VCPU": 2}}, gpu: {"resources": {"VGPU": 1}}} for gpu in (GPU1, GPU2)
    ]
    assert found["allocation_requests"][0]["mappings"] == {"": [HOST], "1": [GPU1]}
    body = holding({}) | found["allocation_requests"][0]
    assert tree("PUT", f"/allocations/{CONSUMER}", body).status_code == 204


def test_summaries_tell_capacity_and_use_of_whole_trees(tree: Call) -> None:
    tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 2}}))
    found = asked(tree, "resources=VGPU:1")
    assert [set(one["allocations"]) for one in found["allocation_requests"]] == [{GPU2}]
    assert found["provider_summaries"][GPU1] == {
        "resources": {"VGPU": {"capacity": 2, "used": 2}},
        "traits": [],
        "parent_provider_uuid": HOST,
        "root_provider_uuid": HOST,
    }
    assert found["provider_summaries"].keys() == {HOST, GPU1, GPU2}


def test_older_callers_get_what_they_understand(tree: Call) -> None:
    old = asked(tree, "resources=VCPU:1", "1.10")
    assert old["allocation_requests"] == [{"allocations": [{"resource_provider": {"uuid": HOST}, "resources": {"VCPU": 1}}]}]
    assert old["provider_summaries"] == {HOST: {"resources": {"VCPU": {"capacity": 8, "used": 0}}}}
    assert asked(tree, "resources=VCPU:1", "1.27")["provider_summaries"][HOST]["resources"].keys() == {"VCPU", "MEMORY_MB"}
    assert asked(tree, "resources=VCPU:1,VGPU:1", "1.28")["allocation_requests"] == []
    assert len(asked(tree, "resources=VCPU:1,VGPU:1", "1.29")["allocation_requests"]) == 2
    assert "mappings" not in asked(tree, "resources=VCPU:1", "1.33")["allocation_requests"][0]
    assert tree("GET", "/allocation_candidates?resources=VCPU:1", version="1.9").status_code == 404


def test_limits_traits_trees_aggregates_and_roots_narrow_it(tree: Call) -> None:
    def gpus(query: str) -> list[str]:
        return [gpu for one in asked(tree, query)["allocation_requests"] for gpu in one["allocations"]]

    tree("PUT", "/traits/CUSTOM_A")
    tree("PUT", f"/resource_providers/{GPU2}/traits", {"resource_provider_generation": 1, "traits": ["CUSTOM_A"]})
    tree("PUT", f"/resource_providers/{GPU1}/aggregates", {"resource_provider_generation": 1, "aggregates": [CONSUMER]})
    assert gpus("resources=VGPU:1&limit=1") == [GPU1]
    assert gpus("resources=VGPU:1&required=CUSTOM_A") == [GPU2]
    assert gpus("resources=VGPU:1&required=!CUSTOM_A") == [GPU1]
    assert gpus("resources=VGPU:1&required=in:CUSTOM_A,HW_CPU_X86_AVX") == [GPU2]
    assert gpus(f"resources=VGPU:1&member_of={CONSUMER}") == [GPU1]
    assert gpus(f"resources=VGPU:1&member_of=!{CONSUMER}") == [GPU2]
    assert gpus(f"resources=VGPU:1&in_tree={HOST}") == [GPU1, GPU2]
    assert gpus(f"resources=VGPU:1&in_tree={CONSUMER}") == []
    assert gpus("resources=VGPU:1&root_required=CUSTOM_A") == []
    assert gpus("resources=VGPU:1&root_required=!CUSTOM_A") == [GPU1, GPU2]


def test_groups_are_isolated_or_not(tree: Call) -> None:
    two = "resources1=VGPU:1&resources2=VGPU:1&group_policy="
    isolated = asked(tree, two + "isolate")["allocation_requests"]
    assert [one["mappings"] for one in isolated] == [{"1": [GPU1], "2": [GPU2]}, {"1": [GPU2], "2": [GPU1]}]
    assert len(asked(tree, two + "none")["allocation_requests"]) == 4


def test_a_group_without_resources_pins_a_subtree(tree: Call) -> None:
    tree("PUT", "/traits/CUSTOM_A")
    tree("PUT", f"/resource_providers/{GPU2}/traits", {"resource_provider_generation": 1, "traits": ["CUSTOM_A"]})
    found = asked(tree, "resources_v=VGPU:1&required_top=CUSTOM_A&same_subtree=_v,_top&group_policy=none")
    assert [one["mappings"] for one in found["allocation_requests"]] == [{"_top": [GPU2], "_v": [GPU2]}]


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("", "1.39"),
        ("", "1.10"),
        ("resources=VGPU", "1.39"),
        ("resources=CUSTOM_NOBODY:1", "1.39"),
        ("resources=VGPU:1&resources=VGPU:1", "1.39"),
        ("resources=VGPU:1&limit=0", "1.39"),
        ("resources=VGPU:1&limit=ten", "1.39"),
        ("resources=VGPU:1&limit=1", "1.15"),
        ("resources=VGPU:1&required=CUSTOM_NOBODY", "1.39"),
        ("resources=VGPU:1&in_tree=host", "1.39"),
        ("resources=VGPU:1&member_of=agg", "1.39"),
        ("resources1=VGPU:1", "1.24"),
        ("resources_a=VGPU:1", "1.32"),
        ("resources1=VGPU:1&resources2=VGPU:1", "1.39"),
        ("resources1=VGPU:1&group_policy=apart", "1.39"),
        ("required1=HW_CPU_X86_AVX", "1.39"),
        ("resources=VGPU:1&required1=HW_CPU_X86_AVX", "1.39"),
        ("resources=VGPU:1&required1=HW_CPU_X86_AVX", "1.35"),
        ("resources1=VGPU:1&same_subtree=1,2", "1.39"),
        ("resources1=VGPU:1&same_subtree=1,", "1.39"),
        ("resources=VGPU:1&root_required=in:HW_CPU_X86_AVX,HW_CPU_X86_AVX2", "1.39"),
        ("&".join(f"resources{n}=VGPU:1" for n in range(1, 66)) + "&group_policy=none", "1.39"),
        ("resources=" + ",".join(f"CUSTOM_{n}:1" for n in range(65)), "1.39"),
    ],
)
def test_a_wrong_query_is_a_400_with_a_sentence(tree: Call, query: str, version: str) -> None:
    answer = tree("GET", f"/allocation_candidates?{query}", version=version)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["detail"]
