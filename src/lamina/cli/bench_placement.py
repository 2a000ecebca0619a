"""`lamina bench placement`: the Placement API under load, alone or beside another server that speaks it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from lamina.model.errors import BadRequest

if TYPE_CHECKING:
    from lamina.cli.instance import Instance
    from lamina.cli.placement_bench.measuring import Bench, Figure
    from lamina.cli.placement_bench.wire import Endpoint

SQLITE, POSTGRESQL = "sqlite", "postgresql"
#: what the columns of the table are called
SIDES, OTHER = {SQLITE: "Lamina, SQLite", POSTGRESQL: "Lamina, PostgreSQL"}, "other"
#: the environment variable that has what opens the other server
TOKEN = "LAMINA_BENCH_TOKEN"  # noqa: S105 - a name
AGAINST = f"Put the same load on this server, which must be empty and is left full; ${TOKEN} opens it ('admin')."


class _Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1 on with commas between them, each once and smallest first."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isascii() and word.isdecimal() and len(word) <= 6 and int(word) > 0 for word in words):
            self.fail(f"{value!r} is not a list of whole numbers like 100,1000", param, ctx)
        return tuple(sorted({int(word) for word in words}))


@click.command("placement")
@click.option("--hosts", type=_Counts(), default="100,1000", show_default=True, help="Sizes of the fleet; it grows from each to the next.")
@click.option("--clients", type=_Counts(), default="1,4", show_default=True, help="How many claim at one time.")
@click.option("--seconds", type=click.FloatRange(0.05, 600), default=5.0, show_default=True, help="How long each figure is taken.")
@click.option(
    "--database",
    "databases",
    type=click.Choice([SQLITE, POSTGRESQL]),
    multiple=True,
    default=(SQLITE,),
    show_default=True,
    help="Where the records are kept; may be given twice. A PostgreSQL server is started for it.",
)
@click.option("--against", metavar="URL", help=AGAINST)
@click.option("--against-pid", type=click.IntRange(1), metavar="PID", help="Its process on this machine, to tell what it costs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def placement(
    hosts: tuple[int, ...],
    clients: tuple[int, ...],
    seconds: float,
    databases: tuple[str, ...],
    against: str | None,
    against_pid: int | None,
    as_json: bool,
) -> None:
    """Measure the Placement API: candidates, claims, both.

    On an instance of its own, over HTTP and with a token; and on another server that speaks the API, in turn.
    """
    from lamina.cli.console import print_json
    from lamina.cli.placement_bench.wire import Endpoint

    other = None if against is None else Endpoint(against, os.environ.get(TOKEN, "admin"), against_pid)
    if other is not None:
        _must_be_empty(other)
    found: dict[str, list[Figure]] = {}
    with _telling() as tell, ExitStack() as stack:
        sides: dict[str, Callable[[], Endpoint]] = {
            SIDES[one]: partial(_endpoint, stack.enter_context(_instance(one))) for one in dict.fromkeys(databases)
        }
        if other is not None:
            sides[OTHER] = partial(dataclasses.replace, other)
        benches: dict[str, Bench] = {}
        for size in hosts:
            for name, endpoint in sides.items():
                said = f"{name}: %d of {size} hosts"
                benches[name] = _grown(benches.get(name), endpoint(), size, seconds, partial(_tell_count, tell, said))
            for what, take in _takes(clients):
                for name, bench in benches.items():
                    tell(f"{name}: {what}, {size} hosts")
                    found.setdefault(name, []).extend(take(bench))
        for name, bench in benches.items():
            tell(f"{name}: 8 isolated groups, {hosts[-1]} hosts")
            found[name].append(bench.isolated())
    if as_json:
        print_json({"seconds": seconds, "figures": {name: [dataclasses.asdict(one) for one in of] for name, of in found.items()}})
    else:
        _print(found)


def _takes(clients: Sequence[int]) -> Iterator[tuple[str, Callable[[Bench], list[Figure]]]]:
    """What is measured at each size of the fleet: what it is called, and how."""
    from lamina.cli.placement_bench.measuring import Bench

    yield "candidates", Bench.candidates
    for many in clients:
        yield f"claims by {many}", partial(Bench.claims, clients=many)
    for many in clients:
        yield f"candidates + claims by {many}", partial(Bench.candidates_and_claims, clients=many)
    yield "memory", Bench.memory


@contextmanager
def _instance(database: str) -> Iterator[Instance]:
    from lamina.cli.instance import NO_HOSTS, temporary_instance
    from lamina.cli.own_postgres import own_postgres

    with ExitStack() as stack:
        where = ("--database", stack.enter_context(own_postgres())) if database == POSTGRESQL else ()
        yield stack.enter_context(temporary_instance((*NO_HOSTS, *where)))


def _endpoint(instance: Instance) -> Endpoint:
    """A new token each time: a large fleet may take longer to load than one is good for."""
    from lamina.cli.client import Client
    from lamina.cli.placement_bench.wire import Endpoint

    with Client.connect(instance.state) as client:
        return Endpoint(instance.url + "/placement", client.token, instance.pid)


def _must_be_empty(endpoint: Endpoint) -> None:
    """What is loaded stays there, so nobody's own may be there. Raises `BadRequest`."""
    from lamina.cli.placement_bench.wire import Caller

    endpoint.must_be_sound()
    with closing(Caller(endpoint)) as caller:
        there = len(caller.must("GET", "/resource_providers")["resource_providers"])
    if there:
        raise BadRequest(f"--against: {endpoint.url} has {there} resource providers already; a benchmark fills an empty server")


def _grown(bench: Bench | None, endpoint: Endpoint, size: int, seconds: float, tell: Callable[[int], None]) -> Bench:
    from lamina.cli.placement_bench import fleet
    from lamina.cli.placement_bench.measuring import Bench

    hosts = [] if bench is None else bench.hosts
    return Bench(endpoint, hosts + fleet.load(endpoint, len(hosts), size, tell), seconds)


def _tell_count(tell: Callable[[str], None], said: str, number: int) -> None:
    tell(said % number)


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """A line that changes on a terminal, a line for each thing elsewhere; beside what is printed at the end."""
    from rich.console import Console

    out = Console(stderr=True, highlight=False)
    if not out.is_terminal:
        yield lambda text: click.echo(text, err=True)
        return
    with out.status("starting") as status:
        yield status.update


def _print(found: dict[str, list[Figure]]) -> None:
    from rich import box
    from rich.table import Table

    from lamina.cli.console import console

    table = Table(box=box.SIMPLE)
    table.add_column("figure")
    for column in ("hosts", "clients", *found, *(["times better"] if OTHER in found else [])):
        table.add_column(column, justify="right")
    sides = [{(one.name, one.hosts, one.clients): one for one in of} for of in found.values()]
    first, last = sides[0], sides[-1]
    for key, one in first.items():
        cells = [_shown(side.get(key)) for side in sides] + ([_ratio(one, last.get(key))] if OTHER in found else [])
        table.add_row(one.name, f"{one.hosts:,}", str(one.clients), *cells)
    console().print(table)


def _shown(one: Figure | None) -> str:
    if one is None:
        return "-"
    return "no answer" if one.value is None else f"{one.value:,.{0 if one.value >= 100 else 1 if one.value >= 10 else 2}f} {one.unit}"


def _ratio(one: Figure, other: Figure | None) -> str:
    if other is None or one.value is None or other.value is None:
        return "-"
    return f"{one.value / other.value if one.unit == '/s' else other.value / one.value:.1f} x"
