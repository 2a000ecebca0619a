"""`lamina bench placement`: how fast candidates are found and claims written, beside another server where one is named."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lamina.cli.placement_load import Server, Times

#: clients that load hosts side by side
LOADERS = 2
#: the environment variable with the token of the other server
TOKEN = "LAMINA_AGAINST_TOKEN"  # noqa: S105 - a name


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing at one size of fleet; `other` is the other server's."""

    hosts: int
    name: str
    unit: str
    value: float
    other: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better, whatever the unit."""
        if self.other is None or not self.value or not self.other:
            return None
        return self.value / self.other if self.unit == "1/s" else self.other / self.value


def numbers(_context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """Whole numbers above 0, with commas between. Raises `click.BadParameter`."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdecimal() and 0 < int(part) <= 100_000 for part in parts):
        raise click.BadParameter(f"{text!r} is not a list such as 100,1000", param=option)
    return tuple(int(part) for part in parts)


@click.command("placement")
@click.option("--hosts", callback=numbers, default="100,1000", show_default=True, help="Sizes of the fleet; every host has four GPUs.")
@click.option("--clients", callback=numbers, default="1,4", show_default=True, help="How many claim side by side.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help="How long each figure is measured.")
@click.option("--against", metavar="URL", help=f"Put the same load on another server of the Placement API; ${TOKEN} opens it ('admin').")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(hosts: tuple[int, ...], clients: tuple[int, ...], seconds: float, against: str | None, as_json: bool) -> None:
    """Measure candidates and claims.

    Hosts with GPUs are loaded through the Placement API of an instance of its own; then candidates are asked for and
    allocations written, over HTTP, with authentication, every claim durable. The other server has to be empty.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import print_json
    from lamina.cli.instance import temporary_instance
    from lamina.cli.placement_load import Server

    other = Server(against.rstrip("/"), os.environ.get(TOKEN, "admin")) if against is not None else None
    with temporary_instance() as instance, Client.connect(instance.state) as client:
        mine = Server(client.endpoint("placement"), client.token)
        figures = _measure(mine, other, hosts, clients, seconds, lambda: _resident(instance.pid))
    if as_json:
        print_json({"figures": [dataclasses.asdict(f) | {"ratio": f.ratio} for f in figures]})
    else:
        _print(figures, against)


def _resident(pid: int) -> float:
    from lamina.cli.bench import resident_mib

    return resident_mib(Path(f"/proc/{pid}/status").read_text())


def _measure(
    mine: Server, other: Server | None, hosts: Sequence[int], clients: Sequence[int], seconds: float, memory: Callable[[], float]
) -> list[Figure]:
    from rich.progress import Progress

    from lamina.cli import placement_load as load
    from lamina.cli.console import console

    servers = [server for server in (mine, other) if server is not None]
    figures: list[Figure] = []
    out = console()
    with Progress(console=out, disable=not out.is_terminal, transient=True) as progress:
        for server in servers:
            load.make_isolating_host(server)
        for size, added in load.steps(hosts):
            task = progress.add_task(f"{size} hosts", total=len(added) * len(servers))
            for server in servers:
                load.fill(server, added, LOADERS, partial(progress.advance, task))
            for phase in _phases(clients, seconds):
                taken = [phase.take(server) for server in servers]
                for name, unit, read in phase.figures:
                    figures.append(Figure(size, name, unit, *(read(times) for times in taken)))
            figures.append(Figure(size, "memory", "MiB", memory()))
    isolated = load.candidates(mine, seconds, load.ISOLATED_QUERY)
    return [*figures, Figure(max(hosts), f"{load.ISOLATED} isolated vGPUs on one host, median", "ms", isolated.median)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Phase:
    """A load, and the figures that are read from what it took: name, unit, how."""

    take: Callable[[Server], Times]
    figures: tuple[tuple[str, str, Callable[[Times], float]], ...]


def _phases(clients: Sequence[int], seconds: float) -> list[_Phase]:
    from lamina.cli import placement_load as load

    phases = [
        _Phase(
            lambda server: load.candidates(server, seconds),
            (("candidates, median", "ms", lambda t: t.median), ("candidates, p99", "ms", lambda t: t.p99)),
        )
    ]
    for count in clients:
        side_by_side = f"{count} client{'s' if count > 1 else ''}"
        phases.append(_Phase(partial(load.claims, clients=count, seconds=seconds), ((f"claims, {side_by_side}", "1/s", _rate),)))
        together = ((f"candidates + claim, {side_by_side}", "1/s", _rate),)
        phases.append(_Phase(partial(load.scheduling, clients=count, seconds=seconds), together))
    return phases


def _rate(times: Times) -> float:
    return times.per_second


def _print(figures: Sequence[Figure], against: str | None) -> None:
    from rich.table import Table

    from lamina.cli.console import console

    table = Table(title="placement, over HTTP, durable", title_justify="left")
    for name in ("hosts", "figure", "Lamina", *((against, "ratio") if against is not None else ())):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for figure in figures:
        row = [f"{figure.hosts:,}", figure.name, f"{figure.value:,.2f} {figure.unit}"]
        if against is not None:
            row.append("-" if figure.other is None else f"{figure.other:,.2f} {figure.unit}")
            row.append("-" if figure.ratio is None else f"{figure.ratio:,.1f}")
        table.add_row(*row)
    console().print(table)
