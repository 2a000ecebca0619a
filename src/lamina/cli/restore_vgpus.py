"""`lamina restore-vgpus`: what a boot-time unit runs, before libvirt starts anything."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(
    "restore-vgpus",
    help="Bring back what this machine lost when it was booted: virtual functions, and the vGPUs that Lamina had made on it. "
    "Exit code 1 where something could not be had.",
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings of this host.  [default: /etc/lamina/agent.toml]")
@click.option("--state", type=click.Path(path_type=Path), help="The compute service's state directory.")
@click.option("--enable-functions", "gpu", metavar="ADDRESS", help="Only enable the virtual functions of this GPU.")
def command(config: Path | None, state: Path | None, gpu: str | None) -> None:
    from lamina.agent import configuration
    from lamina.agent.images import LocalImages
    from lamina.agent.real_host import real_host
    from lamina.cli.state import agent_state
    from lamina.model.clock import SystemClock
    from lamina.model.ids import PciAddress

    folder = state or agent_state()
    known = configuration.load(config, host=_joined(folder))
    host = real_host(known, folder, SystemClock(), LocalImages(folder / "images"))
    if gpu is not None:
        host.enable_functions(PciAddress.parse(gpu))
        click.echo(f"The virtual functions of GPU {gpu} are enabled.")
        return
    problems = host.restore()
    for problem in problems:
        click.echo(f"lamina: {problem}", err=True)
    if problems:
        sys.exit(1)
    click.echo("Everything that Lamina had made here is back.")


def _joined(state: Path) -> str | None:
    """The name that this machine has joined a control plane with, if it has."""
    from lamina.hosts.membership import Membership
    from lamina.model.errors import LaminaError

    try:
        return Membership.read(state).host
    except LaminaError:
        return None
