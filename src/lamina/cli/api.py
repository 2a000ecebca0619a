"""`lamina api`: a control plane without hosts of its own; they are other machines, and dial in."""

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
from lamina.cli.up import ADVERTISE
from lamina.cli.wire_options import read_failures, read_port, read_rate, wire_options

SHARED = "What several of them have in common beside the database (--database): a directory that each can reach, as over NFS."


@click.command("api", help="Serve every API for hosts on other machines, each of which runs 'lamina agent'.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
@wire_options
@click.option("--agents", default="0.0.0.0:8775", show_default=True, metavar="HOST:PORT", help="Where hosts dial in, over mutual TLS.")
@click.option("--advertise", multiple=True, metavar="NAME", help=ADVERTISE)
@confirm_after_option
@database_option
@click.option("--shared", type=click.Path(path_type=Path), metavar="DIR", help=SHARED)
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
    state: Path | None,
    agents: str,
    advertise: tuple[str, ...],
    confirm_after: float | None,
    database: str | None,
    shared: Path | None,
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
    from lamina.cli.identity_options import read_keystone
    from lamina.cli.serving import Agents, serve

    logs.configure(log_level)
    serve(
        state or default_state(),
        read_port(**wire),
        None,
        Agents(agents, advertise),
        confirm_after=confirm_after,
        database=database,
        shared=shared,
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
