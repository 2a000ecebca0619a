"""`lamina defrag` against a stand-in for a server: what it asks for, what it tells, and where it stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from lamina.cli import defrag, moving
from lamina.model.errors import LaminaError
from tests.unit.test_cli import Server, server, state  # noqa: F401 - fixtures

GPU = "0000:81:00.0"


def standing(fits: int | None) -> dict[str, Any]:
    return {"free_mb": 4096, "useless_mb": 1024, "fragmentation": 0.25, "fits": fits}


def move(number: int) -> dict[str, Any]:
    return {
        "server_id": f"id-{number}",
        "server_name": f"name-{number}",
        "from": {"host": "one", "gpus": [GPU]},
        "to": {"host": "two", "gpus": [GPU]},
        "types": ["nvidia-11"],
        "framebuffer_mb": 512,
        "stun_seconds": 2.0,
    }


def plan(moves: int, before: int = 0, after: int = 1) -> dict[str, Any]:
    return {
        "flavor": "large",
        "count": 1,
        "before": standing(before),
        "after": standing(after),
        "framebuffer_mb": 512 * moves,
        "stun_seconds": 2.0 * moves,
        "moves": [move(number) for number in range(moves)],
    }


class Fleet:
    """Answers for servers that are moved at once, or as a test says; every action asked for is kept."""

    def __init__(self, answering: Server) -> None:
        self.plans: list[dict[str, Any]] = []
        self.servers: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, list[dict[str, Any]]] = {}
        #: server -> how its migration ends
        self.ends: dict[str, dict[str, Any]] = {}
        self.landed = GPU
        self.acted: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self._door = answering

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/fleet/defragmentation/plan":
            self.bodies.append(json.loads(request.content))
            return httpx.Response(200, json={"plan": self.plans.pop(0)})
        if path.endswith("/action"):
            return self._act(path.split("/")[-2], json.loads(request.content))
        if path.startswith("/compute/servers/"):
            return httpx.Response(200, json={"server": self.server(path.split("/")[-1])})
        if path == "/fleet/operations":
            return httpx.Response(200, json={"operations": self.operations[request.url.params["server_id"]]})
        if path == "/fleet/gpus":
            vgpus = [{"server_id": name} for name, one in self.servers.items() if one["OS-EXT-SRV-ATTR:host"] == "two"]
            return httpx.Response(200, json={"gpus": [{"address": self.landed, "vgpus": vgpus}]})
        return self._door(request)

    def server(self, name: str) -> dict[str, Any]:
        return self.servers.setdefault(name, {"OS-EXT-SRV-ATTR:host": "one", "locked": False, "status": "SHUTOFF"})

    def _act(self, name: str, action: dict[str, Any]) -> httpx.Response:
        ((verb, said),) = action.items()
        self.acted.append((name, verb))
        ended: dict[str, Any] = {"action": verb, "state": "done", "error": None}
        if verb == "os-migrateLive":
            ended["action"] = "live-migration"
        if verb in ("migrate", "os-migrateLive"):
            ended |= self.ends.get(name, {})
            if ended["state"] == "done":
                self.server(name)["OS-EXT-SRV-ATTR:host"] = said["host"]
        self.operations.setdefault(name, []).append(ended)
        return httpx.Response(202)


@pytest.fixture
def fleet(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:  # noqa: F811
    made = Fleet(server)
    monkeypatch.setattr(httpx.MockTransport, "handle_request", lambda _transport, request: made(request))
    monkeypatch.setattr(moving, "PAUSE", 0.0)
    yield made
    assert made.plans == [], "every plan was asked for"


def run(state: Path, *words: str, said: str = "") -> Result:  # noqa: F811
    return CliRunner().invoke(defrag.command, [*words, "--state", str(state)], input=said)


def sentence(result: Result) -> str:
    assert isinstance(result.exception, LaminaError), result.output
    return result.exception.message


RUN = ("run", "--for", "large", "--yes")


def test_a_plan_is_shown_and_nothing_is_done(state: Path, fleet: Fleet) -> None:  # noqa: F811
    fleet.plans = [plan(2), plan(2)]
    shown = run(state, "plan", "--for", "large", "--most-moves", "5")
    assert shown.exit_code == 0, shown.output
    assert f"name-1 (id-1)   one {GPU}   two {GPU}   nvidia-11   0.5   2 s" in shown.output
    assert "2 servers, 1 GiB of framebuffer to move, about 4 s of stun in all" in shown.output
    assert "now:   0 of 1 of large fit; 1 of 4 GiB free are of no use (25.0 %)." in shown.output
    assert json.loads(run(state, "plan", "--for", "large", "--only-stopped", "--json").output) == plan(2)
    goal = {"flavor": "large", "count": 1}
    assert fleet.bodies == [goal | {"most_moves": 5, "only_stopped": False}, goal | {"most_moves": 20, "only_stopped": True}]
    assert fleet.acted == []


def test_an_empty_plan_says_so(state: Path, fleet: Fleet) -> None:  # noqa: F811
    fleet.plans = [plan(0), plan(0, before=1), plan(0), plan(0, before=1)]
    assert "No move helps." in run(state, "plan", "--for", "large").output
    assert "No move is needed." in run(state, "plan", "--for", "large").output
    assert sentence(run(state, *RUN)) == "There is no room for 1 of large yet."
    assert run(state, *RUN).exit_code == 0


def test_every_move_is_a_migration_and_its_confirmation(state: Path, fleet: Fleet) -> None:  # noqa: F811
    fleet.plans = [plan(2), plan(0, before=1)]
    done = run(state, *RUN)
    assert done.exit_code == 0, done.output
    assert fleet.acted == [(f"id-{n}", verb) for n in range(2) for verb in ("migrate", "confirmResize")]
    assert f"2 of 2: name-1 (id-1) is on two {GPU}, after" in done.output
    assert "Done. 1 of 1 of large fit" in done.output
    assert [body["only_stopped"] for body in fleet.bodies] == [False, False]


def test_a_server_that_runs_is_migrated_live_unless_it_may_be_stopped(state: Path, fleet: Fleet) -> None:  # noqa: F811
    for words, verbs in (((), ["os-migrateLive"]), (("--cold",), ["migrate", "confirmResize"])):
        fleet.servers, fleet.acted, fleet.plans = {}, [], [plan(1), plan(0, before=1)]
        fleet.server("id-0")["status"] = "ACTIVE"
        assert run(state, *RUN, *words).exit_code == 0
        assert fleet.acted == [("id-0", verb) for verb in verbs]
    assert run(state, *RUN, "--cold", "--only-stopped").exit_code == 2


def test_nothing_is_moved_before_somebody_says_yes(state: Path, fleet: Fleet) -> None:  # noqa: F811
    fleet.plans = [plan(1), plan(1), plan(1), plan(0, before=1)]
    for said in ("", "n\n"):
        assert run(state, "run", "--for", "large", said=said).exit_code == 1
    assert fleet.acted == []
    assert run(state, "run", "--for", "large", said="y\n").exit_code == 0


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"OS-EXT-SRV-ATTR:host": "three"}, "It has left its host since; plan anew."),
        ({"locked": True}, "It has been locked since; plan anew."),
        ({"status": "ACTIVE"}, "It is not shut off any more."),
    ],
)
def test_a_plan_that_is_not_true_any_more_is_not_gone_on_with(
    state: Path, fleet: Fleet, changed: dict[str, Any], why: str  # noqa: F811
) -> None:
    fleet.plans = [plan(3)]
    fleet.server("id-1").update(changed)
    told = sentence(run(state, *RUN, "--only-stopped"))
    assert told == f"Stopped at move 2 of 3, name-1 (id-1); what came before it stays. {why}"
    assert {name for name, _ in fleet.acted} == {"id-0"}


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ({"state": "undone", "error": {"message": "it is full"}}, "Server id-1 could not be moved and is where it was: it is full"),
        ({"state": "stuck", "error": {"message": "no answer"}}, "The operation migrate on server id-1 is stuck (no answer)"),
    ],
)
def test_the_first_move_that_fails_is_the_last(state: Path, fleet: Fleet, end: dict[str, Any], why: str) -> None:  # noqa: F811
    fleet.plans, fleet.ends = [plan(3)], {"id-1": end}
    told = sentence(run(state, *RUN))
    assert told.startswith(f"Stopped at move 2 of 3, name-1 (id-1); what came before it stays. {why}")
    assert fleet.acted == [("id-0", "migrate"), ("id-0", "confirmResize"), ("id-1", "migrate")]


def test_a_server_that_came_to_another_gpu_ends_the_run(state: Path, fleet: Fleet) -> None:  # noqa: F811
    fleet.plans, fleet.landed = [plan(2)], "0000:82:00.0"
    assert "It has come to another GPU than was planned" in sentence(run(state, *RUN))
    assert fleet.acted == [("id-0", "migrate"), ("id-0", "confirmResize")]


@pytest.mark.parametrize("words", [(), ("--for", "f", "--lower"), ("--lower", "--count", "2"), ("--for", "f", "--count", "0")])
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_goal_is_one_and_clear(state: Path, verb: str, words: tuple[str, ...]) -> None:  # noqa: F811
    assert run(state, verb, *words).exit_code == 2


def test_lowering_is_asked_for_without_a_count(state: Path, fleet: Fleet) -> None:  # noqa: F811
    fleet.plans = [plan(0) | {"flavor": None, "count": None, "before": standing(None)}]
    shown = run(state, "run", "--lower")
    assert (shown.exit_code, shown.output) == (0, "No move helps.\nnow:   1 of 4 GiB free are of no use (25.0 %).\n")
    assert fleet.bodies == [{"lower": True, "most_moves": 20, "only_stopped": False}]
