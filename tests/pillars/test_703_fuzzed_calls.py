"""CWE-703: calls made up from the published documents, well formed and not, by an administrator and by a member.

Whatever is sent, the answer is one that the document names, and never that Lamina met an error of its own. Half of the
calls are about things that are there. ``SCHEMATHESIS_EXAMPLES`` says how many calls of each kind are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from lamina.api import openapi
from lamina.api.rooms import ROOMS
from lamina.api.routing import Microversions, Room
from tests.pillars.calls import VALUES, Call, calls, filled
from tests.pillars.expectations import ACTIONS
from tests.pillars.identities import ADMIN, MEMBER, Identity
from tests.pillars.matrix import Door, opened

Counted = Callable[[str, object], None]

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "15"))
SEED = 703

schemathesis.serializer.alias("application/openstack-images-v2.1-json-patch", "application/json")

_NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
_LEAVES = st.none() | st.booleans() | _NUMBERS | st.text(max_size=20)
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3))


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def versions(known: Microversions) -> st.SearchStrategy[str]:
    every = [f"{known.service_type} {known.most.major}.{minor}" for minor in range(known.least.minor, known.most.minor + 1)]
    return st.sampled_from([f"{known.service_type} latest", *every])


@st.composite
def actions(draw: st.DrawFn, things: Mapping[str, str]) -> Any:
    """What an action takes, or nothing, or that with one value of it replaced."""
    name = draw(st.sampled_from(sorted(ACTIONS)))
    value = filled(VALUES.get(name), things.__getitem__)
    if isinstance(value, dict) and value and draw(st.booleans()):
        return {name: {**value, draw(st.sampled_from(sorted(value))): draw(_VALUES)}}
    return {name: draw(st.just(value) | st.none() | st.just({}) | _VALUES)}


def cases(operation: Any, call: Call, things: Mapping[str, str]) -> st.SearchStrategy[Case[Any]]:
    """Of what is there and of what is made up; as the document has it and not."""
    there = {name: call.value(name, things) for name in call.kinds} or None
    found = [operation.as_strategy(), operation.as_strategy(path_parameters=there)]
    if operation.body or operation.query:
        found.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE, path_parameters=there))
    made: st.SearchStrategy[Case[Any]] = st.one_of(found)
    return made


def send(door: Door, identity: Identity, case: Case[Any], base: str, version: str | None, body: Any) -> Any:
    before = door.writes()
    headers = {name: value for name, value in (case.headers or {}).items() if name.lower() not in ("x-auth-token", "openstack-api-version")}
    headers = {name: value.encode("utf-8", "replace") for name, value in headers.items()} | door.shown(identity)
    if version is not None:
        headers["OpenStack-API-Version"] = version
    more: dict[str, Any] = {}
    if isinstance(body, bytes):
        more["content"] = body
    elif not isinstance(body, type(schemathesis.core.NOT_SET)):
        more["json"] = body
    if case.media_type:
        headers["Content-Type"] = case.media_type
    query = [(name, str(one)) for name, value in (case.query or {}).items() for one in (value if isinstance(value, list) else [value])]
    answer = door.client.request(case.method, base + case.formatted_path, params=query, headers=headers, **more)
    if door.writes() != before or case.method != "GET":
        door.cloud.put_back()
    return answer


def _holds(door: Door, room: Room, operation: Any, call: Call) -> Callable[[], None]:
    things = door.cloud.own(MEMBER)
    documented = {int(status) for status in operation.definition.raw["responses"]}
    base = openapi.based(room)[0].rstrip("/")
    asked = versions(room.microversions) if room.microversions else st.none()
    acts = actions(things) if call.path.endswith("/servers/{server}/action") else st.none()

    @seed(SEED)
    @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(cases(operation, call, things), st.sampled_from([ADMIN, MEMBER]), asked, acts)
    def hold(case: Case[Any], identity: Identity, version: str | None, action: Any) -> None:
        answer = send(door, identity, case, base, version, case.body if action is None else action)
        sent = f"{case.method} {case.formatted_path} {case.query} {str(case.body)[:300]} {action} {version} by {identity.name}"
        told = f"{sent}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 500 or answer.status_code == 501, told
        assert answer.status_code in documented, told

    return hold


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
@pytest.mark.weakness(20)
@pytest.mark.weakness(755)
def test_whatever_is_sent_the_answer_is_one_that_is_documented(door: Door, room: Room, record_property: Counted) -> None:
    base = openapi.based(room)[0].rstrip("/")
    rows = {(call.method, call.path): call for call in calls(room)}
    schema = schemathesis.openapi.from_dict(openapi.document(room))
    wrong: list[str] = []
    count = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        count += 1
        try:
            _holds(door, room, operation, rows[operation.method.upper(), base + operation.path])()
        except AssertionError as error:
            wrong.append(str(error))
    record_property("counted", ("fuzzed calls", count, count * EXAMPLES))
    assert not wrong, "\n".join(wrong)
