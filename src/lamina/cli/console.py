"""Where the command line writes: pictures with colour on a terminal, plain lines of any length elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

#: columns for output that no terminal wraps
PLAIN_WIDTH = 160


def console() -> Console:
    """A console on standard output."""
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=False)
    return out if out.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
