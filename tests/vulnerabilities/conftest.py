"""Each row is run twice: as Lamina is, and with a protection taken away, which the same check must notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.desk import Desk
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

PROVED = "vulnerability row, and its broken variant caught"


@pytest.fixture
def proved(desk: Desk, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[Row], None]:
    def prove(row: Row) -> None:
        row.check(Stage(desk, tmp_path_factory.mktemp("plain")))
        with row.broken(), pytest.raises(AssertionError) as caught:
            row.check(Stage(desk, tmp_path_factory.mktemp("broken")))
        print(f"with {row.broken.__doc__}: {str(caught.value).splitlines()[:1]}")  # shown with -s, and where a test fails
        request.node.user_properties.append((PROVED, row.number))

    return prove


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = terminalreporter.stats.get("passed", [])
    rows = {number for report in passed for name, number in getattr(report, "user_properties", ()) if name == PROVED}
    if rows:
        terminalreporter.write_line(f"vulnerabilities: {len(rows)} rows, {len(rows)} broken variants caught")
