"""Inputs that are nearly good: texts, bytes and loaded values, changed, cut, doubled and crossed by seeded dice."""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from typing import Any

#: pieces that mean something to one parser or another
_PIECES: tuple[str, ...] = (
    *("\n", "\0", "\r\n", " ", "-", ":", ".", "_", "=", "&", ",", "!", "in:"),
    *("\u0661", "\uff11", "\u212a", "\ud800", "\u2028"),
    *("{", "}", "[", "]", "[[", '"', "'", "<", ">", "&x;", "<!DOCTYPE"),
    *("null", "true", "-1", "1e309", "9" * 20, "0x", "../", "%", "\\", "*a", "&a", "!!python", "0", "f", "A" * 300),
)
#: what YAML and JSON can load that is not what was asked for
_OTHERS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**64, -(2**70), 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", " ", "x", "0", "A" * 300, b"\xff", [], {}, [[]], {"x": []}, {1: 2}, {None: "x"}, datetime.date(1, 1, 1), {"x"}),
)


class TextMutator:
    """Texts, or bytes, drawn from the good ones; those that were taken are kept as further beginnings."""

    def __init__(self, seeds: Sequence[Any], seed: str, *, binary: bool = False) -> None:
        self._dice = random.Random(seed)  # noqa: S311 (no secret)
        self._binary = binary
        self.corpus: list[Any] = list(seeds)
        self._pieces: list[Any] = [p.encode("utf-8", "surrogatepass") for p in _PIECES] if binary else list(_PIECES)

    def draw(self) -> Any:
        return self._edited(self._dice.choice(self.corpus), self._dice.choice((1, 1, 1, 2, 3, 6)))

    def keep(self, taken: Any) -> None:
        if len(self.corpus) < 500 and len(taken) < 4000:
            self.corpus.append(taken)

    def _edited(self, text: Any, times: int) -> Any:
        dice = self._dice
        for _ in range(times):
            at = dice.randint(0, len(text))
            way = dice.random()
            if way < 0.35:
                text = text[:at] + self._character() + text[at + 1 :]
            elif way < 0.55:
                text = text[:at] + dice.choice(self._pieces) + text[at:]
            elif way < 0.75:
                text = text[:at] + text[at + dice.choice((1, 1, 2, 8, 64)) :]
            elif way < 0.9:
                text = text[:at] + text[at : at + dice.choice((1, 4, 16))] + text[at:]
            else:
                other = self._crossed(text)
                text = text[:at] + other[dice.randint(0, len(other)) :]
        return text

    def _crossed(self, _text: Any) -> Any:
        return self._dice.choice(self.corpus)

    def _character(self) -> Any:
        if self._binary:
            return bytes([self._dice.randrange(256)])
        return chr(self._dice.choice((self._dice.randrange(32, 127), self._dice.randrange(0x500))))


class ValueMutator(TextMutator):
    """Lists and dicts as they are once they are loaded, with a place in them changed."""

    def draw(self) -> Any:
        value = self._dice.choice(self.corpus)
        for _ in range(self._dice.choice((1, 1, 1, 2, 3))):
            value = self._changed(value)
        return value

    def keep(self, taken: Any) -> None:
        if len(self.corpus) < 500 and len(repr(taken)) < 4000:
            self.corpus.append(taken)

    def _changed(self, value: Any) -> Any:
        if self._dice.random() < 0.1:
            return self._dice.choice(_OTHERS)
        if isinstance(value, dict) and value:
            return self._changed_dict(value)
        if isinstance(value, list) and value:
            return self._changed_list(value)
        if isinstance(value, str):
            return self._edited(value, 1)
        if type(value) in (int, float):
            return value + self._dice.choice((-1, 1, 1000, -value, 2**31))
        return self._dice.choice(_OTHERS)

    def _changed_dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        key, way = self._dice.choice(list(value)), self._dice.random()
        if way < 0.75:
            return {**value, key: self._changed(value[key])}
        if way < 0.85:
            return {name: other for name, other in value.items() if name != key}
        named = self._edited(key, 1) if isinstance(key, str) else "x"
        return {(named if name == key else name): other for name, other in value.items()}

    def _changed_list(self, value: list[Any]) -> list[Any]:
        at, way = self._dice.randrange(len(value)), self._dice.random()
        if way < 0.75:
            return [*value[:at], self._changed(value[at]), *value[at + 1 :]]
        return [*value, value[at]] if way < 0.87 else value[:at] + value[at + 1 :]

    def _crossed(self, text: Any) -> Any:
        return self._dice.choice(_PIECES)
