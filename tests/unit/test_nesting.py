"""How deep JSON is nested, seen before it is read, whatever brackets its strings have."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model import decoding

INNER = st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


def depth(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max((depth(inner) for inner in (value.values() if isinstance(value, dict) else value)), default=0)


@given(INNER, st.integers(decoding.DEEPEST - 4, decoding.DEEPEST + 3))
def test_it_is_as_deep_as_its_lists_and_objects_whatever_its_strings_say(value: object, around: int) -> None:
    for _ in range(around):
        value = [value, '[[[{{{"]']
    assert decoding.is_deep(msgspec.json.encode(value)) == (depth(value) > decoding.DEEPEST)


@pytest.mark.weakness(674)
def test_what_is_no_json_is_looked_at_too() -> None:
    assert decoding.is_deep(b"[" * 1_000_000)
    assert decoding.is_deep(b'{"a":' * 33)
    assert not decoding.is_deep(b'{"a":' * 32)
    assert not decoding.is_deep(b"[]," * 100_000)
    assert not decoding.is_deep(b'["' + b"[" * 100_000 + b'"]')
    assert not decoding.is_deep(b'["\\"' + b"[" * 100_000 + b'"]')
    assert not decoding.is_deep(b'["' + b"[" * 100_000), "a string that does not end is no list"
