"""The arithmetic of inventories is exact, and its rules are Placement's."""

from __future__ import annotations

import decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model.errors import BadRequest
from lamina.model.providers import MOST, Inventory, Provider, trees_of

totals = st.integers(1, MOST)
#: ratios as people write them: a few digits on either side of the point
ratios = st.decimals("0.01", "1000", places=3).map(float)


@given(totals, st.data(), ratios)
@pytest.mark.weakness(1339)
def test_capacity_is_the_exact_product_rounded_down(total: int, data: st.DataObject, ratio: float) -> None:
    reserved = data.draw(st.integers(0, total))
    exact = Fraction(decimal.Decimal(str(ratio))) * (total - reserved)
    assert Inventory(total, reserved, allocation_ratio=ratio).capacity == exact.numerator // exact.denominator


def test_capacity_is_not_a_victim_of_floats() -> None:
    assert int(15 * 8.2) == 122, "which is why it is not computed so"
    assert Inventory(15, allocation_ratio=8.2).capacity == 123


few = st.integers(1, 60)


@given(few, st.integers(0, 60), st.integers(1, 9), few, st.integers(1, 7), st.integers(0, 60), few)
def test_an_amount_is_refused_exactly_when_a_rule_is_broken(
    total: int, reserved: int, least: int, most: int, step: int, used: int, amount: int
) -> None:
    inventory = Inventory(total, min(reserved, total), least, most, step)
    fits = used + amount <= total - min(reserved, total) and least <= amount <= most and amount % step == 0
    assert (inventory.refuses(amount, used) is None) is fits


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"total": 0}, "total"),
        ({"total": MOST + 1}, "total"),
        ({"total": 4, "reserved": -1}, "reserved"),
        ({"total": 4, "reserved": 5}, "reserved"),
        ({"total": 4, "min_unit": 0}, "min_unit"),
        ({"total": 4, "max_unit": MOST + 1}, "max_unit"),
        ({"total": 4, "step_size": 0}, "step_size"),
        ({"total": 4, "allocation_ratio": 0.0}, "allocation_ratio"),
        ({"total": 4, "allocation_ratio": float("nan")}, "allocation_ratio"),
        ({"total": 4, "allocation_ratio": 3.5e38}, "allocation_ratio"),
    ],
)
def test_a_wrong_inventory_is_refused_by_the_name_of_its_field(fields: dict[str, float], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        Inventory(**fields)  # type: ignore[arg-type]


def test_a_tree_has_parents_before_children_and_then_goes_by_name() -> None:
    def provider(name: str, parent: str | None, root: str) -> Provider:
        return Provider(name, name, 0, root, parent)

    deep = provider("c", "b", "r")
    trees = trees_of([deep, provider("z", None, "z"), provider("b", "r", "r"), provider("a", "r", "r"), provider("r", None, "r")])
    assert [[p.name for p in tree.providers] for tree in trees] == [["r", "a", "b", "c"], ["z"]]
    assert trees[0].below("b") == {"b", "c"}
    assert trees[0].below("r") == {"r", "a", "b", "c"}
