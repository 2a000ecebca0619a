"""CWE-284: every call of every API, by every identity, on its own things and on another's.

What is expected of a cell follows from the table in `expectations` and the few rules of `matrix.expected`; the code under
test is asked for its routes only. A foreign thing has to be answered for as one that is not there: the same status, the
same body, the same headers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import structlog

from lamina.api import agents, network
from lamina.api.application import application
from lamina.api.policy import Policy
from lamina.api.routing import Context, Room, Route
from lamina.model.errors import Forbidden
from lamina.operations import enrolment
from lamina.store.tables.base import metadata
from tests.pillars import expectations
from tests.pillars.calls import calls
from tests.pillars.identities import ADMIN, AGENT_A, AGENT_B, MEMBER, OUTSIDER, Right
from tests.pillars.matrix import EVERY_ROOM, Door, Matrix, cells, opened, refusals
from tests.pillars.objects import Cloud

Counted = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of refusals are not told when one test fails."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


@pytest.mark.parametrize("room", EVERY_ROOM, ids=lambda room: room.name)
@pytest.mark.weakness(285)
@pytest.mark.weakness(639)
@pytest.mark.weakness(862)
@pytest.mark.weakness(863)
def test_every_call_by_every_identity_on_its_own_and_on_anothers(door: Door, room: Room, record_property: Counted) -> None:
    matrix, rows = Matrix(door), calls(room)
    for call in rows:
        for cell in cells(call):
            matrix.hold(cell)
    record_property("counted", ("policy matrix", len(rows), matrix.cells))
    assert not matrix.wrong, "\n".join(matrix.wrong)


# ------------------------------------------------------------------------------------------------ what a list tells


def _queries(things: Mapping[str, str]) -> Iterator[str]:
    """Words by which a listing could be widened to another's things."""
    yield from ("all_tenants=1", "all_tenants=True", "all_projects=1", "all_projects=true", "deleted=true", "is_public=none")
    yield from ("visibility=all", "visibility=shared", "visibility=private", "member_status=all", "os_hidden=true")
    project, user = things["project"], things["user"]
    yield from (f"project_id={project}", f"tenant_id={project}", f"owner={project}", f"all_tenants=1&project_id={project}")
    yield from (f"user_id={user}", f"user.id={user}", f"name={things['keypair']}")
    yield from (f"uuid={things['server']}", f"device_id={things['server']}", f"id={things['image']}", f"image={things['image']}")
    yield from (f"marker={things[kind]}" for kind in ("server", "image", "flavor", "group", "keypair", "request"))
    yield from ("host=host1", "host=host2", "node=host1", "changes-since=1970-01-01T00:00:00Z", "limit=1000&sort_key=project_id")


@pytest.mark.parametrize("room", EVERY_ROOM, ids=lambda room: room.name)
@pytest.mark.weakness(200)
@pytest.mark.weakness(639)
def test_no_listing_tells_of_anothers_things(door: Door, room: Room, record_property: Counted) -> None:
    leaks: list[str] = []
    asked = 0
    listings = [call for call in calls(room) if call.method == "GET" and not call.owned() and call.right in (Right.USER, Right.READER)]
    for call in listings:
        for identity in (MEMBER, OUTSIDER):
            own, other = door.cloud.own(identity), door.cloud.foreign(identity)
            for query in ("", *_queries(other)):
                answer = door.ask(identity, call, own, query=f"?{query}" if query else "")
                asked += 1
                told = "".join(answer.text.split(query)) if query else answer.text
                for said in re.findall(r"=([^&]+)", query):
                    told = told.replace(said, "")
                found = [mark for mark in door.cloud.marks(identity) if mark in told]
                if found or answer.status_code >= 500:
                    leaks.append(f"{call} by {identity.name} with {query}: {answer.status_code}, {found}")
    record_property("counted", ("listings with filters", len(listings), asked))
    assert not leaks, "\n".join(leaks)


@pytest.mark.weakness(639)
def test_an_administrators_word_about_projects_is_an_administrators(door: Door) -> None:
    """The filters are true filters: an administrator is told by the same words what others are not."""
    (listing,) = (call for call in calls(_room("compute")) if f"{call.method} {call.path}" == "GET /compute/v2.1/servers")
    away = door.cloud.things["away"]
    query = f"?all_tenants=1&project_id={away['project']}"
    assert away["server"] in door.ask(ADMIN, listing, door.cloud.own(ADMIN), query=query).text
    assert door.ask(MEMBER, listing, door.cloud.own(MEMBER), query=query).status_code == 403


def _room(name: str) -> Room:
    return next(room for room in EVERY_ROOM if room.name == name)


# ------------------------------------------------------------------------------------------------ whose a thing becomes

_WORDS_OF_OWNERS = ("project_id", "user_id", "tenant_id", "owner", "owner_id", "project", "tenant", "id")


def _said_otherwise(body: Any, things: Mapping[str, str]) -> Iterator[Any]:
    """The body with another's name in it, at its top and one level down."""
    if isinstance(body, list):
        yield from ([*body, {"op": op, "path": "/owner", "value": things["project"]}] for op in ("replace", "add"))
    if not isinstance(body, Mapping):
        return
    for word in _WORDS_OF_OWNERS:
        value = things["user" if word.startswith("user") else "project"]
        yield {**body, word: value}
        for key, inner in body.items():
            if isinstance(inner, Mapping):
                yield {**body, key: {**inner, word: value}}


def _owners(cloud: Cloud) -> dict[tuple[str, str], frozenset[str]]:
    """Table and column -> every project and user that something belongs to there, each as often as it does."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    with cloud.plane.db.read() as tx:
        for table in metadata.tables.values():
            for column in table.columns:
                if column.name in ("project_id", "user_id", "owner"):
                    rows = tx.execute(sa.select(column, sa.func.count()).group_by(column)).all()
                    found[table.name, column.name] = frozenset(f"{owner}: {count}" for owner, count in rows)
    return found


@pytest.mark.parametrize("room", EVERY_ROOM, ids=lambda room: room.name)
@pytest.mark.weakness(639)
@pytest.mark.weakness(915)
def test_nobody_gives_a_thing_to_another_or_takes_one_by_saying_so(door: Door, room: Room, record_property: Counted) -> None:
    cloud, given, asked = door.cloud, list[str](), 0
    others = set(cloud.foreign(MEMBER).values())
    before = {where: {one for one in owners if one.split(": ")[0] in others} for where, owners in _owners(cloud).items()}
    rows = [call for call in calls(room) if call.right not in (Right.ADMIN, Right.ANYONE, Right.HOST) and call.body]
    for call in rows:
        for body in _said_otherwise(call.body, cloud.foreign(MEMBER)):
            with door.keeping():
                answer = door.ask(MEMBER, call, cloud.own(MEMBER), body=body)
                after = {where: {one for one in owners if one.split(": ")[0] in others} for where, owners in _owners(cloud).items()}
            asked += 1
            if answer.status_code >= 500 and answer.status_code not in refusals(call):
                given.append(f"{call} with {body}: {answer.status_code}")
            given += [f"{call} with {body}: {where} {after[where] ^ before[where]}" for where in before if after[where] != before[where]]
    record_property("counted", ("bodies with another's name", len(rows), asked))
    assert not given, "\n".join(given)


# ------------------------------------------------------------------------------------------------ hosts


@pytest.mark.weakness(284)
def test_a_host_answers_the_calls_that_were_put_to_it_and_no_others(door: Door) -> None:
    poll = next(call for call in calls(agents.ROOM) if call.path.endswith("/poll"))
    own = door.cloud.own(AGENT_B)
    session = {"session": "the session of B"}
    assert door.ask(AGENT_B, poll, own, body=session).status_code == 200
    waiting = enrolment.join(door.cloud.plane, "agent-b")._put("report", msgspec.Raw(b"{}"))
    answer = {"results": [{"id": waiting.given.id, "answer": {"said by": "whoever"}}]}
    assert door.ask(AGENT_A, poll, own, body={"session": "the session of A"} | answer).json()["calls"] == []
    assert not waiting.done.done()
    # with the session of B, should A have learnt of it, A is still A
    assert door.ask(AGENT_A, poll, own, body=session | answer).status_code == 200
    assert not waiting.done.done()
    assert door.ask(AGENT_B, poll, own, body=session | answer | {"leaving": True}).status_code == 200
    assert waiting.done.done()


@pytest.mark.weakness(284)
def test_a_host_has_no_certificate_made_for_anothers_key(door: Door) -> None:
    renew = next(call for call in calls(agents.ROOM) if call.path.endswith("/renew"))
    refused = door.ask(AGENT_A, renew, door.cloud.own(AGENT_A), body={"request": door.cloud.requests["agent-b"]})
    assert (refused.status_code, door.refused_and_wrote) == (403, False)


# ------------------------------------------------------------------------------------------------ denied by default


@pytest.mark.weakness(276)
def test_a_rule_that_nobody_has_made_allows_nobody(door: Door) -> None:
    policy = Policy(route for room in EVERY_ROOM for route in room.routes)
    admin = Context("req-1", user_id="u", project_id="p", roles=frozenset({"admin", "manager", "member", "reader"}), system=True)
    for rule in ("no:such:rule", "", "default"):
        with pytest.raises(Forbidden):
            policy.enforce(rule, admin)


@pytest.mark.weakness(862)
@pytest.mark.parametrize("room", EVERY_ROOM, ids=lambda room: room.name)
def test_a_route_without_a_rule_does_not_start(door: Door, room: Room) -> None:
    bare = dataclasses.replace(room, routes=(*room.routes, Route("GET", "/bare", network.versions, "")))
    with pytest.raises(ValueError, match="GET /bare has no policy rule"):
        application(door.cloud.plane, [bare])


@pytest.mark.weakness(306)
def test_what_is_open_to_all_is_what_the_expectations_say(door: Door) -> None:
    open_to_all = {(room.name, f"{r.method} {r.path}".strip()) for room in EVERY_ROOM for r in room.routes if r.public}
    listed = {(name, line) for name in expectations.rooms() for line, right in expectations.rights(name).items() if right is Right.ANYONE}
    assert open_to_all == listed


def test_no_expectation_outlives_its_call() -> None:
    served = {(room.name, f"{r.method} {r.path}".strip()) for room in EVERY_ROOM for r in room.routes}
    told = {(name, line) for name in expectations.rooms() for line in expectations.rights(name)}
    assert told - served == set(), "take these lines out of tests/pillars/expectations.py"


@pytest.mark.weakness(862)
def test_a_call_without_an_expectation_is_told_with_what_to_add() -> None:
    more = dataclasses.replace(network.ROOM, routes=(*network.ROOM.routes, Route("GET", "/new", network.versions, "get_new")))
    with pytest.raises(AssertionError, match=r"'GET /new'\. Add this line to its table in tests/pillars/expectations\.py"):
        calls(more)
