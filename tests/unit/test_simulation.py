"""Replays of a small trace: nothing is given twice, every load counts what it says, and the verb prints what it found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from lamina.cli.main import group
from lamina.cli.simulation import replay, trace
from lamina.cli.simulation.plot import draw
from lamina.cli.simulation.summary import summary
from lamina.model.errors import BadRequest
from lamina.model.gpus import Partitioning
from lamina.model.policies import PolicyName

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"node-{n},32000,131072,{g},T4\n" for n, g in enumerate((1, 2, 2, 4, 8)))
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n" + "".join(
    f"pod-{n},{cpu},{memory},{gpus},{milli}\n"
    for n, (cpu, memory, gpus, milli) in enumerate(
        [(1000, 1024, 1, 250)] * 8
        + [(2000, 4096, 1, 500)] * 6
        + [(4000, 8192, 1, 1000)] * 4
        + [(8000, 16384, 2, 1000), (500, 512, 0, 0)] * 2
    )
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / trace.NODES).write_text(NODES)
    (tmp_path / trace.PODS.format("default")).write_text(PODS)
    return tmp_path


CUTTINGS: dict[str, Callable[[trace.Trace], trace.Cutting]] = {
    "thousandths": lambda read: trace.ByThousandths.of(read),
    "same-size": lambda _read: trace.ByTypes.of("nvidia-a10", Partitioning.SAME_SIZE),
    "mixed-size": lambda _read: trace.ByTypes.of("nvidia-a10", Partitioning.MIXED_SIZE),
    "mig": lambda _read: trace.ByTypes.of("nvidia-h100-pcie", Partitioning.MIG),
}


@pytest.mark.parametrize("mode", CUTTINGS)
@pytest.mark.parametrize("policy", list(PolicyName))
def test_a_fill_up_gives_no_more_than_there_is(folder: Path, mode: str, policy: PolicyName) -> None:
    read = trace.read(folder)
    result = replay.fill_up(read, CUTTINGS[mode](read), policy, 1)
    assert list(result.allocated) == [1.0, replay.FILL]
    assert 0.5 < result.allocated[1.0] <= result.allocated[replay.FILL] <= 1
    assert all(result.refused[name] <= result.arrived[name] for name in ("shared", "full", "multi"))
    assert result.refused_milli <= result.demanded_milli
    assert 0 <= result.fragmentation <= 1
    again = replay.fill_up(read, CUTTINGS[mode](read), policy, 1)
    assert (again.allocated, again.refused) == (result.allocated, result.refused)


def test_tasks_that_leave_give_back_what_they_had(folder: Path) -> None:
    read = trace.read(folder)
    cutting = trace.ByTypes.of("nvidia-a10", Partitioning.SAME_SIZE)
    run = replay._Run(read, cutting, PolicyName.FRAGMENTATION, 1)
    before = [run.field.snapshot(node) for node in (s.tree.root.id for s in trace.fleet(read, cutting))]
    placed = [choice for task in read.tasks if (choice := run.place(task)) is not None]
    assert len(placed) > 10
    for choice in placed:
        run.leave(choice)
    after = [run.field.snapshot(s.tree.root.id) for s in before if s is not None]
    assert [[(p.inventories, p.used, p.traits) for p in s.tree.providers] for s in after if s is not None] == [
        [(p.inventories, p.used, p.traits) for p in s.tree.providers] for s in before if s is not None
    ]


def test_a_light_load_that_comes_and_goes_is_hardly_turned_away(folder: Path) -> None:
    read = trace.read(folder)
    light, heavy = (replay.churn(read, trace.ByThousandths.of(read), PolicyName.FRAGMENTATION, 3, load) for load in (0.3, 2.0))
    assert light.refused_demand < 0.1 < heavy.refused_demand
    assert light.allocated[0.3] < heavy.allocated[2.0] <= 1


def test_servers_are_moved_for_a_task_that_would_be_turned_away(folder: Path) -> None:
    read = trace.read(folder)
    cutting = trace.ByTypes.of("nvidia-a10", Partitioning.SAME_SIZE)
    run = replay._Run(read, cutting, PolicyName.SPREAD, 1)
    quarter, whole, eight = trace.Task(100, 100, 1, 250), trace.Task(4000, 8192, 1, 1000), trace.Task(4000, 8192, 8, 1000)
    run.requests |= {task: trace.request_of(task, cutting) for task in (quarter, whole, eight)}
    while run.place(quarter) is not None:
        pass
    # one of each card's four stays
    seen: set[str] = set()
    for name, server in list(run.placed.items()):
        card = server.vgpus[0].provider_id
        if card in seen:
            run.leave(name)
        seen.add(card)
    there = set(run.placed)
    assert run.place(whole) is None
    assert run.make_room(eight, 3) == [], "no host can be emptied with three moves"
    (move,) = run.make_room(whole, 3)
    assert (move.types, move.framebuffer_mb) == (("NVIDIA A10-6Q",), 6144)
    assert run.place(whole) is not None
    assert set(run.placed) > there
    for name in list(run.placed):
        run.leave(name)
    known = [run.field.snapshot(s.tree.root.id) for s in trace.fleet(read, cutting)]
    assert all(used == 0 for s in known if s is not None for p in s.tree.providers for used in p.used.values())


def test_with_moves_less_is_turned_away_of_the_same_tasks(folder: Path) -> None:
    read = trace.read(folder)
    cutting = trace.ByTypes.of("nvidia-a10", Partitioning.SAME_SIZE)
    without, moving = ([replay.churn(read, cutting, PolicyName.SPREAD, seed, 0.9, most_moves=most) for seed in range(8)] for most in (0, 4))
    assert [r.arrived for r in moving] == [r.arrived for r in without]
    assert sum(r.refused_milli for r in moving) < sum(r.refused_milli for r in without)
    assert all((r.moves, r.moved_mb) == (0, 0) for r in without)
    assert sum(r.moves for r in moving) > 0
    assert all(r.moved_mb >= 1024 * r.moves for r in moving)


def test_a_task_gets_the_smallest_type_that_has_its_share(folder: Path) -> None:
    cutting = trace.ByTypes.of("nvidia-a10", Partitioning.SAME_SIZE)
    assert [cutting.type_for(milli).name for milli in (1, 250, 251, 470, 810, 1000)] == [
        f"NVIDIA A10-{size}Q" for size in (1, 6, 8, 12, 24, 24)
    ]
    assert trace.granted(trace.Task(0, 0, 2, 810), cutting) == 2000


def test_the_verb_prints_a_table_and_draws_a_plot(folder: Path, tmp_path: Path) -> None:
    words = ["simulate", "--trace", str(folder), "--policy", "first-fit", "--policy", "fragmentation", "--seeds", "2", "--jobs", "2"]
    shown = CliRunner().invoke(group, words)
    assert shown.exit_code == 0, shown.output
    assert "fragmentation" in shown.output
    plot = tmp_path / "plot.svg"
    plain = CliRunner().invoke(group, [*words, "--churn", "0.9", "--json", "--plot", str(plot)])
    rows = json.loads(plain.stdout)["rows"]
    assert [(row["policy"], row["seeds"]) for row in rows] == [("first-fit", 2), ("fragmentation", 2)]
    assert plot.read_text().startswith("<?xml")
    moved = CliRunner().invoke(group, [*words, "--churn", "0.9", "--defragment", "2", "--json"])
    assert "2 moves at most for a task" in json.loads(moved.stdout)["title"]
    assert CliRunner().invoke(group, [*words, "--defragment", "2"]).exit_code == 2


def test_bad_input_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot be read"):
        trace.read(tmp_path / "nowhere")
    (folder / trace.PODS.format("default")).write_text(PODS.partition("\n")[0])
    with pytest.raises(BadRequest, match="lists nothing"):
        trace.read(folder)
    (folder / trace.NODES).write_text("what,ever\n")
    with pytest.raises(BadRequest, match="has no column sn"):
        trace.read(folder)
    with pytest.raises(BadRequest, match="has no types for mig"):
        trace.ByTypes.of("nvidia-t4", Partitioning.MIG)
    row = summary("pack", [replay.Result(1, allocated={1.0: 0.5, replay.FILL: 0.6})])
    with pytest.raises(BadRequest, match="neither in"):
        draw([row], "title", tmp_path / "plot.txt")
