"""Real processes, a real database file, real SIGKILL: at every point of every step of create and resize.

A child process carries the operation out and kills itself at the point; this process then takes the state up, as a
restart does, and finds the promises kept.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.operations import create, resize
from lamina.store import servers
from tests.faults.stories import STORIES, Story
from tests.faults.world import FRAMEWORKS, World

POINTS = ("before-do", "after-do", "logged")
CHOSEN = [story for story in STORIES if str(story) in ("create", "resize")]
STEPS = {"create": create.KIND.step_names, "resize": resize.KIND.step_names}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("story", "step", "point"),
    [pytest.param(s, step, point, id=f"{s}:{step}-{point}") for s in CHOSEN for step in STEPS[s.kind] for point in POINTS],
)
def test_killed(tmp_path: Path, framework: str, story: Story, step: str, point: str) -> None:
    command = [sys.executable, "-m", "tests.faults.killed_process", str(tmp_path), framework, str(story), step, point]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL, child.stdout + child.stderr
    world = World(tmp_path, framework, fresh=False)
    world.settle()
    world.check()
    with world.plane.db.read() as tx:
        (server,) = servers.page(tx)
    assert server.status == {"create": "ACTIVE", "resize": "VERIFY_RESIZE"}[story.kind]
    world.plane.db.close()
