"""`lamina defrag`: make room on GPUs by moving servers, after a look at what that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from lamina.cli.state import default_state
from lamina.model.errors import Conflict, LaminaError

if TYPE_CHECKING:
    from lamina.cli.client import Client

Plan = Mapping[str, Any]


@click.group("defrag", help="Make room on GPUs by moving servers, after a look at what that takes.")
def command() -> None:
    pass


def _goal(verb: Callable[..., None]) -> Callable[..., None]:
    """The options that both verbs have; they go to `_body`."""
    few = click.IntRange(1, 1000)
    for option in (
        click.option("--most-moves", type=few, default=20, show_default=True, metavar="N", help="At most so many moves."),
        click.option("--lower", is_flag=True, help="Make more of what is free useful to the servers that are expected."),
        click.option("--count", type=few, metavar="N", help="For so many servers.  [default: 1]"),
        click.option("--for", "flavor", metavar="FLAVOR", help="Make room for servers of this flavor (name or id)."),
        click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]"),
    ):
        verb = option(verb)
    return verb


def _body(flavor: str | None, count: int | None, lower: bool, most_moves: int) -> dict[str, Any]:
    """What is asked for, as the Fleet API takes it."""
    if (flavor is None) == (not lower):
        raise click.UsageError("Say either --for FLAVOR or --lower.")
    if lower and count is not None:
        raise click.UsageError("--count goes with --for.")
    goal: dict[str, Any] = {"lower": True} if lower else {"flavor": flavor, "count": count or 1}
    return goal | {"most_moves": most_moves}


def _asked(client: Client, body: dict[str, Any]) -> Plan:
    plan: Plan = client.call("fleet", "POST", "/defragmentation/plan", body)["plan"]
    return plan


@command.command("plan")
@_goal
@click.option("--only-stopped", is_flag=True, help="Leave servers that run where they are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan_(state: Path | None, only_stopped: bool, as_json: bool, **goal: Any) -> None:
    """Show which servers to move, in order, and what that would do.

    Nothing is changed.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import console, print_json

    body = _body(**goal) | {"only_stopped": only_stopped}
    with Client.connect(state or default_state()) as client:
        plan = _asked(client, body)
    if as_json:
        print_json(plan)
        return
    if plan["moves"]:
        from rich import box
        from rich.table import Table

        table = Table("", "server", "from", "to", "vGPUs", "GiB", "stun", box=box.SIMPLE)
        for number, move in enumerate(plan["moves"], 1):
            source, target = place(move["from"]), place(move["to"])
            held = ", ".join(move["types"]) or "none"
            table.add_row(str(number), named(move), source, target, held, gib(move["framebuffer_mb"]), f"{move['stun_seconds']:g} s")
        console().print(table)
    for line in told(plan):
        click.echo(line)


@command.command()
@_goal
@click.option("--only-stopped", is_flag=True, help="Leave servers that run where they are.")
@click.option("--cold", is_flag=True, help="Stop servers that run, to start them again on the other host, rather than migrate them live.")
@click.option("--yes", is_flag=True, help="Do not ask before the first move.")
def run(state: Path | None, only_stopped: bool, cold: bool, yes: bool, **goal: Any) -> None:
    """Plan, ask, and move one server after the other.

    Servers that run are migrated live. The first move that fails is the last one.
    """
    from lamina.cli.client import Client

    if only_stopped and cold:
        raise click.UsageError("--cold is for servers that run, which --only-stopped leaves where they are.")
    body = _body(**goal) | {"only_stopped": only_stopped}
    with Client.connect(state or default_state()) as client:
        plan = _asked(client, body)
        for number, move in enumerate(plan["moves"], 1):
            click.echo(f"{number}. {line_of(move)}")
        for line in told(plan):
            click.echo(line)
        if plan["moves"]:
            if not yes:
                click.confirm(f"Move {_servers(len(plan['moves']))} now?", abort=True)
            _carry_out(client, plan, only_stopped=only_stopped, cold=cold)
            plan = _asked(client, body | {"most_moves": 1})
            click.echo(f"Done. {standing(plan, 'before')}")
    if plan["flavor"] is not None and plan["before"]["fits"] < plan["count"]:
        raise LaminaError(f"There is no room for {plan['count']} of {plan['flavor']} yet.")


def _carry_out(client: Client, plan: Plan, *, only_stopped: bool, cold: bool) -> None:
    """Every move in its turn. Raises `LaminaError` that says how far it came."""
    from lamina.cli.console import console
    from lamina.cli.moving import move as move_server

    out, total = console(), len(plan["moves"])
    for number, move in enumerate(plan["moves"], 1):
        began = time.monotonic()
        try:
            with out.status(f"{number} of {total}: {line_of(move)}"):
                stopped = _check_still_true(client, move, only_stopped)
                move_server(client, move["server_id"], move["to"]["host"], live=not (stopped or cold))
                _check_landed(client, move)
        except LaminaError as error:
            raise LaminaError(f"Stopped at move {number} of {total}, {named(move)}; what came before it stays. {error.message}") from error
        click.echo(f"{number} of {total}: {named(move)} is on {place(move['to'])}, after {time.monotonic() - began:.1f} s")


def _check_still_true(client: Client, move: Mapping[str, Any], only_stopped: bool) -> bool:
    """Whether the server is shut off. Raises `Conflict` where it is not any more what the plan took it for."""
    server = client.call("compute", "GET", f"/servers/{quote(move['server_id'], safe='')}")["server"]
    if server["OS-EXT-SRV-ATTR:host"] != move["from"]["host"]:
        raise Conflict("It has left its host since; plan anew.")
    if server["locked"]:
        raise Conflict("It has been locked since; plan anew.")
    stopped = bool(server["status"] == "SHUTOFF")
    if only_stopped and not stopped:
        raise Conflict("It is not shut off any more.")
    return stopped


def _check_landed(client: Client, move: Mapping[str, Any]) -> None:
    """Raises `Conflict` where the server has come to other GPUs of the host than the plan goes on from."""
    gpus = client.call("fleet", "GET", f"/gpus?host={quote(move['to']['host'], safe='')}")["gpus"]
    landed = sorted(gpu["address"] for gpu in gpus for vgpu in gpu["vgpus"] if vgpu["server_id"] == move["server_id"])
    if landed != sorted(move["to"]["gpus"]):
        raise Conflict("It has come to another GPU than was planned, as others took room there meanwhile; plan anew.")


# ---------------------------------------------------------------------------------------------------- words


def gib(framebuffer_mb: int) -> str:
    return f"{framebuffer_mb / 1024:.4g}"


def _servers(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"


def place(where: Mapping[str, Any]) -> str:
    return " ".join([where["host"], *dict.fromkeys(where["gpus"])])


def named(move: Mapping[str, Any]) -> str:
    return f"{move['server_name']} ({move['server_id']})"


def line_of(move: Mapping[str, Any]) -> str:
    return f"{named(move)}: {place(move['from'])} -> {place(move['to'])}, {', '.join(move['types']) or 'no vGPU'}"


def standing(plan: Plan, when: str) -> str:
    """One sentence: how many fit, and how much of what is free is of no use."""
    one = plan[when]
    fits = f"{one['fits']} of {plan['count']} of {plan['flavor']} fit; " if plan["flavor"] is not None else ""
    useless = f"{gib(one['useless_mb'])} of {gib(one['free_mb'])} GiB free are of no use ({100 * one['fragmentation']:.1f} %)."
    return fits + useless


def told(plan: Plan) -> list[str]:
    """What a plan comes to, in lines."""
    if not plan["moves"]:
        if plan["flavor"] is not None and plan["before"]["fits"] >= plan["count"]:
            return ["No move is needed.", f"now:   {standing(plan, 'before')}"]
        return ["No move helps.", f"now:   {standing(plan, 'before')}"]
    cost = f"{gib(plan['framebuffer_mb'])} GiB of framebuffer to move"
    stun = f"about {plan['stun_seconds']:g} s of stun in all, were they migrated live"
    return [
        f"{_servers(len(plan['moves']))}, {cost}, {stun}.",
        f"now:   {standing(plan, 'before')}",
        f"after: {standing(plan, 'after')}",
    ]
