"""The `lamina` command. Each verb lives in a module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from lamina.model.errors import BadRequest, LaminaError

#: verb -> what it does, one line
VERBS: dict[str, str] = {
    "up": "Serve every API on this machine, on real or simulated hosts.",
    "api": "Serve every API for hosts on other machines, which dial in.",
    "join": "Make this machine a host of a Lamina that runs elsewhere.",
    "agent": "Run servers on this machine for the Lamina it has joined.",
    "restore-vgpus": "Bring back what this machine lost at a boot: virtual functions and vGPUs.",
    "demo": "Show the main job: discover, create, resize, revert, confirm, reboot, delete.",
    "fleet": "Look at hosts and GPUs; let machines join, or remove them; reboot a simulated one.",
    "operation": "Look at operations; resume or abandon a stuck one.",
    "defrag": "Make room on GPUs by moving servers, after a look at what that takes.",
    "doctor": "Say what is missing or broken here, and how to mend it.",
    "audit": "Show who has done what to which object, and how it ended.",
    "policy": "Print the rules that say who may do what, as a policy.yaml to begin with.",
    "simulate": "Replay a trace of GPU work by every policy.",
    "bench": "Measure.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"lamina.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above, so that asking for help imports no verb."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lamina")
def group() -> None:
    """Lamina slices physical GPUs into virtual GPUs and runs servers on them."""


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 wrong usage."""
    try:
        group()
    except LaminaError as error:
        click.echo(f"lamina: {error.message}", err=True)
        sys.exit(2 if isinstance(error, BadRequest) else 1)


if __name__ == "__main__":
    main()
