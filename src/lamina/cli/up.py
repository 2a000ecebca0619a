"""`lamina up`: everything in one process on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from lamina.cli import logs
from lamina.cli.state import default_state

ADVERTISE = "Name or address under which hosts reach --agents; may be repeated, the first is told to them."


@click.command("up", help="Serve every API on one port; a restart on the same state directory goes on where it was.")
@click.option("--fleet", metavar="FILE|demo", help="Simulated hosts, described in FILE or in the fleet that comes along.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
@click.option("--listen", default="127.0.0.1:8774", show_default=True, metavar="HOST:PORT")
@click.option("--agents", metavar="HOST:PORT", help="Let hosts of other machines dial in here, over mutual TLS.")
@click.option("--advertise", multiple=True, metavar="NAME", help=ADVERTISE)
@click.option("--service-down", default=60.0, type=click.FloatRange(1, 3600), hidden=True)
@logs.option
def command(
    fleet: str | None, state: Path | None, listen: str, agents: str | None, advertise: tuple[str, ...], service_down: float, log_level: str
) -> None:
    from lamina.cli.fleet_option import load_fleet
    from lamina.cli.serving import Agents, serve

    logs.configure(log_level)
    simulated = load_fleet(fleet)
    dialled = Agents(agents, advertise) if agents is not None else None
    serve(
        state or default_state(), listen, simulated, dialled, service_down=service_down, ready=lambda url: click.echo(f"ready {url}")
    )
