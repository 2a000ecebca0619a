"""What the pages say is so: routes, verbs, kinds of operations and the table of states are held against the code.

``python -m tests.unit.test_docs`` writes the page that is wholly made from the code, ``docs/server-states.md``.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from lamina.api import agents
from lamina.api.compute import server_actions
from lamina.api.rooms import ROOMS
from lamina.cli.main import VERBS, group
from lamina.model.servers import transition_table
from lamina.operations.kinds import KINDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STATES = DOCS / "server-states.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

_ROW = re.compile(r"\| (?P<methods>[A-Z, ]+) \| `(?P<path>[^`]+)` \| (?P<verdict>done|partial|not) \| (?P<note>.*) \|")
_ACTION = re.compile(r"\| (?P<names>`\w[^|]+`) \| (?P<verdict>done|partial|not) \| .*\|")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")


def server_states() -> str:
    """The page of the state machine."""
    rows = transition_table()
    columns = list(rows[0])
    lines = [
        "# Server states",
        "",
        "What may be asked of a server in which state, and where it comes to rest. Made from `lamina/model/servers.py`, which the",
        "operations obey: the one table there is.",
        "",
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
        *("| " + " | ".join(row[column] for column in columns) + " |" for row in rows),
        "",
        "`from` are vm_states; `task_state` is shown while the action is under way (`-`: none); `to` is the vm_state it ends in;",
        "`while busy` says whether the action is taken while another one is under way, which then turns back or is finished first.",
    ]
    return "\n".join(lines) + "\n"


def documented() -> dict[tuple[str, str], str]:
    """(method, path) -> verdict, from ``docs/api.md``."""
    found: dict[tuple[str, str], str] = {}
    for line in (DOCS / "api.md").read_text().splitlines():
        row = _ROW.fullmatch(line)
        if row is not None:
            for method in row["methods"].split(", "):
                assert (method, row["path"]) not in found, f"twice: {method} {row['path']}"
                found[method, row["path"]] = row["verdict"]
    return found


def served() -> set[tuple[str, str]]:
    """Every call; with or without a slash at its end a path is the same one."""
    return {(route.method, (room.prefix + route.path).rstrip("/") or "/") for room in (*ROOMS, agents.ROOM) for route in room.routes}


@pytest.mark.weakness(1059)
def test_every_route_is_in_the_table_of_api_calls() -> None:
    missing = served() - documented().keys()
    assert not missing, f"docs/api.md does not have: {sorted(missing)}"


@pytest.mark.weakness(1059)
def test_the_table_promises_no_call_that_is_not_served() -> None:
    promised = {call for call, verdict in documented().items() if verdict != "not"}
    assert promised <= served(), f"docs/api.md has what is not served: {sorted(promised - served())}"


def test_every_action_on_a_server_is_in_the_table_of_actions() -> None:
    rows = [row for line in (DOCS / "api.md").read_text().splitlines() if (row := _ACTION.fullmatch(line))]
    told = {name: row["verdict"] for row in rows for name in re.findall(r"`([^`]+)`", row["names"])}
    assert told == dict.fromkeys(server_actions.ACTIONS, "done") | dict.fromkeys(server_actions.NOT_HERE, "not")


def test_what_is_not_or_partly_answered_has_a_reason() -> None:
    for line in (DOCS / "api.md").read_text().splitlines():
        row = _ROW.fullmatch(line)
        if row is not None and row["verdict"] != "done":
            assert len(row["note"].strip()) > 10, line


def test_the_page_of_server_states_is_the_table_of_the_code() -> None:
    assert STATES.read_text() == server_states(), "write it anew with: python -m tests.unit.test_docs"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_told(verb: str) -> None:
    command = group.get_command(click.Context(group), verb)
    assert command is not None
    text = (DOCS / "operations.md").read_text()
    names = [f"{verb} {name}" for name in command.commands] if isinstance(command, click.Group) else [verb]
    for name in names:
        assert f"lamina {name}" in text


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_every_kind_of_operation_is_told(kind: str) -> None:
    assert f"| `{kind}` |" in (DOCS / "architecture.md").read_text()


@pytest.mark.weakness(1357)
def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    text = (DOCS / "decisions" / "0003-dependencies.md").read_text()
    names = {re.split(r"[\[>=<; ]", requirement)[0] for requirement in wanted} - {"lamina"}
    assert {name for name in names if f"| {name} |" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} leads to {target}"


def test_every_test_named_in_the_promises_exists() -> None:
    for target in re.findall(r"`(tests/[^`]+)`", (DOCS / "architecture.md").read_text()):
        assert (ROOT / target).exists(), target


if __name__ == "__main__":
    STATES.write_text(server_states())
