"""The option that says how servers are placed."""

from __future__ import annotations

import click

from lamina.model.policies import PolicyName

policy_option = click.option(
    "--policy",
    type=click.Choice([name.value for name in PolicyName]),
    default=PolicyName.SPREAD.value,
    show_default=True,
    help="How servers are placed where their flavor does not say (extra spec lamina:policy).",
)
