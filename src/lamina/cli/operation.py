"""`lamina operation`: what is being done to servers, and the operator's word on an operation that is stuck."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from lamina.cli.state import default_state

_state = click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")


@click.group("operation", help="Look at operations; resume or abandon a stuck one.")
def command() -> None:
    pass


@command.command("list")
@_state
@click.option("--server", metavar="ID", help="Every operation of this server, ended ones too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_operations(state: Path | None, server: str | None, as_json: bool) -> None:
    """List operations that have not ended.

    With --server, every operation of that server.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import console, print_json

    with Client.connect(state or default_state()) as client:
        if server is None:
            operations = client.call("fleet", "GET", "/operations")["operations"]
        else:
            operations = client.call("fleet", "GET", f"/operations?server_id={quote(server, safe='')}")["operations"]
    if as_json:
        print_json(operations)
    elif operations:
        from rich import box
        from rich.table import Table

        table = Table("operation", "kind", "server", "state", "step", "since", "why", box=box.SIMPLE)
        for one in operations:
            table.add_row(*row(one))
        console().print(table)
    else:
        click.echo("There are no operations." if server else "No operation is under way.")


def row(operation: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table; the step is the one that failed, else the one the log's last event is about, the time is UTC."""
    since = datetime.datetime.fromtimestamp(operation["updated_at"], datetime.UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    failed_at = (operation["error"] or {}).get("step")
    step = failed_at or (operation["events"][-1]["step"] if operation["events"] else "-")
    why = operation["abandoned_reason"] or (operation["error"] or {}).get("message") or "-"
    return operation["id"], operation["kind"], operation["server_id"], operation["state"], step, since, why


@command.command()
@click.argument("operation")
@_state
def resume(operation: str, state: Path | None) -> None:
    """Let a stuck OPERATION try again.

    Mend first what stopped it; repeating a step is always safe.
    """
    from lamina.cli.client import Client

    with Client.connect(state or default_state()) as client:
        client.call("fleet", "POST", f"/operations/{quote(operation, safe='')}/resume")
    click.echo(f"Operation {operation} is tried again.")


@command.command()
@click.argument("operation")
@_state
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the operation.")
def abandon(operation: str, state: Path | None, reason: str) -> None:
    """Give a stuck OPERATION up.

    What it has left on hosts is yours to clear.
    """
    from lamina.cli.client import Client

    if not 1 <= len(reason.strip()) <= 1000:
        raise click.BadParameter("say why in 1 to 1000 characters", param_hint="--reason")
    with Client.connect(state or default_state()) as client:
        client.call("fleet", "POST", f"/operations/{quote(operation, safe='')}/abandon", {"reason": reason})
    click.echo(f"Operation {operation} is given up.")
