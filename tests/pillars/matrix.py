"""The policy matrix: the application with its world behind it, what is expected of each cell, and what is held against it."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import argon2
import httpx
import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from lamina.api import agents
from lamina.api.application import CERTIFICATE, application
from lamina.api.rooms import ROOMS
from lamina.store import passwords
from lamina.store.tables.audit import audit_events
from lamina.store.tables.base import metadata
from tests.faults.desk import Desk
from tests.pillars import expectations
from tests.pillars.calls import Call, filled
from tests.pillars.identities import IDENTITIES, Identity, Right
from tests.pillars.objects import Cloud, missing

EVERY_ROOM = (*ROOMS, agents.ROOM)

#: where this header names a host, TLS has verified its certificate
_SHOWN = b"test-certificate"
#: headers that differ from answer to answer; the length goes with the body
_PASSING = frozenset({"x-openstack-request-id", "x-compute-request-id", "content-length", "date", "last-modified"})


class Answer(enum.Enum):
    UNKNOWN_CALLER = "401"
    FORBIDDEN = "403"
    ALLOWED = "allowed"
    AS_MISSING = "as what is not there"


@dataclasses.dataclass
class Door:
    """The application with the world behind it."""

    cloud: Cloud
    client: TestClient
    #: how many transactions have written anything
    writes: Callable[[], int]
    #: whether the last call was refused and has changed something all the same
    refused_and_wrote: bool = False
    keeps: bool = False

    def ask(self, identity: Identity, call: Call, things: Mapping[str, str], *, query: str = "", body: Any = None) -> httpx.Response:
        def give(kind: str) -> str:
            if kind == "fresh":
                return str(uuid.uuid4())
            if kind == "own token":
                return self.cloud.tokens[identity.user or "mel"]
            return things[f"csr of {identity.host or 'agent-a'}" if kind == "own csr" else kind]

        headers = filled(call.headers, give) | self.shown(identity)
        if call.version is not None:
            headers["OpenStack-API-Version"] = call.version
        sent = filled(call.body if body is None else body, give)
        content: dict[str, Any] = {} if sent is None else {"content": sent} if isinstance(sent, bytes) else {"json": sent}
        before, path = self.writes(), call.address(things)
        answer: httpx.Response = self.client.request(call.method, path + (query or call.query), headers=headers, **content)
        wrote = self.writes() != before
        self.refused_and_wrote = wrote and answer.status_code >= 400 and self.cloud.is_changed()
        if not self.keeps and (wrote or call.method != "GET"):
            self.cloud.put_back()
        return answer

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """What calls change is there until the block ends."""
        self.keeps = True
        try:
            yield
        finally:
            self.keeps = False
            self.cloud.put_back()

    def shown(self, identity: Identity) -> dict[str, str]:
        if identity.host is not None:
            return {_SHOWN.decode(): identity.host}
        if identity.user is None:
            return {}
        return {"X-Auth-Token": self.cloud.tokens["mel, expired" if identity.expired else identity.user]}


@contextlib.contextmanager
def opened() -> Iterator[Door]:
    """Every room over one world."""
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_HASHER", cheap)
        yield from _opened()


def _opened() -> Iterator[Door]:
    desk = Desk()
    cloud = Cloud(desk)
    # more is asked here of one project than is let pass, and on a clock that stands still
    asked_often = dataclasses.replace(cloud.plane, settings=dataclasses.replace(cloud.plane.settings, rate_limit=None))
    served = application(asked_often, EVERY_ROOM)

    async def behind_tls(scope: Scope, receive: Receive, send: Send) -> None:
        shown = dict(scope.get("headers", ())).get(_SHOWN)
        await served(scope if shown is None else {**scope, CERTIFICATE: cloud.certificates[shown.decode()]}, receive, send)

    with TestClient(behind_tls) as client:
        yield Door(cloud, client, cloud.plane.db.count_writes(frozenset(metadata.tables.values()) - {audit_events}))
    desk.close()


# ------------------------------------------------------------------------------------------------ what is expected


def expected(identity: Identity, call: Call, whose: str) -> Answer:
    """The rules by which a cell follows from its row."""
    if call.right is Right.ANYONE:
        return Answer.ALLOWED
    knows = identity.host is not None if call.room == agents.ROOM.prefix else identity.user is not None and not identity.expired
    if not knows:
        return Answer.UNKNOWN_CALLER
    if call.right not in identity.rights:
        # which action it is, is known once the server is found
        found_first = call.name and whose == "foreign" and Right.MEMBER in identity.rights
        return Answer.AS_MISSING if found_first else Answer.FORBIDDEN
    private = call.right is Right.OWNER or "keypair" in call.kinds.values()
    return Answer.ALLOWED if whose == "own" or (identity.is_admin and not private) else Answer.AS_MISSING


def refusals(call: Call) -> frozenset[int]:
    return expectations.refusals(call.room, f"{call.method} {call.path.removeprefix(call.room)}", call.name)


@dataclasses.dataclass(frozen=True)
class Cell:
    identity: Identity
    call: Call
    whose: str
    #: kinds of which another's thing stands in the caller's own one's place
    foreign: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.call} by {self.identity.name}, {self.whose} {', '.join(self.foreign)}".strip()


def cells(call: Call) -> Iterator[Cell]:
    """Its own things, another's, and each of another's by itself among its own."""
    path, body = call.owned(), () if call.right is Right.ANYONE else call.referred()
    for identity in IDENTITIES:
        yield Cell(identity, call, "own")
        if path:
            yield Cell(identity, call, "foreign", path)
        for kind in (*(path if len(path) > 1 else ()), *body):
            yield Cell(identity, call, "foreign", (kind,))


def told(answer: httpx.Response, things: Mapping[str, str], kinds: tuple[str, ...]) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers, without the names of the things that were asked for and of the request."""

    def nameless(text: str) -> str:
        for kind in kinds:
            text = re.sub(rf"(?<!\w){re.escape(things[kind])}(?!\w)", "…", text)
        return re.sub(r"req-[0-9a-f-]{36}", "req-…", text)

    headers = {name: nameless(value) for name, value in answer.headers.items() if name not in _PASSING}
    return answer.status_code, nameless(answer.text), headers


class Matrix:
    """The rows of one room, asked cell by cell; what is not as expected is gathered."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.wrong: list[str] = []
        self.cells = 0

    def hold(self, cell: Cell) -> None:
        cloud, identity, call = self.door.cloud, cell.identity, cell.call
        own = cloud.own(identity)
        things = own | {kind: cloud.foreign(identity)[kind] for kind in cell.foreign}
        absent = own | {kind: missing(kind) for kind in cell.foreign or call.owned()}
        answer = self.door.ask(identity, call, things)
        wrote, wanted = self.door.refused_and_wrote, expected(identity, call, cell.whose)
        self.cells += 1
        self._expect(not wrote, cell, f"{answer.status_code}, and something was changed")
        self._must_not_leak(cell, answer, things)
        if wanted is Answer.ALLOWED:
            self._must_be_allowed(cell, answer, lambda: self.door.ask(identity, call, absent))
            return
        if wanted is Answer.AS_MISSING:
            kinds = cell.foreign
            seen, unseen = told(answer, things, kinds), told(self.door.ask(identity, call, absent), absent, kinds)
            self._expect(seen == unseen, cell, f"{seen} where what is not there is {unseen}")
            refused = {400, 403, 404} if cell.foreign[0] in call.referred() else {403, 404}
            self._expect(answer.status_code in refused | (refusals(call) & {501}), cell, f"{answer.status_code} {answer.text[:200]}")
        else:
            self._expect(answer.status_code == int(wanted.value), cell, f"{answer.status_code}, not {wanted.value}: {answer.text[:200]}")

    def _must_be_allowed(self, cell: Cell, answer: httpx.Response, ask_absent: Callable[[], httpx.Response]) -> None:
        status, call = answer.status_code, cell.call
        fine = status < 400 or status in refusals(call)
        self._expect(fine, cell, f"{status}: {answer.text[:200]}")
        # every project has a quota, made or not
        if cell.whose == "own" and call.owned() and 501 not in refusals(call) and "/quotas" not in call.path:
            absent = ask_absent()
            told_apart = (absent.status_code, absent.text) != (status, answer.text)
            self._expect(told_apart, cell, f"{status} as if it were not there: {answer.text[:200]}")

    def _must_not_leak(self, cell: Cell, answer: httpx.Response, things: Mapping[str, str]) -> None:
        if cell.identity.is_admin:
            return
        text = f"{answer.text} {answer.headers}"
        for kind in cell.foreign:
            text = text.replace(things[kind], "")  # what the caller has said himself
        leaked = [mark for mark in self.door.cloud.marks(cell.identity) if mark in text]
        self._expect(not leaked, cell, f"tells of another's: {leaked}")

    def _expect(self, holds: bool, cell: Cell, otherwise: str) -> None:
        if not holds:
            self.wrong.append(f"{cell}: {otherwise}")
