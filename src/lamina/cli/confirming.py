"""The option that says when a resize is confirmed without a person's word."""

from __future__ import annotations

import click

CONFIRM_AFTER = "Confirm resizes and migrations that nobody confirmed or reverted for so long.  [default: never]"

confirm_after_option = click.option("--confirm-after", type=click.FloatRange(1), metavar="SECONDS", help=CONFIRM_AFTER)
