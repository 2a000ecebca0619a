"""The verbs of many hosts as they are typed: tokens, joining, the agent; what is wrong is said before anything is begun."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lamina.cli import agent, fleet, join
from lamina.cli.state import agent_state
from lamina.hosts import joining
from lamina.hosts.join_tokens import JoinToken
from lamina.hosts.membership import Membership
from lamina.model.errors import BadRequest, Conflict, LaminaError
from tests.unit.test_cli import Server, state  # noqa: F401 - a fixture

TOKEN = JoinToken.new("ab" * 32)
ROW = {"id": "t", "host": "one", "created_at": 0.0, "expires_at": 3600.0, "used_at": None, "used_by": None}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Stands in for the Lamina that the verbs call."""
    import httpx

    server, made = Server(), httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: made(transport=httpx.MockTransport(server)))
    return server


def run(command: Any, *arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, LaminaError | None]:
    """Exit code, what was printed, and the error that `main` would tell."""
    done = CliRunner().invoke(command, list(arguments), input=stdin, env=environment)
    return done.exit_code, done.stdout, done.exception if isinstance(done.exception, LaminaError) else None


# ------------------------------------------------------------------------------------------------ tokens


@pytest.mark.parametrize(("said", "wanted"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604800)])
def test_how_long_a_token_is_good_for(said: str, wanted: int) -> None:
    assert fleet.seconds(said) == wanted


@pytest.mark.parametrize("said", ["", "1", "h", "1w", "-1h", "1h ", "1.5h", "1h\n"])
def test_what_is_no_time(said: str) -> None:
    with pytest.raises(BadRequest, match="as in 90s, 30m, 1h or 7d"):
        fleet.seconds(said)


def test_a_token_is_printed_alone(server: Server, state: Path) -> None:  # noqa: F811
    server.answers["POST", "/fleet/tokens"] = 201, {"token": ROW | {"secret": TOKEN.text(), "url": "https://control:8775"}}
    code, printed, _ = run(fleet.command, "token", "create", "--host", "one", "--expires", "30m", "--state", str(state))
    assert (code, printed) == (0, f"{TOKEN.text()}\n")
    assert json.loads(server.requests[-1].content) == {"host": "one", "expires_in": 1800}


def test_tokens_are_listed_with_who_has_used_them(server: Server, state: Path) -> None:  # noqa: F811
    used = ROW | {"id": "u", "host": None, "used_at": 60.0, "used_by": "two"}
    server.answers["GET", "/fleet/tokens"] = 200, {"tokens": [ROW, used]}
    _, printed, _ = run(fleet.command, "token", "list", "--state", str(state))
    assert printed.splitlines() == [
        "t  for one  good until 1970-01-01 01:00:00 UTC",
        "u  for any host  used by two at 1970-01-01 00:01:00 UTC",
    ]


# ------------------------------------------------------------------------------------------------ joining


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `joining.join` was asked."""
    asked: list[tuple[Any, ...]] = []

    def ask(urls: tuple[str, ...], token: JoinToken, host: str, where: Path, clock: object) -> Membership:
        asked.append((urls, token, host, where))
        return Membership(where, host, urls)

    monkeypatch.setattr(joining, "join", ask)
    return asked


def from_file(folder: Path) -> tuple[list[str], str, dict[str, str]]:
    (folder / "token").write_text(f"{TOKEN.text()}\n")
    return ["--token-file", str(folder / "token")], "", {}


def from_input(folder: Path) -> tuple[list[str], str, dict[str, str]]:
    return [], f"{TOKEN.text()}\n", {}


def from_environment(folder: Path) -> tuple[list[str], str, dict[str, str]]:
    return [], "", {join.TOKEN: TOKEN.text()}


def from_dash(folder: Path) -> tuple[list[str], str, dict[str, str]]:
    return ["--token-file", "-"], TOKEN.text(), {join.TOKEN: "not this one"}


@pytest.mark.parametrize("source", [from_file, from_input, from_environment, from_dash])
def test_a_token_is_read_from_where_it_is_not_seen(
    joins: list[tuple[Any, ...]], tmp_path: Path, source: Callable[[Path], tuple[list[str], str, dict[str, str]]]
) -> None:
    options, stdin, environment = source(tmp_path)
    arguments = ["https://a:1", "https://b:2", "--name", "host", "--state", str(tmp_path), *options]
    code, printed, _ = run(join.command, *arguments, stdin=stdin, **environment)
    assert (code, printed) == (0, "joined as host; 'lamina agent' runs servers here\n")
    assert joins == [(("https://a:1", "https://b:2"), TOKEN, "host", tmp_path)]


@pytest.mark.parametrize("options", [[], ["--token-file", "/nonexistent/token"]])
def test_without_a_token_nothing_is_begun(joins: list[tuple[Any, ...]], tmp_path: Path, options: list[str]) -> None:
    _, _, error = run(join.command, "https://a:1", "--state", str(tmp_path), *options, stdin="nonsense")
    assert isinstance(error, BadRequest)
    assert joins == []


# ------------------------------------------------------------------------------------------------ the agent


FLEET = "hosts:\n" + "".join(f"  - {{name: {name}, vcpus: 1, memory_mb: 1024, disk_gb: 1}}\n" for name in ("one", "two"))


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        (["--host", "one"], BadRequest, "--host: chooses a host of a fleet file"),
        (["--fleet", "FILE", "--config", "agent.toml"], BadRequest, "--config: a simulated host has its settings in the fleet file"),
        (["--fleet", "FILE"], BadRequest, "--host: the fleet file has 2 hosts, and an agent runs one of them"),
        (["--fleet", "FILE", "--host", "three"], BadRequest, "--host: the fleet file has no host 'three'"),
        (["--fleet", "FILE", "--host", "two"], Conflict, "This host joined as one, and is called two in its settings"),
    ],
)
def test_an_agent_that_does_not_know_which_host_it_is(tmp_path: Path, options: list[str], kind: type[LaminaError], told: str) -> None:
    (tmp_path / "membership").mkdir()
    Membership.write(tmp_path, "one", ("https://control:8775",), b"", b"")
    (tmp_path / "fleet.yaml").write_text(FLEET)
    said = [str(tmp_path / "fleet.yaml") if option == "FILE" else option for option in options]
    _, _, error = run(agent.command, "--state", str(tmp_path), *said)
    assert type(error) is kind
    assert error.message.startswith(told)


def test_an_agent_that_has_not_joined_says_how(tmp_path: Path) -> None:
    _, _, error = run(agent.command, "--fleet", "demo", "--state", str(tmp_path))
    assert isinstance(error, Conflict)
    assert "'lamina join URL' does that" in error.message


@pytest.mark.parametrize(("user", "wanted"), [(0, "/var/lib/lamina"), (1000, "/somewhere/lamina-agent")])
def test_where_an_agent_keeps_its_state(monkeypatch: pytest.MonkeyPatch, user: int, wanted: str) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert agent_state() == Path(wanted)
