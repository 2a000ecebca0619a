"""Names of resource classes and traits: exactly the grammar, their order, and the trait that a type's name becomes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lamina.model import resources
from lamina.model.errors import BadRequest

CUSTOM = (resources.parse_custom_class, resources.parse_custom_trait, resources.parse_vgpu_class)
ANY = (resources.parse_resource_class, resources.parse_trait)


@pytest.mark.parametrize("parse", [*CUSTOM, *ANY])
@pytest.mark.weakness(697)
def test_a_name_has_every_letter_and_digit_and_a_bound(parse: Callable[[str], str]) -> None:
    for good in ("CUSTOM_A", "CUSTOM_Z", "CUSTOM_0", "CUSTOM_9", "CUSTOM__", "CUSTOM_" + "Z" * (resources.MOST_NAME - 7)):
        assert parse(good) == good
    for wrong in ("", "custom_a", "CUSTOM_a", "CUSTOM_A-", "CUSTOM_\u0391", "CUSTOM_A\n", "CUSTOM_" + "A" * (resources.MOST_NAME - 6)):
        with pytest.raises(BadRequest, match=r"is not a .*at most 255"):
            parse(wrong)


def test_only_custom_names_can_be_made_but_a_gpu_may_have_the_standard_class() -> None:
    for parse in CUSTOM[:2]:
        for wrong in ("VGPU", "CUSTOM_", "CUSTOM", "XCUSTOM_A"):
            with pytest.raises(BadRequest, match="is not a custom"):
                parse(wrong)
    assert resources.parse_vgpu_class("VGPU") == "VGPU"
    with pytest.raises(BadRequest):
        resources.parse_vgpu_class("VCPU")
    for parse in ANY:
        assert parse("A") == "A"
        assert parse("A" * 255) == "A" * 255
        with pytest.raises(BadRequest):
            parse("A" * 256)


def test_standard_classes_come_in_their_own_order_and_custom_ones_after_them() -> None:
    names = ["CUSTOM_B", "VGPU", "CUSTOM_A", "DISK_GB", "VCPU", "MEMORY_MB"]
    assert sorted(names, key=resources.class_order) == ["VCPU", "MEMORY_MB", "DISK_GB", "VGPU", "CUSTOM_A", "CUSTOM_B"]
    assert resources.class_order("VCPU") == (0, "VCPU")


def test_standard_traits_are_those_of_the_library() -> None:
    assert {"HW_CPU_X86_AVX2", "OWNER_NOVA"} <= resources.standard_traits()
    assert not any(name.startswith("CUSTOM_") for name in resources.standard_traits())


@pytest.mark.parametrize(
    ("vgpu_type", "trait"),
    [
        ("NVIDIA A40-8Q", "CUSTOM_NVIDIA_A40_8Q"),
        ("nvidia-558", "CUSTOM_NVIDIA_558"),
        (" (a)  b! ", "CUSTOM_A_B"),
        ("x" * 400, "CUSTOM_" + "X" * 248),
    ],
)
def test_the_trait_of_a_type(vgpu_type: str, trait: str) -> None:
    assert resources.type_trait(vgpu_type) == trait == resources.parse_custom_trait(trait)
