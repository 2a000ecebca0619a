"""What is wrong with a body, in the words of JSON Schema, which users of Placement look for.

msgspec tells the rule that was broken and the path to the value; the value itself is looked up here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

#: how much of a value is told
MOST_SHOWN = 80

Breaks: TypeAlias = Callable[[Any, str], bool]

_AT = re.compile(r"(.*?)(?: - at `(?:key in )?\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+|\.\.\.)\]")
_WRONG_TYPE = re.compile(r"Expected `(.*?)`, got `.*?`")
_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "integer": int,
    "number": (int, float),
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}

#: the rule as msgspec tells it, what is told of the value that breaks it, the keyword of the rule, and which values break it
_RULES: tuple[tuple[re.Pattern[str], str, str, Breaks], ...] = tuple(
    (re.compile(said), told, keyword, breaks)
    for said, told, keyword, breaks in (
        (r"Expected `(?:int|float)` >= (\S+)", "{} is less than the minimum of {}", "minimum", lambda v, most: v < float(most)),
        (r"Expected `(?:int|float)` <= (\S+)", "{} is greater than the maximum of {}", "maximum", lambda v, most: v > float(most)),
        (r"Expected `str` of length <= (\d+)", "{} is too long: more than {} characters", "maxLength", lambda v, most: len(v) > int(most)),
        (r"Expected `str` of length >= (\d+)", "{} should be non-empty: {} or more characters", "minLength", lambda v, least: not v),
        (r"Expected `array` of length <= (\d+)", "{} is too long: more than {} elements", "maxItems", lambda v, most: len(v) > int(most)),
        (r"Expected `array` of length >= (\d+)", "{} should be non-empty: {} or more elements", "minItems", lambda v, least: not v),
        (
            r"Expected `object` of length <= (\d+)",
            "{} has too many properties: more than {}",
            "maxProperties",
            lambda v, most: len(v) > int(most),
        ),
        (r"Expected `object` of length >= (\d+)", "{} should be non-empty: {} or more properties", "minProperties", lambda v, least: not v),
    )
)
#: rules whose sentence needs no value
_PLAIN_RULES = (
    (
        re.compile(r"Object contains unknown field `(.*?)`"),
        r"Additional properties are not allowed ('\1' was unexpected)",
        "additionalProperties",
    ),
    (re.compile(r"Object missing required field `(.*?)`"), r"'\1' is a required property", "required"),
)


def in_words_of_json_schema(said: str, body: Any) -> str:
    """msgspec's `said` about `body` (plain values), told anew."""
    match = _AT.fullmatch(said)
    rule, path = (match[1], match[2] or "") if match else (said, "")
    told, keyword = _told(rule, list(_values(body, path)))
    if not keyword:
        return said
    where = "".join(f"['properties'][{name!r}]" if name else "[...]" for name, _ in _STEP.findall(path))
    return f"{told}. Failed validating '{keyword}' in schema{where}"


def _told(rule: str, values: list[Any]) -> tuple[str, str]:
    for pattern, sentence, keyword in _PLAIN_RULES:
        if pattern.fullmatch(rule):
            return pattern.sub(sentence, rule), keyword
    wrong = _WRONG_TYPE.fullmatch(rule)
    if wrong:
        kinds = [_TYPES.get(kind, kind) for kind in wrong[1].split(" | ")]
        value = next((value for value in values if not any(_is_a(value, kind) for kind in kinds)), None)
        return f"{_shown(value)} is not of type {', '.join(map(repr, kinds))}", "type"
    for pattern, sentence, keyword, breaks in _RULES:
        match = pattern.fullmatch(rule)
        if match:
            comparable = (value for value in values if not isinstance(value, bool | None))
            return sentence.format(_shown(next((v for v in comparable if breaks(v, match[1])), None)), match[1]), keyword
    return rule, ""


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS.get(kind, object))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _values(body: Any, path: str) -> Iterable[Any]:
    """Every value that a path may mean: ``[...]`` is any of an object's."""
    found = [body]
    for name, index in _STEP.findall(path):
        if index == "...":
            found = [value for one in found if isinstance(one, dict) for value in one.values()]
        elif index:
            found = [one[int(index)] for one in found if isinstance(one, list) and int(index) < len(one)]
        else:
            found = [one[name] for one in found if isinstance(one, dict) and name in one]
    return found
