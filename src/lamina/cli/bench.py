"""`lamina bench`: how fast Lamina is on this machine, beside its targets and beside Nova.

The figures of Nova come from another machine; they are there to give the ratio an order of magnitude and no more.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lamina.cli.bench_fleet import fleet
from lamina.cli.bench_placement import placement
from lamina.model.errors import LaminaError

if TYPE_CHECKING:
    from lamina.cli.client import Client

#: pause between two looks at a server, and how long one operation may take, in seconds
PAUSE, SECONDS = 0.001, 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be at most, and what Nova's is; both in the figure's unit."""

    unit: str
    most: float
    nova: float | None = None


TARGETS: dict[str, Target] = {
    "create to ACTIVE": Target("ms", 60, 691),
    "live migration to ACTIVE": Target("ms", 150),
    "resize to VERIFY_RESIZE": Target("ms", 80, 887),
    "confirm to ACTIVE": Target("ms", 40, 294),
    "delete to gone": Target("ms", 40, 271),
    "start to ready": Target("s", 2),
    "memory": Target("MiB", 180),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing; ``p90`` is None for what is measured once."""

    name: str
    unit: str
    median: float
    p90: float | None
    target: float
    nova: float | None

    @property
    def met(self) -> bool:
        return self.median <= self.target


def figure(name: str, samples: Sequence[float]) -> Figure:
    """The figure of one or more samples, in the unit of its target. Pure."""
    target = TARGETS[name]
    p90 = sorted(samples)[math.ceil(0.9 * len(samples)) - 1] if len(samples) > 1 else None
    return Figure(name, target.unit, statistics.median(samples), p90, target.most, target.nova)


@click.group("bench", help="Measure.")
def command() -> None:
    pass


command.add_command(placement)
command.add_command(fleet)


@command.command()
@click.option("--rounds", type=click.IntRange(1, 10000), default=50, show_default=True, help="How many servers go through their life.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def operations(rounds: int, as_json: bool) -> None:
    """Measure the life of servers.

    They are created, migrated live, resized, confirmed and deleted on an instance of its own, over HTTP, one after the other.
    """
    from lamina.cli.client import Client
    from lamina.cli.console import print_json
    from lamina.cli.instance import temporary_instance

    with temporary_instance() as instance, Client.connect(instance.state) as client:
        samples = _measure(client, rounds)
        samples["start to ready"] = [instance.seconds]
        samples["memory"] = [resident_mib(Path(f"/proc/{instance.pid}/status").read_text(encoding="utf-8"))]
    figures = [figure(name, samples[name]) for name in TARGETS]
    if as_json:
        print_json({"rounds": rounds, "figures": [dataclasses.asdict(f) | {"met": f.met} for f in figures]})
    else:
        _print(figures)


def resident_mib(status: str) -> float:
    """Resident memory in MiB from the text of ``/proc/PID/status``."""
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def _measure(client: Client, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each operation, round by round."""
    from rich.progress import track

    from lamina.cli import servers
    from lamina.cli.console import console
    from lamina.cli.demo_plan import plan

    chosen = plan(client.call("fleet", "GET", "/gpus")["gpus"])
    image = servers.make_image(client, "bench")
    small = servers.make_flavor(client, "bench-small", chosen.resource_class, chosen.small, vcpus=1, memory_mb=512)
    large = servers.make_flavor(client, "bench-large", chosen.resource_class, chosen.large, vcpus=2, memory_mb=1024)
    samples: dict[str, list[float]] = {name: [] for name in TARGETS}

    def took(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        done = work()
        samples[name].append((time.perf_counter() - started) * 1000)
        return done

    def create() -> str:
        server = servers.begin_server(client, "bench", small, image)
        servers.wait_for(client, server, "ACTIVE", seconds=SECONDS, pause=PAUSE)
        return server

    def act(server: str, action: dict[str, Any], status: str) -> None:
        servers.act(client, server, action)
        servers.wait_for(client, server, status, seconds=SECONDS, pause=PAUSE)

    def migrate(server: str) -> None:
        before = servers.host_of(client, server)
        act(server, {"os-migrateLive": {"host": None, "block_migration": "auto"}}, "ACTIVE")
        if servers.host_of(client, server) == before:
            raise LaminaError(f"The server stays on host {before}.")

    out = console()
    for _ in track(range(rounds), "measuring", console=out, disable=not out.is_terminal, transient=True):
        server = took("create to ACTIVE", create)
        took("live migration to ACTIVE", partial(migrate, server))
        took("resize to VERIFY_RESIZE", partial(act, server, {"resize": {"flavorRef": large}}, "VERIFY_RESIZE"))
        took("confirm to ACTIVE", partial(act, server, {"confirmResize": None}, "ACTIVE"))
        took("delete to gone", partial(servers.delete_server, client, server, seconds=SECONDS, pause=PAUSE))
    return samples


def _print(figures: Sequence[Figure]) -> None:
    from rich import box
    from rich.table import Table

    from lamina.cli.console import console

    table = Table(box=box.SIMPLE)
    table.add_column("figure")
    for column in ("median", "p90", "target", "Nova", "Nova / Lamina"):
        table.add_column(column, justify="right")
    for one in figures:
        digits = 1 if one.unit != "s" else 2
        table.add_row(
            one.name,
            f"[{'green' if one.met else 'bold red'}]{one.median:.{digits}f} {one.unit}[/]",
            f"{one.p90:.{digits}f} {one.unit}" if one.p90 is not None else "-",
            f"{one.target:g} {one.unit}",
            f"{one.nova:g} {one.unit}" if one.nova is not None else "-",
            f"{one.nova / one.median:.1f} x" if one.nova is not None else "-",
        )
    console().print(table)
