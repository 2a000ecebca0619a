"""On the lab's machine tests run kind by kind: to exchange one kind of GPU for another takes the kernel seconds."""

from __future__ import annotations

import pytest

from tests.contract.machines import KINDS, REAL


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if REAL:
        items.sort(key=_kind)  # stable: otherwise in the order of the files


def _kind(item: pytest.Item) -> int:
    words = item.name.partition("[")[2].rstrip("]")
    return next((number for number, kind in enumerate(sorted(KINDS, key=len, reverse=True), 1) if kind in words), 0)
