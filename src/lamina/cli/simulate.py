"""`lamina simulate`: what the policies would do to a trace of GPU work, replayed through the engine that places servers."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lamina.model.policies import PolicyName

if TYPE_CHECKING:
    from lamina.cli.simulation.replay import Result
    from lamina.cli.simulation.summary import Row
    from lamina.cli.simulation.trace import Cutting, Trace

POLICIES = [name.value for name in PolicyName]
#: how cards are cut -> the card of the catalog that all are taken for, unless another is named
MODES = {"thousandths": None, "same-size": "nvidia-a10", "mixed-size": "nvidia-a10", "mig": "nvidia-h100-pcie"}


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One replay."""

    directory: Path
    pods: str
    mode: str
    card: str | None
    policy: PolicyName
    seed: int
    churn: float | None
    most_moves: int


@click.command("simulate", help="Replay a trace of GPU work by every policy, and say what stays unallocated and what is turned away.")
@click.option("--trace", "directory", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder with the openb lists.")
@click.option("--pods", default="default", show_default=True, help="Which list of tasks: openb_pod_list_NAME.csv.")
@click.option("--policy", "policies", multiple=True, type=click.Choice(POLICIES), help="May be repeated.  [default: all]")
@click.option("--mode", type=click.Choice(list(MODES)), default="thousandths", show_default=True, help="How cards are cut.")
@click.option("--card", metavar="KEY", help="The card of the catalog that every GPU is taken for, where cards are cut into types.")
@click.option("--churn", type=click.FloatRange(0.1, 3.0), metavar="LOAD", help="Tasks come and go; so much of all GPUs is asked for.")
@click.option(
    "--defragment",
    "most_moves",
    type=click.IntRange(1, 1000),
    metavar="MOVES",
    help="With --churn: before a task is turned away, move so many servers at most to make room for it.",
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="Random orders to replay.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, show_default=True, help="Replays at one time.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the table as PNG or SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    directory: Path,
    pods: str,
    policies: tuple[str, ...],
    mode: str,
    card: str | None,
    churn: float | None,
    most_moves: int | None,
    seeds: int,
    jobs: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    from lamina.cli.console import print_json
    from lamina.cli.simulation import trace
    from lamina.cli.simulation.plot import draw
    from lamina.cli.simulation.summary import summary

    if most_moves is not None and churn is None:
        raise click.UsageError("--defragment goes with --churn: in a fill-up nobody leaves, and so nothing falls apart")
    chosen = [PolicyName(name) for name in policies] or list(PolicyName)
    key = card or MODES[mode]
    wanted = [Job(directory, pods, mode, key, policy, seed, churn, most_moves or 0) for policy in chosen for seed in range(seeds)]
    cutting_of(wanted[0], trace.read(directory, pods))  # bad input is told before anything is begun
    results = _run(wanted, jobs)
    rows = [summary(policy, results[place * seeds : (place + 1) * seeds]) for place, policy in enumerate(chosen)]
    cards = f" ({wanted[0].card})" if wanted[0].card else ""
    title = f"openb {pods}, {mode}{cards}, " + (f"churn {churn:g}" if churn else "fill-up")
    title += f", {most_moves} moves at most for a task" if most_moves else ""
    if plot is not None:
        draw(rows, title, plot)
    if as_json:
        print_json({"title": title, "rows": [dataclasses.asdict(row) for row in rows]})
    else:
        _print(title, rows, moving=most_moves is not None)


def cutting_of(job: Job, trace: Trace) -> Cutting:
    """Raises `BadRequest` for a card that is not known or cannot be cut so."""
    from lamina.cli.simulation.trace import ByThousandths, ByTypes
    from lamina.model.gpus import Partitioning

    if job.card is None:
        return ByThousandths.of(trace)
    return ByTypes.of(job.card, Partitioning(job.mode))


def _run(jobs: Sequence[Job], at_once: int) -> list[Result]:
    from rich.progress import track

    from lamina.cli.console import console

    out = console()
    # spawned: the children share nothing with this process that a fork could leave half done
    with concurrent.futures.ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(replay, job) for job in jobs]
        done = concurrent.futures.as_completed(futures)
        for _ in track(done, "replaying", total=len(jobs), console=out, disable=not out.is_terminal, transient=True):
            pass
        return [future.result() for future in futures]


def replay(job: Job) -> Result:
    """Run one job; what a worker process does."""
    from lamina.cli.simulation import trace
    from lamina.cli.simulation.replay import churn, fill_up

    tasks = trace.read(job.directory, job.pods)
    cutting = cutting_of(job, tasks)
    if job.churn is not None:
        return churn(tasks, cutting, job.policy, job.seed, job.churn, most_moves=job.most_moves)
    return fill_up(tasks, cutting, job.policy, job.seed)


def _print(title: str, rows: Sequence[Row], *, moving: bool) -> None:
    from rich.table import Table

    from lamina.cli.console import console

    filled = rows[0].allocated_at_end is not None
    table = Table(title=title, title_justify="left")
    table.add_column("policy")
    for name in (
        "allocated" if not filled else "allocated at 100 %",
        *(["at 130 %"] if filled else []),
        "sd",
        "unallocated",
        *(["first refusal at"] if filled else []),
        "refused: shared",
        "full",
        "multi-GPU",
        "of demand",
        *(["sd"] if not filled else []),
        "fragmentation",
        *(["moves", "GiB moved"] if moving else []),
        "decisions/s",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.policy,
            _percent(row.allocated),
            *([_percent(row.allocated_at_end)] if filled else []),
            f"{100 * row.deviation:.2f}",
            _percent(row.unallocated),
            *([_percent(row.first_refusal)] if filled else []),
            *(_percent(row.refused[name]) for name in ("shared", "full", "multi")),
            _percent(row.refused_demand),
            *([f"{100 * row.refused_deviation:.2f}"] if not filled else []),
            _percent(row.fragmentation),
            *([f"{row.moves:,.0f}", f"{row.moved_gib:,.0f}"] if moving else []),
            f"{row.decisions_per_second:,.0f}",
        )
    console().print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
