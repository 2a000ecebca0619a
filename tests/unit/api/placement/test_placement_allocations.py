"""Allocations, usages and the reshaper over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.placement.conftest import CONSUMER, GPU1, GPU2, HOST, OTHER, Call, holding, why

from lamina.api.placement import allocations as handlers
from lamina.model.errors import ConcurrentUpdate
from lamina.store import allocations

pytestmark = pytest.mark.databases


def test_what_is_put_is_read_back(tree: Call) -> None:
    assert tree("PUT", f"/allocations/{CONSUMER}", holding({HOST: {"VCPU": 2}, GPU1: {"VGPU": 1}})).status_code == 204
    found = tree("GET", f"/allocations/{CONSUMER}").json()
    assert found == {
        "allocations": {
            HOST: {"generation": 2, "resources": {"VCPU": 2}},
            GPU1: {"generation": 2, "resources": {"VGPU": 1}},
        },
        "project_id": "p",
        "user_id": "u",
        "consumer_generation": 1,
        "consumer_type": "INSTANCE",
    }
    assert tree("GET", f"/allocations/{CONSUMER}", version="1.0").json().keys() == {"allocations"}
    of_gpu = tree("GET", f"/resource_providers/{GPU1}/allocations").json()
    assert of_gpu["allocations"] == {CONSUMER: {"resources": {"VGPU": 1}, "consumer_generation": 1}}
    assert tree("GET", f"/allocations/{OTHER}").json() == {"allocations": {}}


def test_what_was_read_may_be_sent_back(tree: Call) -> None:
    tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}}))
    assert tree("PUT", f"/allocations/{CONSUMER}", tree("GET", f"/allocations/{CONSUMER}").json()).status_code == 204


def test_every_shape_of_the_body_is_taken_at_its_microversion(tree: Call) -> None:
    listed: dict[str, Any] = {"allocations": [{"resource_provider": {"uuid": GPU1}, "resources": {"VGPU": 1}}]}
    owner = {"project_id": "p", "user_id": "u"}
    keyed = {"allocations": {GPU1: {"resources": {"VGPU": 1}}}, **owner}
    for version, body in (
        ("1.0", listed),
        ("1.8", listed | owner),
        ("1.12", keyed),
        ("1.28", keyed | {"consumer_generation": 3}),
        ("1.34", keyed | {"consumer_generation": 4, "mappings": {"": [GPU1]}}),
        ("1.38", keyed | {"consumer_generation": 5, "consumer_type": "INSTANCE"}),
    ):
        assert tree("PUT", f"/allocations/{CONSUMER}", body, version=version).status_code == 204, version
    for version, body in (
        ("1.8", listed),
        ("1.12", listed | owner),
        ("1.11", keyed),
        ("1.27", keyed | {"consumer_generation": 6}),
        ("1.28", keyed),
        ("1.33", keyed | {"consumer_generation": 6, "mappings": {"": [GPU1]}}),
        ("1.38", keyed | {"consumer_generation": 6}),
        ("1.37", keyed | {"consumer_generation": 6, "consumer_type": "INSTANCE"}),
        ("1.27", keyed | {"allocations": {}}),
    ):
        assert tree("PUT", f"/allocations/{CONSUMER}", body, version=version).status_code == 400, version


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (holding({GPU1: {"VGPU": 0}}), "less than the minimum of 1"),
        (holding({GPU1: {}}), "non-empty"),
        (holding({"gpu": {"VGPU": 1}}), "not a uuid"),
        (holding({OTHER: {"VGPU": 1}}), "does not exist"),
        (holding({GPU1: {"vgpu": 1}}), "vgpu"),
        (holding({GPU1: {"CUSTOM_NOBODY": 1}}), "CUSTOM_NOBODY"),
        (holding({GPU1: {"VGPU": 1}}, consumer_type="instance"), "consumer_type"),
        (holding({GPU1: {"VGPU": 1}}, mappings={}), "mappings"),
        (holding({GPU1: {"VGPU": 1}}, project_id=""), "project_id"),
    ],
)
def test_a_wrong_body_is_a_400_and_nothing_is_done(tree: Call, body: dict[str, Any], said: str) -> None:
    status, _, told = why(tree("PUT", f"/allocations/{CONSUMER}", body))
    assert status == 400
    assert said in told
    assert tree("GET", f"/allocations/{CONSUMER}").json() == {"allocations": {}}


def test_what_does_not_fit_and_what_has_changed_are_told_apart(tree: Call) -> None:
    assert why(tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 3}})))[:2] == (409, "placement.undefined_code")
    assert tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}})).status_code == 204
    assert why(tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}})))[:2] == (409, "placement.concurrent_update")


def test_an_empty_put_and_a_delete_give_everything_back(tree: Call) -> None:
    tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}}))
    assert tree("PUT", f"/allocations/{CONSUMER}", holding({}, 1)).status_code == 204
    assert tree("DELETE", f"/allocations/{CONSUMER}").status_code == 404
    tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}}))
    assert tree("DELETE", f"/allocations/{CONSUMER}").status_code == 204
    assert tree("GET", f"/resource_providers/{GPU1}/usages").json()["usages"] == {"VGPU": 0}


def test_a_post_moves_between_consumers_or_does_nothing(tree: Call) -> None:
    tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 2}}))
    too_much = {CONSUMER: holding({}, 1), OTHER: holding({GPU1: {"VGPU": 3}})}
    assert tree("POST", "/allocations", too_much).status_code == 409
    assert tree("GET", f"/allocations/{CONSUMER}").json()["consumer_generation"] == 1
    moved = {CONSUMER: holding({}, 1), OTHER: holding({GPU1: {"VGPU": 2}})}
    assert tree("POST", "/allocations", moved).status_code == 204
    assert tree("GET", f"/allocations/{OTHER}").json()["allocations"][GPU1]["resources"] == {"VGPU": 2}
    assert tree("POST", "/allocations", {}).status_code == 400
    assert tree("POST", "/allocations", moved, version="1.12").status_code in (404, 405)


def test_a_race_on_a_provider_is_tried_again_on_the_servers_side(tree: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real, lost = allocations.replace_many, [0]

    def racing(*args: Any, **kwargs: Any) -> None:
        if lost[0] < 3:
            lost[0] += 1
            raise ConcurrentUpdate("somebody was faster")
        real(*args, **kwargs)

    monkeypatch.setattr(allocations, "replace_many", racing)
    assert tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}})).status_code == 204
    lost[0] = -handlers.ATTEMPTS
    assert tree("PUT", f"/allocations/{OTHER}", holding({GPU1: {"VGPU": 1}})).status_code == 409


def test_usages_are_a_projects_and_from_1_38_by_type(tree: Call) -> None:
    tree("PUT", f"/allocations/{CONSUMER}", holding({HOST: {"VCPU": 2}, GPU1: {"VGPU": 1}}))
    tree("PUT", f"/allocations/{OTHER}", holding({HOST: {"VCPU": 1}}, consumer_type="MIGRATION"))

    def usages(query: str, version: str = "1.38") -> Any:
        return tree("GET", f"/usages?{query}", version=version).json()["usages"]

    assert usages("project_id=p", "1.9") == {"VCPU": 3, "VGPU": 1}
    assert usages("project_id=p") == {
        "INSTANCE": {"consumer_count": 1, "VCPU": 2, "VGPU": 1},
        "MIGRATION": {"consumer_count": 1, "VCPU": 1},
    }
    assert usages("project_id=p&consumer_type=all") == {"all": {"consumer_count": 2, "VCPU": 3, "VGPU": 1}}
    assert usages("project_id=p&consumer_type=MIGRATION").keys() == {"MIGRATION"}
    assert usages("project_id=q") == {}
    for wrong in ("", "project_id=", "project_id=p&consumer_type=x", "project_id=p&colour=red"):
        assert tree("GET", f"/usages?{wrong}").status_code == 400, wrong
    assert tree("GET", "/usages?project_id=p&consumer_type=all", version="1.37").status_code == 400


def test_the_reshaper_moves_an_inventory_in_use_with_its_allocations(tree: Call) -> None:
    tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 2}}))

    def shape(of_gpu1: dict[str, Any], of_gpu2: dict[str, Any], wanted: dict[str, dict[str, int]]) -> dict[str, Any]:
        return {
            "inventories": {
                GPU1: {"resource_provider_generation": 2, "inventories": of_gpu1},
                GPU2: {"resource_provider_generation": 1, "inventories": of_gpu2},
            },
            "allocations": {CONSUMER: holding(wanted, 1)},
        }

    in_use = tree("POST", "/reshaper", shape({}, {"VGPU": {"total": 4}}, {GPU1: {"VGPU": 2}}))
    assert why(in_use)[:2] == (409, "placement.inventory.inuse")
    assert tree("POST", "/reshaper", shape({}, {"VGPU": {"total": 1}}, {GPU2: {"VGPU": 2}})).status_code == 409
    assert tree("POST", "/reshaper", shape({}, {"VGPU": {"total": 4}}, {GPU2: {"VGPU": 2}})).status_code == 204
    assert tree("GET", f"/resource_providers/{GPU1}/inventories").json()["inventories"] == {}
    assert tree("GET", f"/resource_providers/{GPU2}/usages").json()["usages"] == {"VGPU": 2}
    stale = tree("POST", "/reshaper", shape({}, {"VGPU": {"total": 4}}, {GPU2: {"VGPU": 2}}))
    assert why(stale)[:2] == (409, "placement.concurrent_update")
