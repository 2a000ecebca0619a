"""`lamina fleet`: hosts and GPUs as they are now."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from lamina.cli.state import default_state

_state = click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("fleet", help="Look at hosts and GPUs; reboot a simulated host.")
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
