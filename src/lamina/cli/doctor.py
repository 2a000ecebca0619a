"""`lamina doctor`: what is missing or broken here, each with the command that mends it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lamina.cli.database_option import database_option
from lamina.cli.state import default_state

if TYPE_CHECKING:
    from lamina.cli.checks.finding import Finding

TRUST = "With --repair: remove also what hosts know of and an older copy of the database does not."
_STYLES = {"ok": "green", "missing": "yellow", "problem": "bold red"}


@click.command("doctor", help="Say what is missing or broken here, and how to mend it. Exit code 1 where something needed is.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
@database_option
@click.option("--host", "as_host", is_flag=True, help="Count what a host of real vGPUs needs.  [default: where it has an agent.toml]")
@click.option("--repair", is_flag=True, help="Have the running Lamina mend what is out of order on its hosts.  [default: it only tells]")
@click.option("--trust-records", is_flag=True, help=TRUST)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(state: Path | None, database: str | None, as_host: bool, repair: bool, trust_records: bool, as_json: bool) -> None:
    from lamina.cli.checks.machine import is_host, machine, may_write
    from lamina.cli.console import print_json

    if trust_records and not repair:
        raise click.UsageError("--trust-records goes with --repair")
    where = state or default_state()
    ask = {"mend": repair, "trust_records": trust_records}
    parts = {
        "Lamina": [*_installation(where, database), *_running(where, ask)],
        "This machine, as a host of real vGPUs": machine(root := Path("/"), may_write, is_host=as_host or is_host(root)),
    }
    findings = [finding for part in parts.values() for finding in part]
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        _print(parts)
    if any(finding.bad for finding in findings):
        sys.exit(1)


def _installation(state: Path, database: str | None) -> Iterator[Finding]:
    import importlib.metadata

    from lamina.cli.checks import installation
    from lamina.cli.checks.machine import may_write
    from lamina.store.schema import HEAD

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    yield installation.python(sys.version_info[:2])
    yield installation.packages(importlib.metadata.requires("lamina") or (), version)
    yield from installation.state_directory(state, may_write, installation.free_bytes)
    yield installation.served_database(database, HEAD) if database else installation.database(state, HEAD)


def _running(state: Path, ask: dict[str, bool]) -> Iterator[Finding]:
    from lamina.cli.checks import running
    from lamina.cli.checks.finding import Finding, Verdict
    from lamina.cli.client import Client
    from lamina.model.errors import LaminaError, Unavailable

    try:
        with Client.connect(state) as client:
            looked = client.call("fleet", "POST", "/repairs", ask)
            unfinished = client.call("fleet", "GET", "/operations")["operations"]
            answers = client.call("fleet", "GET", "/hosts"), client.call("fleet", "GET", "/vgpus")["vgpus"]
    except Unavailable:
        yield Finding("server", Verdict.MISSING, f"no Lamina answers for {state}", f"lamina up --fleet demo --state {state}", needed=False)
        return
    except LaminaError as error:
        yield Finding("server", Verdict.PROBLEM, error.message)
        return
    yield Finding("server", Verdict.OK, f"answers at {client.cloud.auth_url}")
    told, known_vgpus = answers
    known_hosts = told["hosts"]
    yield from running.hosts(known_hosts)
    yield from running.records(told["damaged"])
    yield from running.versions(known_hosts)
    yield from running.operations(unfinished)
    yield from running.vgpus(known_vgpus, unfinished)
    yield from running.repairs(looked)


def _print(parts: dict[str, list[Finding]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from lamina.cli.console import console

    out = console()
    for title, findings in parts.items():
        out.print(title, style="bold")
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            told = Text(finding.told)
            if finding.mend is not None:
                told.append(f"\n  mend: {finding.mend}", "dim")
            table.add_row("", Text(finding.verdict, _STYLES[finding.verdict]), finding.check, told)
        out.print(table)
