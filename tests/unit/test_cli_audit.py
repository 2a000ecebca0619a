"""`lamina audit` against a stand-in for a server."""

from __future__ import annotations

import dataclasses
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from lamina.cli import audit
from lamina.model.audit import Event, Initiator, Outcome, cadf
from tests.unit.test_audit import EVENT
from tests.unit.test_cli import CLOUD


class Trail:
    """Answers as the Fleet API does, in pages of two at most."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/auth/tokens"):
            catalog = [{"type": "fleet", "endpoints": [{"interface": "public", "url": "http://127.0.0.1:1/fleet"}]}]
            return httpx.Response(201, json={"token": {"catalog": catalog}}, headers={"X-Subject-Token": "a-token"})
        query = dict(parse_qsl(request.url.query.decode()))
        self.asked.append(query)
        rows = list(enumerate(self.events, 1))
        if query.get("sort_dir") != "asc":
            rows = [row for row in rows[::-1] if "marker" not in query or row[0] < int(query["marker"])]
        else:
            rows = [row for row in rows if row[0] > int(query.get("marker", "0"))]
        page = rows[: min(2, int(query["limit"]))]
        following = page[-1][0] if len(page) == min(2, int(query["limit"])) else None
        return httpx.Response(200, json={"events": [cadf(event) for _, event in page], "next": following})


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch) -> Trail:
    trail, real = Trail(), httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=httpx.MockTransport(trail), trust_env=False))
    return trail


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"lamina": CLOUD}}))
    return tmp_path


def run(state: Path, *words: str) -> Result:
    return CliRunner().invoke(audit.command, [*words, "--state", str(state)])


def numbered(*numbers: int) -> list[Event]:
    return [dataclasses.replace(EVENT, id=f"event {n}") for n in numbers]


def ids_of(result: Result) -> list[str]:
    return [json.loads(line)["id"] for line in result.output.splitlines()]


def test_the_newest_events_are_printed_in_their_order(trail: Trail, state: Path) -> None:
    trail.events = numbered(*range(7))
    result = run(state, "--limit", "5", "--json")
    assert result.exit_code == 0, result.output
    assert ids_of(result) == [f"event {n}" for n in range(2, 7)]
    assert ids_of(run(state, "--limit", "100", "--json")) == [f"event {n}" for n in range(7)]


def test_what_is_sought_is_asked_for(trail: Trail, state: Path) -> None:
    words = {"since": "2026-03-01T12:00:00+01:00", "until": "2026-03-02", "user": "ann & bob", "project": "p", "target": "s"}
    words |= {"action": "os-stop", "outcome": "failure", "request": "req-1"}
    result = run(state, *itertools.chain.from_iterable((f"--{name}", value) for name, value in words.items()))
    assert result.output == "There are no such events.\n"
    assert trail.asked == [words | {"limit": "50"}]


def test_how_long_ago_is_a_moment_too(trail: Trail, state: Path) -> None:
    run(state, "--since", "2h")
    ago = datetime.now(UTC) - datetime.fromisoformat(trail.asked[0]["since"])
    assert 7200 <= ago.total_seconds() < 7300
    refused = run(state, "--since", "long")
    assert refused.exit_code == 1
    assert "--since: 'long' is neither" in str(refused.exception)


@pytest.mark.weakness(150)
def test_no_name_moves_the_terminal_or_makes_a_line(trail: Trail, state: Path) -> None:
    name = "ann\n2026-01-01 success\x1b[2J\u202e[red]"
    trail.events = [dataclasses.replace(EVENT, initiator=Initiator(id="u", name=name))]
    result = run(state)
    assert r"ann\n2026-01-01" in "".join(result.output.split())
    assert all(c.isprintable() or c == "\n" for c in result.output)
    cells = audit.row(cadf(trail.events[0]))
    assert cells[3] == r"ann\n2026-01-01 success\x1b[2J\u202e[red]"


def test_those_that_come_are_told_once_each_when_they_have_ended(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    trail.events = numbered(1)

    def ask(query: dict[str, Any]) -> dict[str, Any]:
        sent = "&".join(f"{name}={value}".replace("+", "%2B") for name, value in query.items())
        answer: dict[str, Any] = trail(httpx.Request("GET", f"http://x/audit?{sent}")).json()
        return answer

    pending = dataclasses.replace(EVENT, id="event 4", outcome=Outcome.PENDING)
    later = [numbered(1, 2, 3), [*numbered(1, 2, 3), pending], numbered(1, 2, 3, 0, 4)]

    def sleep(_seconds: float) -> None:
        trail.events = later.pop(0)

    monkeypatch.setattr("time.sleep", sleep)
    coming = audit.coming(ask, {"user": "ann"}, [cadf(event) for event in numbered(1)], datetime.now(UTC))
    assert [event["id"] for event in itertools.islice(coming, 4)] == ["event 2", "event 3", "event 0", "event 4"]
    assert all(asked["user"] == "ann" for asked in trail.asked)


def test_following_has_no_end(state: Path) -> None:
    assert run(state, "--follow", "--until", "2026-03-01").exit_code == 2
