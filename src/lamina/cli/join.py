"""`lamina join`: this machine becomes a host of a Lamina that runs elsewhere."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from lamina.cli.state import agent_state

TOKEN = "LAMINA_JOIN_TOKEN"  # noqa: S105 - the name of a variable

HELP = f"""Become a host of the Lamina at URL, where its hosts dial in, as in https://control:8775.

The join token, which 'lamina fleet token create' prints there, is read from --token-file, from the environment variable
{TOKEN}, or else from standard input; never from the command line, which everybody on this machine can read.
Further URLs are those of further control planes of the same fleet.
"""


@click.command("join", help=HELP)
@click.argument("url", nargs=-1, required=True)
@click.option("--name", metavar="HOST", help="Name of this host.  [default: the machine's]")
@click.option("--token-file", type=click.Path(path_type=Path, allow_dash=True), help="Read the join token from here.")
@click.option("--state", type=click.Path(path_type=Path), help="The agent's state directory.  [default: /var/lib/lamina for root]")
def command(url: tuple[str, ...], name: str | None, token_file: Path | None, state: Path | None) -> None:
    from lamina.hosts.join_tokens import JoinToken
    from lamina.hosts.joining import join
    from lamina.model.clock import SystemClock

    token = JoinToken.parse(_token(token_file))
    joined = join(url, token, name or socket.gethostname(), state or agent_state(), SystemClock())
    click.echo(f"joined as {joined.host}; 'lamina agent' runs servers here")


def _token(file: Path | None) -> str:
    from lamina.model.errors import BadRequest

    if file is not None and str(file) != "-":
        try:
            return file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"--token-file: {file} cannot be read: {error}") from error
    if file is None and TOKEN in os.environ:
        return os.environ[TOKEN]
    if sys.stdin.isatty():
        return str(click.prompt("Join token", hide_input=True, err=True))
    return sys.stdin.read(1000)
