"""What a flavor asks of Placement."""

from __future__ import annotations

import pytest

from lamina.model.errors import BadRequest
from lamina.model.requests import MOST_AMOUNT, CandidateRequest, RequestGroup, flavor_request


def request(**extra_specs: str) -> CandidateRequest:
    return flavor_request(2, 512, 0, {key.replace("__", ":"): value for key, value in extra_specs.items()})


def test_a_plain_flavor_asks_for_its_own_figures_and_leaves_out_nothing_of_nothing() -> None:
    assert request() == CandidateRequest((RequestGroup("", {"VCPU": 2, "MEMORY_MB": 512}),))


def test_a_vgpu_flavor_asks_in_the_group_without_a_suffix() -> None:
    (group,) = request(resources__VGPU="1", trait__CUSTOM_NVIDIA_11="required", trait__CUSTOM_OLD="forbidden").groups
    assert group.resources == {"VCPU": 2, "MEMORY_MB": 512, "VGPU": 1}
    assert group.required == (frozenset({"CUSTOM_NVIDIA_11"}),)
    assert group.forbidden == {"CUSTOM_OLD"}


def test_groups_come_in_the_order_of_their_suffixes_each_with_its_own_traits() -> None:
    asked = request(resources2__VGPU="1", trait2__CUSTOM_B="required", resources1__VGPU="2", group_policy="isolate")
    assert [(g.suffix, dict(g.resources), g.required) for g in asked.groups[1:]] == [
        ("1", {"VGPU": 2}, ()),
        ("2", {"VGPU": 1}, (frozenset({"CUSTOM_B"}),)),
    ]
    assert asked.group_policy == "isolate"
    assert asked.total() == {"VCPU": 2, "MEMORY_MB": 512, "VGPU": 3}


def test_a_suffix_may_be_a_word() -> None:
    asked = request(resources_port__VGPU="1", resourcesA__VGPU="1", group_policy="none")
    assert [g.suffix for g in asked.groups] == ["", "A", "_port"]


def test_zero_takes_the_flavors_own_figure_out() -> None:
    (group,) = request(resources__VCPU="0", resources__CUSTOM_IRON="1").groups
    assert group.resources == {"MEMORY_MB": 512, "CUSTOM_IRON": 1}
    assert request(resources__VCPU="0", resources__MEMORY_MB="0").groups == ()


def test_other_extra_specs_are_none_of_placements_business() -> None:
    assert request(hw__cpu_policy="dedicated", traits="x", resources="1") == request()


@pytest.mark.parametrize(
    ("extra_specs", "named"),
    [
        ({"resources:VGPU": "one"}, "resources:VGPU"),
        ({"resources:VGPU": "-1"}, "resources:VGPU"),
        ({"resources:VGPU": str(MOST_AMOUNT + 1)}, "resources:VGPU"),
        ({"resources1:VGPU": "0"}, "resources1:VGPU"),
        ({"resources:vgpu": "1"}, "vgpu"),
        ({"resources:VGPU\n": "1"}, "VGPU"),
        ({"resources:": "1"}, "not a resource class"),
        ({"trait:CUSTOM_A": "wanted"}, "trait:CUSTOM_A"),
        ({"trait1:CUSTOM_A": "required"}, "trait1"),
        ({"group_policy": "apart"}, "group_policy"),
        ({"resources1:VGPU": "1", "resources2:VGPU": "1"}, "group_policy"),
        ({f"resources{n}:VGPU": "1" for n in range(1, 65)} | {"group_policy": "none"}, "more than 64"),
    ],
)
def test_a_wrong_extra_spec_is_named(extra_specs: dict[str, str], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        flavor_request(1, 1, 1, extra_specs)


def test_a_suffix_has_bounds_and_takes_every_letter() -> None:
    longest = "zZaA09_-" * 8
    asked = request(**{f"resources{longest}__VGPU": "1"})
    assert [g.suffix for g in asked.groups] == ["", longest]
    assert request(**{f"resources{longest}x__VGPU": "1"}) == request(), "another key than those of Placement"


def test_as_many_groups_as_may_be() -> None:
    asked = request(group_policy="none", **{f"resources{n}__VGPU": "1" for n in range(1, 64)})
    assert len(asked.groups) == 64
    assert asked.group_policy == "none"


def test_one_numbered_group_needs_no_policy() -> None:
    assert request(resources1__VGPU="1").group_policy is None
    with pytest.raises(BadRequest, match="group_policy"):
        request(resources1__VGPU="1", resources2__VGPU="1")
