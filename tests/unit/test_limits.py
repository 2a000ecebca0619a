"""The rule of limits: exact, and compared in one form of each name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import limits, resources
from lamina.model.errors import BadRequest
from lamina.model.limits import MOST, UNLIMITED, Bound, Resource, refusal
from lamina.model.requests import CandidateRequest, RequestGroup

AMOUNT = st.integers(0, MOST)
NAMES = st.sampled_from(["servers", "class:VCPU", "class:MEMORY_MB", "class:VGPU", "class:CUSTOM_A", "vgpu_type:NVIDIA A40-8Q"])
BOUNDS = st.builds(
    Bound, NAMES.map(limits.parse_resource), st.just(UNLIMITED) | AMOUNT, AMOUNT, st.integers(0, 2 * MOST), of_user=st.booleans()
)


@given(st.lists(BOUNDS, max_size=8))
@pytest.mark.weakness(682)
def test_what_fits_is_let_through_and_one_more_is_not(bounds: list[Bound]) -> None:
    over = [b for b in bounds if b.limit >= 0 and b.requested and b.used + b.requested > b.limit]
    said = refusal(bounds)
    assert (said is None) == (not over)
    for bound in over:
        assert said is not None
        assert bound.told in said
        assert {str(bound.used), str(bound.limit), str(bound.requested)} <= {word.rstrip(",") for word in said.split()}


@given(NAMES, AMOUNT, AMOUNT)
@pytest.mark.weakness(193)
def test_the_last_unit_is_given_and_no_further(name: str, limit: int, used: int) -> None:
    left = limit - used
    resource = limits.parse_resource(name)
    if left > 0:
        assert refusal([Bound(resource, limit, used, left)]) is None
    assert refusal([Bound(resource, limit, used, max(left, 0) + 1)]) is not None
    assert refusal([Bound(resource, limit, used, 0)]) is None, "who asks for nothing exceeds nothing, however much there is"
    assert refusal([Bound(resource, UNLIMITED, used, left + MOST)]) is None


def test_a_refusal_names_each_resource_with_its_figures() -> None:
    cores, types = limits.parse_quota("cores"), limits.parse_resource("vgpu_type:NVIDIA A40-8Q")
    said = refusal(
        [Bound(types, 2, 2, 1), Bound(cores, 40, 40, 8), Bound(limits.parse_quota("ram"), 100, 1, 1), Bound(cores, 9, 8, 8, True)]
    )
    names = "cores, cores of the user, vgpu_type:NVIDIA A40-8Q"
    assert said == f"Quota exceeded for {names}: Requested 8, 8, 1, but already used 40, 8, 2 of 40, 9, 2 {names}"


@given(st.integers() | st.text() | st.booleans() | st.none() | st.floats())
@pytest.mark.weakness(190)
def test_a_limit_is_a_whole_number_from_minus_one_to_the_most(given_: object) -> None:
    """No negative one passes, no huge one, and no truth value for a number."""
    whole = isinstance(given_, int) and not isinstance(given_, bool) and -1 <= given_ <= MOST
    text = (
        isinstance(given_, str)
        and given_.isascii()
        and (given_ == "-1" or (given_.isdigit() and len(given_) <= 10 and int(given_) <= MOST))
    )
    if whole or text:
        assert limits.parse_amount(given_, "cores") == int(str(given_))
    else:
        with pytest.raises(BadRequest, match=r"^cores: "):
            limits.parse_amount(given_, "cores")


@pytest.mark.parametrize("given_", ["-2", str(MOST + 1), "1\n", " 1", "0x1", "1e3", "٣", "-0", 1.0, -2, 2**63])
def test_what_is_none_is_refused(given_: object) -> None:
    with pytest.raises(BadRequest):
        limits.parse_amount(given_, "cores")


@pytest.mark.parametrize(
    "spelt", ["vgpu_type:NVIDIA A40-8Q", "vgpu_type:nvidia a40-8q", "vgpu_type:NVIDIA_A40_8Q", "vgpu_type:CUSTOM_NVIDIA_A40_8Q"]
)
@pytest.mark.weakness(178)
def test_names_of_one_type_are_one_resource(spelt: str) -> None:
    """A limit of a type holds however its name is written, as a flavor's trait does."""
    found = limits.parse_resource(spelt)
    assert found.key == limits.of_type("NVIDIA A40-8Q").key == limits.type_key(resources.type_trait("NVIDIA A40-8Q"))
    assert found.name == spelt


@given(st.text(max_size=260))
def test_a_resource_is_taken_whole_or_refused(text: str) -> None:
    for spelt in (text, f"class:{text}", f"vgpu_type:{text}"):
        try:
            found = limits.parse_resource(spelt)
        except BadRequest:
            continue
        assert found.name == spelt
        assert found.name.isprintable()
        assert len(found.key) <= 300


@pytest.mark.parametrize(
    "text", ["", "cores", "class:", "class:vcpu", "class:NOSUCH", "class:VCPU\n", "vgpu_type:", "vgpu_type:--", "servers "]
)
@pytest.mark.weakness(185)
def test_what_is_no_resource_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        limits.parse_resource(text)


def test_the_older_names_are_of_the_same_resources() -> None:
    assert {name: limits.parse_quota(name).key for name in limits.QUOTAS} == dict(limits.QUOTAS)
    assert {limits.parse_quota(name).told for name in limits.QUOTAS} == limits.QUOTAS.keys()
    assert limits.parse_quota("class:VGPU") == Resource("class:VGPU", "class:VGPU")


GROUPS = st.lists(
    st.dictionaries(st.sampled_from(["VCPU", "VGPU", "CUSTOM_A"]), st.integers(1, 50), min_size=1).map(lambda r: RequestGroup("", r)),
    max_size=4,
)


@given(GROUPS, st.integers(1, 100))
def test_what_several_servers_ask_is_what_each_does_as_often(groups: list[RequestGroup], count: int) -> None:
    request = CandidateRequest(tuple(groups))
    assert limits.asked_by(request, count) == {key: amount * count for key, amount in limits.asked_by(request).items()}
    assert limits.asked_by(request) == {f"class:{name}": amount for name, amount in request.total().items()}


def test_a_group_bound_to_a_type_asks_for_that_type() -> None:
    a40, any_of = frozenset({"CUSTOM_NVIDIA_A40_8Q"}), frozenset({"CUSTOM_X", "CUSTOM_Y"})
    request = CandidateRequest((RequestGroup("1", {"VGPU": 2, "VCPU": 3}, (a40, any_of)), RequestGroup("2", {"CUSTOM_A": 1}, (a40,))))
    asked = limits.asked_by(request, 2)
    assert asked == {"class:VGPU": 4, "class:VCPU": 6, "class:CUSTOM_A": 2, limits.type_key("NVIDIA A40-8Q"): 6}


def test_what_is_taken_is_summed_over_providers_and_types() -> None:
    taken = limits.taken_by({"a": {"VCPU": 2}, "b": {"VGPU": 1}, "c": {"VGPU": 2}}, ["NVIDIA A40-8Q", "nvidia a40 8q", "B"])
    assert taken == {"class:VCPU": 2, "class:VGPU": 3, limits.type_key("NVIDIA A40-8Q"): 2, limits.type_key("B"): 1}


@pytest.mark.weakness(190)
def test_the_bounds_of_a_limit_and_of_a_types_name() -> None:
    for text in ("-1", "0", "9", "0000000001", "2147483647"):
        assert limits.parse_amount(text, "x") == limits.parse_amount(int(text), "x") == int(text)
    for wrong in ("-2", "00000000001", "2147483648", -2, 2147483648):
        with pytest.raises(BadRequest, match="is not a whole number from -1"):
            limits.parse_amount(wrong, "x")
    longest = "vgpu_type:" + "x" * 245
    assert limits.parse_resource(longest).name == longest
    with pytest.raises(BadRequest, match="names no vGPU type"):
        limits.parse_resource(longest + "x")
