"""Typed values out of JSON and out of plain ones, safe for threads from the first use of a type on.

msgspec works out what a type looks like when it is first used, and a second thread that comes meanwhile finds it half made:
the process dies of a segmentation fault (seen with msgspec 0.22). So a type is worked out here, whole, by one thread.
"""

from __future__ import annotations

import re
import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

#: more than any call of an API has use for
DEEPEST = 32
#: a bracket, or a string, in which there are none
_BRACKET = re.compile(rb'[][{}]|"(?:[^"\\]|\\.)*"?', re.DOTALL)

_lock = threading.Lock()
#: the types that have been worked out, with all that they are made of
_known: set[Any] = set()


def from_json(data: bytes | str, type: type[T]) -> T:
    """Raises `msgspec.DecodeError`, and its `msgspec.ValidationError` for JSON that is not of this type."""
    _work_out(type)
    return msgspec.json.decode(data, type=type)


def from_plain(value: Any, type: type[T]) -> T:
    """Dicts, lists, strings and numbers as a value of this type. Raises `msgspec.ValidationError`."""
    _work_out(type)
    return msgspec.convert(value, type=type)


def is_deep(data: bytes) -> bool:
    """Whether JSON has lists and objects within each other beyond `DEEPEST`. What is read of it is then gone through in no time."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return False
    depth = 0
    for found in _BRACKET.finditer(data):
        mark = found[0]
        depth += (mark in b"[{") - (mark in b"]}")
        if depth > DEEPEST:
            return True
    return False


def _work_out(type: Any) -> None:
    if type not in _known:
        with _lock:
            msgspec.json.Decoder(type)
            _known.add(type)
