"""The rows of a simulation as bars: what stays unallocated, and what is turned away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lamina.cli.simulation.summary import CLASSES, Row
from lamina.model.errors import BadRequest


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write a PNG or an SVG, by the name's ending. Raises `BadRequest` for another, or where matplotlib is not installed."""
    if path.suffix not in (".png", ".svg"):
        raise BadRequest(f"--plot: {path.name} ends neither in .png nor in .svg")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BadRequest("--plot: matplotlib is not installed; 'pip install lamina[plots]' brings it") from None
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    names = [row.policy for row in rows]
    left, right = figure.subplots(1, 2)
    bars = left.bar(names, [100 * row.unallocated for row in rows], yerr=[100 * row.deviation for row in rows], color="#4477aa")
    left.bar_label(bars, fmt="%.2f")
    left.set_ylabel("GPUs unallocated in the end, %")
    width = 0.8 / len(CLASSES)
    for place, name in enumerate(CLASSES):
        at = [x + (place - 1) * width for x in range(len(rows))]
        right.bar(at, [100 * row.refused[name] for row in rows], width, label=name)
    right.set_xticks(range(len(rows)), names)
    right.set_ylabel("tasks turned away, %")
    right.legend(title="GPUs asked for")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
