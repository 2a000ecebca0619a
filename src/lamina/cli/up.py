"""`lamina up`: everything in one process on this machine."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click
import structlog

from lamina.cli.state import default_state


@click.command("up", help="Serve every API on one port; a restart on the same state directory goes on where it was.")
@click.option("--fleet", metavar="FILE|demo", help="Simulated hosts, described in FILE or in the fleet that comes along.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
@click.option("--listen", default="127.0.0.1:8774", show_default=True, metavar="HOST:PORT")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"]))
def command(fleet: str | None, state: Path | None, listen: str, log_level: str) -> None:
    from lamina.cli.serving import serve

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,  # without local variables, which may hold secrets
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    serve(state or default_state(), listen, fleet, ready=lambda url: click.echo(f"ready {url}"))
