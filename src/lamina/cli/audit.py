"""`lamina audit`: who has done what to which object, and how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from lamina.cli.state import default_state

#: most events asked for at once
PAGE = 1000
#: seconds between two looks, and how far each goes back: who commits later may have begun earlier
LOOK, BACK = 1.0, 30.0
MOMENT = "A moment as 2026-03-01T12:00:00Z, or how long ago: 90s, 30m, 1h, 7d."

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@click.command("audit", help="Show who has done what to which object, and how it ended; the newest events, in their order.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
@click.option("--since", metavar="TIME", help=MOMENT)
@click.option("--until", metavar="TIME", help="Likewise; the moment itself is left out.")
@click.option("--user", metavar="NAME|ID", help="Who did it.")
@click.option("--project", metavar="ID", help="The project that its token was for.")
@click.option("--target", metavar="ID", help="The object, or the one that it belongs to.")
@click.option("--action", metavar="TEXT", help="A part of the action, as os-stop or servers:delete.")
@click.option("--outcome", type=click.Choice(["success", "failure", "pending"]), help="How it ended.")
@click.option("--request", metavar="ID", help="The id of the request, or its global one.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many, the newest.")
@click.option("--follow", is_flag=True, help="Go on with those that come.")
@click.option("--json", "as_json", is_flag=True, help="Print CADF events, one a line.")
def command(state: Path | None, limit: int, follow: bool, as_json: bool, **sought: str | None) -> None:
    from lamina.cli.client import Client

    for name in ("since", "until"):
        sought[name] = moment(name, sought[name])
    asked = {name: value for name, value in sought.items() if value is not None}
    if follow and "until" in asked:
        raise click.UsageError("--follow goes on for ever, and --until does not")
    with Client.connect(state or default_state()) as client:

        def ask(query: dict[str, Any]) -> dict[str, Any]:
            answer: dict[str, Any] = client.call("fleet", "GET", f"/audit?{urlencode(query)}")
            return answer

        begun = datetime.now(UTC)
        events = newest(ask, asked, limit)
        if as_json:
            _print_lines(events)
        else:
            _print_table(events)
        if follow:
            for event in coming(ask, asked, events, begun):
                click.echo(_line(event) if as_json else "  ".join(row(event)))


def moment(name: str, text: str | None) -> str | None:
    """A moment as it was given, or the one so long ago. Raises `BadRequest`."""
    from lamina.cli.fleet import seconds
    from lamina.model.errors import BadRequest

    if text is None or "-" in text:
        return text
    try:
        return (datetime.now(UTC) - timedelta(seconds=seconds(text))).isoformat()
    except BadRequest as error:
        raise BadRequest(f"--{name}: {text!r} is neither a moment like 2026-03-01T12:00:00Z nor a time like 90s, 30m, 1h or 7d") from error


def newest(ask: Ask, asked: dict[str, str], limit: int) -> list[dict[str, Any]]:
    """The newest `limit` of the events asked for, the oldest of them first."""
    found: list[dict[str, Any]] = []
    marker: int | None = None
    while len(found) < limit:
        query = asked | {"limit": min(PAGE, limit - len(found))} | ({"marker": marker} if marker is not None else {})
        answer = ask(query)
        found += answer["events"]
        marker = answer["next"]
        if marker is None:
            break
    return found[::-1]


def coming(ask: Ask, asked: dict[str, str], before: list[dict[str, Any]], begun: datetime) -> Iterator[dict[str, Any]]:
    """Events as they come, each once it has ended, for ever."""
    told = {event["id"] for event in before if event["outcome"] != "pending"}
    since = begun
    while True:
        found: list[dict[str, Any]] = []
        query: dict[str, Any] = asked | {"since": (since - timedelta(seconds=BACK)).isoformat(), "sort_dir": "asc", "limit": PAGE}
        looked_at = datetime.now(UTC)
        while True:
            answer = ask(query)
            found += answer["events"]
            if answer["next"] is None:
                break
            query["marker"] = answer["next"]
        ended = [event for event in found if event["outcome"] != "pending" and event["id"] not in told]
        told = (told | {event["id"] for event in ended}) & {event["id"] for event in found}
        yield from ended
        since = looked_at
        time.sleep(LOOK)


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"))


def _print_lines(events: list[dict[str, Any]]) -> None:
    for event in events:
        click.echo(_line(event))


def row(event: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table, the time UTC. Names are others' words: what in them would move a terminal is written out."""
    when = datetime.fromisoformat(event["eventTime"]).strftime("%Y-%m-%d %H:%M:%S")
    who, host = event["initiator"], event["initiator"].get("host", {})
    told = (
        when,
        event["outcome"],
        event.get("reason", {}).get("reasonCode", "-"),
        who["name"],
        host.get("address", "-"),
        event["action"],
        event["target"]["id"],
        who.get("request_id", "-"),
    )
    return tuple(plain(word) for word in told)


def plain(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print_table(events: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from lamina.cli.console import console

    if not events:
        click.echo("There are no such events.")
        return
    table = Table("when", "outcome", "status", "who", "from", "action", "target", "request", box=box.SIMPLE)
    for event in events:
        table.add_row(*(Text(word, overflow="fold") for word in row(event)))
    console().print(table)
