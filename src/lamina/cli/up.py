"""`lamina up`: everything in one process on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lamina.cli import logs
from lamina.cli.audit_option import audit_option
from lamina.cli.clearing import orphan_grace_option
from lamina.cli.confirming import confirm_after_option
from lamina.cli.database_option import database_option
from lamina.cli.identity_options import keystone_option, policy_file_option
from lamina.cli.placing import policy_option
from lamina.cli.state import default_state
from lamina.cli.trusting import driver_advisories_option, read_trust, vulnerable_drivers_option
from lamina.cli.wire_options import read_failures, read_port, read_rate, wire_options

FLEET = "Simulated hosts instead of this machine, described in FILE or in the fleet that comes along."
ADVERTISE = "Name or address under which hosts reach --agents; may be repeated, the first is told to them."


@click.command("up", help="Serve every API on one port; a restart on the same state directory goes on where it was.")
@click.option("--fleet", metavar="FILE|demo", help=FLEET)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="agent.toml.  [default: /etc/lamina/agent.toml]")
@click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
@wire_options
@click.option("--agents", metavar="HOST:PORT", help="Let hosts of other machines dial in here, over mutual TLS.")
@click.option("--advertise", multiple=True, metavar="NAME", help=ADVERTISE)
@confirm_after_option
@database_option
@policy_option
@keystone_option
@policy_file_option
@audit_option
@vulnerable_drivers_option
@driver_advisories_option
@orphan_grace_option
@click.option("--service-down", default=60.0, type=click.FloatRange(1, 3600), hidden=True)
@logs.option
def command(
    fleet: str | None,
    config: Path | None,
    state: Path | None,
    agents: str | None,
    advertise: tuple[str, ...],
    confirm_after: float | None,
    database: str | None,
    policy: str,
    keystone: Path | None,
    policy_file: Path | None,
    audit: str | None,
    vulnerable_drivers: str,
    driver_advisories: Path | None,
    orphan_grace: float,
    service_down: float,
    log_level: str,
    failed_logins: str,
    rate_limit: str,
    metrics: str,
    **wire: Any,
) -> None:
    from lamina.cli.fleet_option import load_fleet
    from lamina.cli.identity_options import read_keystone
    from lamina.cli.serving import Agents, Fleet, ThisMachine, serve
    from lamina.model.errors import BadRequest

    if fleet is not None and config is not None:
        raise BadRequest("--config: simulated hosts have their settings in the fleet file")
    logs.configure(log_level)
    serve(
        state or default_state(),
        read_port(**wire),
        Fleet(load_fleet(fleet)) if fleet is not None else ThisMachine(config),
        Agents(agents, advertise) if agents is not None else None,
        confirm_after=confirm_after,
        database=database,
        policy=policy,
        keystone=read_keystone(keystone) if keystone is not None else None,
        policy_file=policy_file,
        audit=audit,
        driver_trust=read_trust(vulnerable_drivers, driver_advisories),
        orphan_grace=orphan_grace,
        service_down=service_down,
        address_failures=read_failures(failed_logins),
        rate_limit=read_rate(rate_limit),
        open_metrics=metrics == "open",
        ready=lambda url: click.echo(f"ready {url}"),
    )
