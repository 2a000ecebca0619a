"""What the pillars have counted, told at the end of a run."""

from __future__ import annotations

import pytest
from hypothesis import settings

# how long an example takes says nothing on a machine that is shared
settings.register_profile("pillars", deadline=None)
settings.load_profile("pillars")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that does ``record_property("counted", (what, rows, cells))`` is told here, summed with others of the same name."""
    sums: dict[str, list[int]] = {}
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "counted":
                what, rows, cells = value
                so_far = sums.setdefault(what, [0, 0])
                so_far[0] += rows
                so_far[1] += cells
    for what, (rows, cells) in sums.items():
        terminalreporter.write_line(f"{what}: {rows} routes and actions, {cells} cells")
