"""The option that says how long what is left over is looked at before it is removed."""

from __future__ import annotations

import click

ORPHAN_GRACE = "Remove what is left on a host of servers that are gone or elsewhere once it was seen for so long, twice at least."

orphan_grace_option = click.option(
    "--orphan-grace", type=click.FloatRange(0), default=60.0, show_default=True, metavar="SECONDS", help=ORPHAN_GRACE
)
