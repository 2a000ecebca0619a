"""`lamina bench fleet`: control planes on one PostgreSQL with many hosts, under load, and one of them killed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lamina.cli.fleet_bench import VGPU_TYPE
from lamina.model.errors import Unavailable

if TYPE_CHECKING:
    from lamina.cli.instance import Instance

#: a host of the bench: two GPUs of twelve vGPUs each, of a kind that costs a simulated kernel little to tell of
_HOST = """
  - name: bench-{number:04d}
    vcpus: 64
    memory_mb: 262144
    disk_gb: 4000
    gpus:
{gpus}
"""
_GPU = """
      - address: "0000:{bus:02x}:00.0"
        framework: mdev
        types: [{{name: TYPE, max_instances: 12, framebuffer_mb: 4096}}]
        enabled_types: [TYPE]
"""
#: seconds in which all hosts have to be there
JOINING = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str


@click.command("fleet")
@click.option("--hosts", type=click.IntRange(1, 5000), default=500, show_default=True, help="Simulated hosts, in a process of their own.")
@click.option("--replicas", type=click.IntRange(2, 8), default=2, show_default=True, help="Control planes.")
@click.option("--clients", type=click.IntRange(1, 64), default=8, show_default=True, help="How many ask for servers at one time.")
@click.option("--servers", type=click.IntRange(1, 12000), default=1000, show_default=True, help="How many are made one by one.")
@click.option("--burst", type=click.IntRange(1, 12000), default=2000, show_default=True, help="How many are asked for at once.")
@click.option("--in-flight", type=click.IntRange(1, 12000), default=1000, show_default=True, help="How many are being made at the kill.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fleet(hosts: int, replicas: int, clients: int, servers: int, burst: int, in_flight: int, as_json: bool) -> None:
    """Measure control planes on one PostgreSQL.

    How many servers they make a second, a burst of them, and how soon the others go on with what one had in hand that is killed.
    """
    from lamina.cli.console import console, print_json
    from lamina.cli.fleet_bench.load import Load

    out = console()
    with out.status("starting") as status, ExitStack() as stack:
        tell: Callable[[str], None] = status.update
        serving = stack.enter_context(_control_planes(replicas))
        tell(f"{hosts} hosts are joining")
        stack.enter_context(_hosts(serving[0], hosts))
        load = Load(serving, clients, tell)
        figures = [
            Figure(f"servers made, {clients} clients", load.creations(servers), "/s"),
            Figure("servers deleted", load.delete_all(), "/s"),
            Figure(f"{burst} servers asked for at once: all ACTIVE", load.burst(burst), "s"),
        ]
        load.delete_all()
        flying, taken_over, ended = load.killed(in_flight)
        figures += [
            Figure("operations in flight when one control plane is killed", flying, ""),
            Figure("until each has a living owner", taken_over, "s"),
            Figure("until all have ended, none lost", ended, "s"),
        ]
    if as_json:
        print_json({"hosts": hosts, "replicas": replicas, "figures": [dataclasses.asdict(one) for one in figures]})
        return
    for one in figures:
        digits = 1 if one.unit else 0
        click.echo(f"{one.name:<56} {one.value:10.{digits}f} {one.unit}")


@contextmanager
def _control_planes(count: int) -> Iterator[list[Instance]]:
    from lamina.cli.instance import NO_HOSTS, temporary_instance
    from lamina.cli.own_postgres import own_postgres

    with ExitStack() as stack:
        shared = stack.enter_context(tempfile.TemporaryDirectory(prefix="lamina-shared-"))
        options = ("--database", stack.enter_context(own_postgres()), "--shared", shared)
        yield [stack.enter_context(temporary_instance((*NO_HOSTS, *options))) for _ in range(count)]


@contextmanager
def _hosts(first: Instance, count: int) -> Iterator[None]:
    """Simulated hosts that have joined, until the block ends. Raises `Unavailable` where they do not come."""
    from lamina.cli.client import Client

    names = [f"bench-{number:04d}" for number in range(count)]
    with Client.connect(first.state) as client:
        tokens = [client.call("fleet", "POST", "/tokens", {"host": name, "expires_in": 3600})["token"] for name in names]
    with tempfile.TemporaryDirectory(prefix="lamina-hosts-") as state:
        task = {
            "state": state,
            "fleet": fleet_of(range(count)),
            "url": tokens[0]["url"],
            "tokens": {name: token["secret"] for name, token in zip(names, tokens, strict=True)},
        }
        command = [sys.executable, "-m", "lamina.cli.fleet_bench.hosts"]
        log = Path(state) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)  # noqa: S603
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.close()
            if process.stdout.readline().strip() != "ready":
                raise Unavailable(f"The hosts did not come: {log.read_text(encoding='utf-8', errors='replace')[-500:]}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(JOINING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def fleet_of(numbers: Sequence[int]) -> str:
    """The fleet file of the bench's hosts."""
    gpus = "".join(_GPU.format(bus=0x81 + number) for number in range(2)).replace("TYPE", VGPU_TYPE)
    return "hosts:" + "".join(_HOST.format(number=number, gpus=gpus) for number in numbers)
