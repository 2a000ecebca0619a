"""The options that say what follows from known vulnerabilities of hosts' drivers."""

from __future__ import annotations

from pathlib import Path

import click

from lamina.model.driver_advisories import DriverTrust, parse, shipped
from lamina.model.errors import BadRequest

FLAG, REFUSE = "flag", "refuse"
VULNERABLE = "Whether hosts whose NVIDIA driver has known vulnerabilities are only shown as such, or take no new vGPUs."
ADVISORIES = "Versions of drivers with known vulnerabilities, in place of those that come along; see docs/operations.md."

vulnerable_drivers_option = click.option(
    "--vulnerable-drivers", type=click.Choice([FLAG, REFUSE]), default=FLAG, show_default=True, help=VULNERABLE
)
driver_advisories_option = click.option("--driver-advisories", type=click.Path(path_type=Path), metavar="FILE", help=ADVISORIES)


def read_trust(vulnerable_drivers: str, file: Path | None) -> DriverTrust:
    """Raises `BadRequest` for a file that is none."""
    if file is None:
        return DriverTrust(shipped(), vulnerable_drivers == REFUSE)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"--driver-advisories: {file} cannot be read: {error}") from error
    return DriverTrust(parse(text, f"--driver-advisories: {file}"), vulnerable_drivers == REFUSE)
