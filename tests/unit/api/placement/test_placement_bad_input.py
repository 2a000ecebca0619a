"""Whatever is wrong with a request of the Placement API: the documented status, a sentence, and nothing done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.api.placement.conftest import CONSUMER, GPU1, HOST, OTHER, Call, holding, why

VALID = {"total": 4}
NOTHING = {"resource_provider_generation": 0, "inventories": {}}
UNKNOWN = "44444444-4444-4444-8444-444444444444"


def state(call: Call) -> list[Any]:
    """All that a refused request must leave as it is."""
    paths = ["/resource_providers", "/traits?name=startswith:CUSTOM_", "/resource_classes", f"/allocations/{CONSUMER}"]
    paths += [f"/resource_providers/{GPU1}/{part}" for part in ("inventories", "traits", "aggregates", "allocations")]
    return [call("GET", path).json() for path in paths]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("resources=", "Badly formed resources parameter"),
        ("resources=VGPU", "Badly formed resources parameter"),
        ("resources=VGPU:", "Badly formed resources parameter"),
        ("resources=:1", "Badly formed resources parameter"),
        ("resources=VGPU:1,", "Badly formed resources parameter"),
        ("resources=VGPU:0", "requires amount >= 1"),
        ("resources=VGPU:-1", "requires amount >= 1"),
        ("resources=VGPU:1.5", "expected positive integer amount"),
        ("resources=VGPU:one", "expected positive integer amount"),
        ("resources=VGPU:1e3", "expected positive integer amount"),
        ("resources=VGPU:%D9%A1", "expected positive integer amount"),
        ("resources=VGPU:99999999999999999999", "not a whole number from 1 to 2147483647"),
        ("resources=VGPU:" + "9" * 5000, "not a whole number from 1 to 2147483647"),
        ("resources=VGPU:1,VGPU:2", "given twice"),
        ("resources=vgpu:1", "is not a resource class"),
        ("resources=CUSTOM_NOBODY:1", "No such resource class CUSTOM_NOBODY"),
        ("resources=NOBODY:1", "No such resource class NOBODY"),
        ("resources=VGPU:1&required=", "Expected 'required' parameter value of the form"),
        ("resources=VGPU:1&required=!", "Expected 'required' parameter value of the form"),
        ("resources=VGPU:1&required=in:", "Expected 'required' parameter value of the form"),
        ("resources=VGPU:1&required=CUSTOM_NOBODY", "No such trait(s): CUSTOM_NOBODY"),
        ("resources=VGPU:1&required=!CUSTOM_NOBODY", "No such trait(s): CUSTOM_NOBODY"),
        ("resources=VGPU:1&required=in:CUSTOM_NOBODY,HW_CPU_X86_AVX", "No such trait(s): CUSTOM_NOBODY"),
        ("resources=VGPU:1&required=" + ",".join(f"CUSTOM_{n}" for n in range(3000)), "CUSTOM_0, CUSTOM_1, CUSTOM_10,"),
        ("resources=VGPU:1&required=" + ",".join(f"CUSTOM_{n}" for n in range(3000)), " and 2980 more"),
        ("resources=VGPU:1&root_required=CUSTOM_NOBODY", "No such trait(s): CUSTOM_NOBODY"),
        ("resources=VGPU:1&required=HW_CPU_X86_AVX,!HW_CPU_X86_AVX", "Conflicting required and forbidden traits"),
        ("resources=VGPU:1&member_of=", "to contain valid UUID(s)"),
        ("resources=VGPU:1&member_of=in:", "to contain valid UUID(s)"),
        (f"resources=VGPU:1&member_of={UNKNOWN},{UNKNOWN}", "must be prefixed with the 'in:'"),
        ("resources=VGPU:1&in_tree=host", "to be a format of uuid"),
        (f"resources=VGPU:1&in_tree={HOST}&in_tree={HOST}", "may be specified only once"),
        ("resources=VGPU:1&limit=-1", "limit"),
        ("resources=VGPU:1&limit=1.0", "limit"),
        ("resources=VGPU:1&limit=", "limit"),
        ("resources1=VGPU:1&resources2=VGPU:1", "group_policy"),
        ("resources1=VGPU:1&group_policy=", "is not one of"),
        ("resources1=VGPU:1&same_subtree=", "Empty string (unsuffixed group)"),
        ("resources1=VGPU:1&same_subtree=9", "Real suffixes should be specified"),
        ("required=HW_CPU_X86_AVX", "There must be at least one resources"),
        ("resources=VGPU:1&colour=red", "does not match any of the regexes"),
        ("resources=VGPU:1&resources.1=VGPU:1", "does not match any of the regexes"),
        ("resources" + "x" * 65 + "=VGPU:1", "does not match any of the regexes"),
        ("resources=VGPU:1&required=%00", "NUL"),
        ("&".join(f"resources{n}=VGPU:1" for n in range(3000)) + "&group_policy=none", "3000 resource groups are more than 64"),
        ("resources=" + ",".join(f"CUSTOM_{n}:1" for n in range(65)), "65 resource classes are more than 64"),
    ],
)
def test_a_malformed_question_for_candidates(tree: Call, query: str, said: str) -> None:
    status, code, detail = why(tree("GET", f"/allocation_candidates?{query}"))
    assert (status, code.partition(".")[0]) == (400, "placement")
    assert said in detail
    assert len(detail) < 1000


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0, "0 is less than the minimum of 1"),
        (-1, "-1 is less than the minimum of 1"),
        (1.5, "1.5 is not of type 'integer'"),
        ("1", "'1' is not of type 'integer'"),
        (True, "True is not of type 'integer'"),
        (None, "None is not of type 'integer'"),
        ([1], "[1] is not of type 'integer'"),
        (2**31, "2147483648 is greater than the maximum of 2147483647"),
        (10**30, "maximum"),
    ],
)
def test_an_amount_that_cannot_be_allocated(tree: Call, amount: Any, said: str) -> None:
    before = state(tree)
    status, _, detail = why(tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": amount}})))
    assert status == 400
    assert said in detail
    assert state(tree) == before


@pytest.mark.parametrize(
    ("wanted", "generation", "status", "code", "said"),
    [
        ({GPU1: {"VGPU": 3}}, None, 409, "placement.undefined_code", "exceed the capacity"),
        ({GPU1: {"VGPU": 1}, HOST: {"VCPU": 9}}, None, 409, "placement.undefined_code", "exceed the capacity"),
        ({GPU1: {"VCPU": 1}}, None, 409, "placement.undefined_code", "does not exist"),
        ({GPU1: {"CUSTOM_NOBODY": 1}}, None, 400, "placement.undefined_code", "No such resource class CUSTOM_NOBODY"),
        ({UNKNOWN: {"VGPU": 1}}, None, 400, "placement.undefined_code", "does not exist"),
        ({GPU1: {"VGPU": 1}}, -1, 409, "placement.concurrent_update", "expected null but got -1"),
        ({GPU1: {"VGPU": 1}}, 10**30, 409, "placement.concurrent_update", "expected null but got 1000"),
        ({GPU1: {"VGPU": 1}}, 7, 409, "placement.concurrent_update", "expected null but got 7"),
        ({GPU1: {}}, None, 400, "placement.undefined_code", "should be non-empty"),
        ({"gpu1": {"VGPU": 1}}, None, 400, "placement.undefined_code", "does not match any of the regexes"),
    ],
)
def test_a_claim_that_cannot_be_had(
    tree: Call, wanted: dict[str, dict[str, int]], generation: int | None, status: int, code: str, said: str
) -> None:
    before = state(tree)
    told = why(tree("PUT", f"/allocations/{CONSUMER}", holding(wanted, generation)))
    assert told[:2] == (status, code)
    assert said in told[2]
    assert state(tree) == before


def test_of_several_consumers_none_gets_anything_where_one_is_refused(tree: Call) -> None:
    before = state(tree)
    body = {CONSUMER: holding({GPU1: {"VGPU": 2}}), OTHER: holding({GPU1: {"VGPU": 1}})}
    assert why(tree("POST", "/allocations", body))[0] == 409
    assert state(tree) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/resource_providers/{gpu}/inventories", {"resource_provider_generation": 0, "inventories": {"VGPU": VALID}}, 409),
        ("PUT", "/resource_providers/{gpu}/inventories/VGPU", {"resource_provider_generation": 0, **VALID}, 409),
        ("PUT", "/resource_providers/{gpu}/traits", {"resource_provider_generation": 0, "traits": []}, 409),
        ("PUT", "/resource_providers/{gpu}/aggregates", {"resource_provider_generation": 0, "aggregates": []}, 409),
        ("PUT", "/resource_providers/{gpu}/inventories", {"resource_provider_generation": "1", "inventories": {}}, 400),
        ("PUT", "/resource_providers/{gpu}/inventories", {"resource_provider_generation": 1, "inventories": {"NOBODY": VALID}}, 400),
        ("PUT", "/resource_providers/{gpu}/inventories", {"resource_provider_generation": 1, "inventories": [VALID]}, 400),
        ("PUT", "/resource_providers/{gpu}/inventories", {"inventories": {}}, 400),
        ("POST", "/resource_providers/{gpu}/inventories", {"resource_class": "vgpu", **VALID}, 400),
        ("POST", "/resource_providers/{gpu}/inventories", {"resource_class": "VGPU", **VALID}, 409),
        ("PUT", "/resource_providers/{gpu}/traits", {"resource_provider_generation": 1, "traits": ["CUSTOM_NOBODY"]}, 400),
        ("PUT", "/resource_providers/{gpu}/traits", {"resource_provider_generation": 1, "traits": "CUSTOM_A"}, 400),
        ("PUT", "/resource_providers/{gpu}/aggregates", {"resource_provider_generation": 1, "aggregates": ["rack"]}, 400),
        ("PUT", "/resource_providers/{unknown}/aggregates", {"resource_provider_generation": 1, "aggregates": []}, 404),
        ("PUT", "/resource_providers/{unknown}/traits", {"resource_provider_generation": 1, "traits": []}, 404),
        ("PUT", "/resource_providers/{unknown}/inventories", {"resource_provider_generation": 1, "inventories": {}}, 404),
        ("PUT", "/resource_providers/{unknown}", {"name": "other"}, 404),
        ("DELETE", "/resource_providers/{unknown}", None, 404),
        ("POST", "/resource_providers", {"name": ""}, 400),
        ("POST", "/resource_providers", {"name": "n" * 201}, 400),
        ("POST", "/resource_providers", {"name": "new", "uuid": "new"}, 400),
        ("POST", "/resource_providers", {"name": "new", "parent_provider_uuid": "{unknown}"}, 400),
        ("POST", "/resource_providers", {"name": "gpu1"}, 409),
        ("POST", "/resource_providers", ["new"], 400),
        ("PUT", "/resource_classes/COW", None, 400),
        ("PUT", "/resource_classes/CUSTOM_" + "A" * 249, None, 400),
        ("DELETE", "/resource_classes/CUSTOM_NOBODY", None, 404),
        ("DELETE", "/resource_classes/VCPU", None, 400),
        ("PUT", "/traits/COW", None, 400),
        ("DELETE", "/traits/CUSTOM_NOBODY", None, 404),
        ("PUT", "/allocations/consumer", {}, 400),
        ("DELETE", "/allocations/{unknown}", None, 404),
        ("POST", "/allocations", {}, 400),
        ("POST", "/reshaper", {"inventories": {}}, 400),
        ("POST", "/reshaper", {"inventories": {"{unknown}": NOTHING}, "allocations": {}}, 400),
    ],
)
def test_a_change_that_is_refused_is_no_change(tree: Call, method: str, path: str, body: Any, status: int) -> None:
    named = {"{gpu}": GPU1, "{unknown}": UNKNOWN}
    text = json.dumps(body)
    for word, value in named.items():
        path, text = path.replace(word, value), text.replace(word, value)
    before = state(tree)
    told, code, detail = why(tree(method, path, json.loads(text)))
    assert (told, code.partition(".")[0]) == (status, "placement")
    assert detail
    assert state(tree) == before


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 400, "Malformed JSON"),
        (b"{", 400, "Malformed JSON"),
        (b'{"name": "\xff"}', 400, "Malformed JSON"),
        (b'{"name": NaN}', 400, "Malformed JSON"),
        (b"[" * 100_000, 400, "more than 32 deep"),
        (b'{"name": "' + b"n" * 10_000_000 + b'"}', 413, "The body is larger than"),
        (b'{"name": "new", "generation": 3}', 400, "Additional properties are not allowed ('generation' was unexpected)"),
    ],
)
def test_a_body_that_is_none_or_too_large(tree: Call, content: bytes, status: int, said: str) -> None:
    before = state(tree)
    answer = tree("POST", "/resource_providers", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert said in answer.json()["errors"][0]["detail"]
    assert state(tree) == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/resource_providers/{GPU1}/traits", {"resource_provider_generation": 1, "traits": [f"CUSTOM_{n}" for n in range(1001)]}),
        (
            f"/resource_providers/{GPU1}/inventories",
            {"resource_provider_generation": 1, "inventories": {f"CUSTOM_{n}": VALID for n in range(1001)}},
        ),
        (f"/allocations/{CONSUMER}", holding({f"44444444-4444-4444-8444-{n:012}": {"VGPU": 1} for n in range(1001)})),
        (f"/allocations/{CONSUMER}", holding({GPU1: {f"CUSTOM_{n}": 1 for n in range(1001)}})),
    ],
)
@pytest.mark.weakness(770)
def test_a_list_has_a_thousand_elements_at_most(tree: Call, path: str, body: Any) -> None:
    status, _, detail = why(tree("PUT", path, body))
    assert status == 400
    assert "1000" in detail


@pytest.mark.parametrize(
    ("version", "status", "said"),
    [
        ("0.9", 406, "Unacceptable version header: 0.9"),
        ("1.40", 406, "Unacceptable version header: 1.40"),
        ("one", 400, "invalid version string: one"),
        ("1.2.3", 400, "invalid version string: 1.2.3"),
    ],
)
def test_a_version_that_there_is_not(call: Call, version: str, status: int, said: str) -> None:
    answer = call("GET", "/resource_providers", version=version)
    assert answer.status_code == status
    assert said in answer.json()["errors"][0]["detail"]
