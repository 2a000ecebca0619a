"""`lamina fleet`: hosts and GPUs as they are now, and which machines may become hosts."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import click

from lamina.cli.state import default_state

_state = click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("fleet", help="Look at hosts and GPUs; let machines join; remove a host; reboot a simulated one.")
def command() -> None:
    pass


@command.command()
@_state
@_json
@click.option("--host", metavar="NAME", help="This host only.")
def show(state: Path | None, as_json: bool, host: str | None) -> None:
    """Draw every GPU as a bar of slots.

    Beside each host stands how many more vGPUs of each type would fit there.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import console, print_json

    with Client.connect(state or default_state()) as client:
        if host is None:
            hosts = client.call("fleet", "GET", "/hosts")["hosts"]
            gpus = client.call("fleet", "GET", "/gpus")["gpus"]
        else:
            hosts = [client.call("fleet", "GET", f"/hosts/{quote(host, safe='')}")["host"]]
            gpus = client.call("fleet", "GET", f"/gpus?host={quote(host, safe='')}")["gpus"]
    if as_json:
        print_json({"hosts": hosts, "gpus": gpus})
        return
    from lamina.cli import pictures

    out = console()
    out.print(pictures.picture(gpus, width=max(16, min(pictures.WIDTH, out.width - 40))))
    for one in hosts:
        if one["state"] != "up":
            out.print(f"{one['name']} is down.", markup=False)
        for problem in one["problems"]:
            out.print(f"{one['name']}: {problem}", markup=False)


@command.command()
@_state
@_json
def queue(state: Path | None, as_json: bool) -> None:
    """List the servers that wait for room, in their order, each with why it has none."""
    from rich import box
    from rich.table import Table

    from lamina.cli.client import Client
    from lamina.cli.console import console, print_json

    with Client.connect(state or default_state()) as client:
        waiting = client.call("fleet", "GET", "/queue")["queue"]
    if as_json:
        print_json(waiting)
        return
    table = Table("", "server", "project", "until", "why", box=box.SIMPLE)
    for one in waiting:
        until = datetime.fromtimestamp(one["expires_at"]).astimezone().isoformat(" ", "seconds")
        table.add_row(str(one["position"]), one["server_id"], one["project_id"], until, one["reason"])
    console().print(table)


@command.command()
@_state
@_json
@click.option("--host", metavar="NAME", help="This host only.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="How many, the newest first.")
def repairs(state: Path | None, as_json: bool, host: str | None, limit: int) -> None:
    """List what was out of order and was mended, the newest first."""
    from rich import box
    from rich.table import Table

    from lamina.cli.client import Client
    from lamina.cli.console import console, print_json

    query = f"?limit={limit}" + (f"&host={quote(host, safe='')}" if host is not None else "")
    with Client.connect(state or default_state()) as client:
        found = client.call("fleet", "GET", f"/repairs{query}")["repairs"]
    if as_json:
        print_json(found)
        return
    table = Table("when", "host", "what", "object", "why", "outcome", box=box.SIMPLE)
    for one in found:
        when = datetime.fromtimestamp(one["at"]).astimezone().isoformat(" ", "seconds")
        outcome = f"{one['outcome']}: {one['error']}" if one["error"] else one["outcome"]
        table.add_row(when, one["host"] or "-", one["what"], one["object"], one["why"], outcome)
    console().print(table)


@command.command()
@_state
@_json
def replicas(state: Path | None, as_json: bool) -> None:
    """List the control planes of this fleet, with where each is reached.

    One without a sign of life is down; there are none where the records are in SQLite, which one process has for itself.
    """
    from rich import box
    from rich.table import Table

    from lamina.cli.client import Client
    from lamina.cli.console import console, print_json

    with Client.connect(state or default_state()) as client:
        known = client.call("fleet", "GET", "/replicas")["replicas"]
    if as_json:
        print_json(known)
        return
    table = Table("control plane", "for hosts", "version", "state", box=box.SIMPLE)
    for one in known:
        table.add_row(one["url"] + (" (this one)" if one["this"] else ""), one["agents_url"] or "-", one["version"], one["state"])
    console().print(table)


@command.command()
@_state
@_json
def capacity(state: Path | None, as_json: bool) -> None:
    """Tell how many more vGPUs of each type fit.

    Each type is counted as if no other were made: now, and once the vGPUs have been moved on their GPUs to where they leave most room.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import console, print_json

    with Client.connect(state or default_state()) as client:
        told = client.call("fleet", "GET", "/capacity")["capacity"]
    if as_json:
        print_json(told)
        return
    from lamina.cli import pictures

    console().print(pictures.capacity_table(told))


@command.group()
def gpu() -> None:
    """What may be made on a GPU."""


@gpu.command("set")
@click.argument("host")
@click.argument("address")
@click.argument("types", nargs=-1)
@click.option("--as-host-says", is_flag=True, help="Leave it to the host's own settings again.")
@_state
@_json
def set_(host: str, address: str, types: tuple[str, ...], as_host_says: bool, state: Path | None, as_json: bool) -> None:
    """Choose the vGPU TYPES that may be made on a GPU, in the order of preference.

    Nothing is restarted, and what stands on the GPU stays.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import print_json

    if as_host_says == bool(types):
        raise click.UsageError("say either the types or --as-host-says")
    path = f"/hosts/{quote(host, safe='')}/gpus/{quote(address, safe='')}"
    with Client.connect(state or default_state()) as client:
        made = client.call("fleet", "PUT", path, {"enabled_types": None if as_host_says else list(types)})["gpu"]
    if as_json:
        print_json(made)
        return
    enabled = ", ".join(t["name"] for t in made["types"] if t["enabled"])
    click.echo(f"GPU {made['address']} of {host} makes {enabled or 'nothing'}.")


@command.command()
@click.argument("host")
@_state
@_json
def reboot(host: str, state: Path | None, as_json: bool) -> None:
    """Reboot the simulated machine HOST.

    Its servers come back by themselves, with the same vGPUs.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import print_json

    with Client.connect(state or default_state()) as client:
        answer = client.call("fleet", "POST", f"/hosts/{quote(host, safe='')}/reboot")
    if as_json:
        print_json(answer)
        return
    click.echo(f"{host} has been rebooted.")
    for repair in answer["repairs"]:
        click.echo(f"server {repair['server_id']} is being restored: {repair['why']}")


@command.command()
@click.argument("host")
@_state
def remove(host: str, state: Path | None) -> None:
    """Remove HOST, a machine that has joined; it must have no servers."""
    from lamina.cli.client import Client

    with Client.connect(state or default_state()) as client:
        client.call("fleet", "DELETE", f"/hosts/{quote(host, safe='')}")
    click.echo(f"{host} has been removed; 'lamina join' there, with a new join token, brings it back.")


@command.group()
def token() -> None:
    """Join tokens: each lets one machine become a host."""


@token.command()
@_state
@_json
@click.option("--host", metavar="NAME", help="Only this host may use it.")
@click.option("--expires", default="1h", show_default=True, metavar="TIME", help="How long it is good for: 90s, 30m, 1h, 7d.")
def create(state: Path | None, as_json: bool, host: str | None, expires: str) -> None:
    """Print a new join token; it cannot be shown again."""
    from lamina.cli.client import Client
    from lamina.cli.console import print_json

    body = {"host": host, "expires_in": seconds(expires)}
    with Client.connect(state or default_state()) as client:
        made = client.call("fleet", "POST", "/tokens", body)["token"]
    if as_json:
        print_json(made)
        return
    click.echo(made["secret"])
    click.echo(f"It lets one machine join within {expires}; there, say 'lamina join {made['url']}' and paste it.", err=True)


@token.command("list")
@_state
@_json
def list_(state: Path | None, as_json: bool) -> None:
    """List join tokens, used or not."""
    from lamina.cli.client import Client
    from lamina.cli.console import print_json
    from lamina.model.clock import moment

    with Client.connect(state or default_state()) as client:
        tokens = client.call("fleet", "GET", "/tokens")["tokens"]
    if as_json:
        print_json(tokens)
        return
    for one in tokens:
        used = f"used by {one['used_by']} at {moment(one['used_at'])}" if one["used_at"] else f"good until {moment(one['expires_at'])}"
        click.echo(f"{one['id']}  for {one['host'] or 'any host'}  {used}")


@token.command()
@click.argument("token_id", metavar="ID")
@_state
def delete(token_id: str, state: Path | None) -> None:
    """Take a join token back; a host that has used it stays a host."""
    from lamina.cli.client import Client

    with Client.connect(state or default_state()) as client:
        client.call("fleet", "DELETE", f"/tokens/{quote(token_id, safe='')}")


def seconds(text: str) -> int:
    """Parse ``90s``, ``30m``, ``1h`` or ``7d``. Raises `BadRequest`."""
    from lamina.model.errors import BadRequest

    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if match is None:
        raise BadRequest(f"--expires: {text!r} is not a time, as in 90s, 30m, 1h or 7d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
