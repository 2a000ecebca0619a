"""vGPUs beside a flavor: whatever is attached and detached, the copy asks for just that, and the flavor's own stays."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import attached
from lamina.model.errors import Conflict
from lamina.model.flavors import Flavor

PLAIN = Flavor(id="1", name="small", vcpus=1, memory_mb=512, disk_gb=1)
ONE = dataclasses.replace(PLAIN, extra_specs={"resources:VGPU": "1", "trait:CUSTOM_A": "required"})
TRAITS = st.sampled_from(["CUSTOM_A", "CUSTOM_B", "CUSTOM_C"])


@given(st.sampled_from([PLAIN, ONE]), st.lists(st.tuples(st.booleans(), TRAITS), max_size=60))
def test_the_copy_asks_for_what_was_attached_and_not_detached(flavor: Flavor, changes: list[tuple[bool, str]]) -> None:
    own, held, copy = flavor.request.total().get("VGPU", 0), list[str](), flavor
    for more, trait in changes:
        if more and len(held) < attached.MOST:
            copy, _ = attached.attach(copy, "VGPU", trait)
            held.append(trait)
        elif not more and trait in held:
            copy = attached.detach(copy, "VGPU", trait)
            held.remove(trait)
        else:
            with pytest.raises(Conflict):
                attached.attach(copy, "VGPU", trait) if more else attached.detach(copy, "VGPU", trait)
        assert sorted(one.trait for one in attached.of(copy)) == sorted(held)
        assert copy.request.total().get("VGPU", 0) == own + len(held)
        assert Flavor.from_plain(copy.to_plain()) == copy


def test_what_is_attached_is_asked_for_by_itself() -> None:
    copy, new = attached.attach(ONE, "VGPU", "CUSTOM_B")
    (group,) = new.request().groups
    assert (group.resources, group.required) == ({"VGPU": 1}, (frozenset({"CUSTOM_B"}),))
    assert group in copy.request.groups
    with pytest.raises(Conflict, match="resize takes it away"):
        attached.detach(copy, "VGPU", "CUSTOM_A")
