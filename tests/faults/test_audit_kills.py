"""A process that is killed around a request: what was changed was recorded, and what was not, was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.model.audit import Outcome
from lamina.store import audit
from lamina.store.audit import Sought
from lamina.store.database import Database


@pytest.mark.parametrize(("point", "changed"), [("before-commit", False), ("after-commit", True), ("answered", True)])
@pytest.mark.weakness(778)
def test_a_change_and_the_record_of_it_are_there_together_or_not_at_all(tmp_path: Path, point: str, changed: bool) -> None:
    command = [sys.executable, "-m", "tests.faults.killed_request", str(tmp_path), point]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == -signal.SIGKILL, child.stdout + child.stderr
    db = Database.at(tmp_path)
    with db.read() as tx:
        events = [event for _, event in audit.page(tx, Sought(), limit=10, marker=None, direction="asc")]
        made = tx.exec_driver_sql("SELECT name FROM images").scalars().all()
    db.close()
    assert made == (["made"] if changed else [])
    assert [(event.outcome, event.action, event.initiator.name) for event in events] == (
        [(Outcome.PENDING, "create/add_image", "admin")] if changed else []
    )
