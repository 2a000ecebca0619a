"""`lamina policy`: the rules and their defaults, in the form of a ``policy.yaml``."""

from __future__ import annotations

import click

HELP = (
    "Print every rule with its default, commented out, and the calls it is asked for. Uncomment and change what shall be "
    "otherwise, and name the file to 'lamina up' or 'lamina api' as --policy-file."
)


@click.command("policy", help=HELP)
def command() -> None:
    from lamina.api.policy import defaults
    from lamina.api.rooms import ROOMS

    routes = [(room, route) for room in ROOMS for route in room.routes if not route.public]
    for rule, check in sorted(defaults(route for _, route in routes).items()):
        for room, route in routes:
            if rule == route.rule or rule in route.asks:
                click.echo(f"# {route.method} {room.prefix}{route.path}")
        click.echo(f'#"{rule}": "{check}"\n')
