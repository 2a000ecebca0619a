"""Run as a child: bring a world to a story's beginning, begin it, and die of SIGKILL at the point that is named."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.faults.stories import STORIES
from tests.faults.world import At, World


def main(state: str, framework: str, name: str, step: str, point: str) -> None:
    story = next(s for s in STORIES if str(s) == name)
    world = World(Path(state), framework)
    server_id = story.prepare(world)
    world.begin(probe=At(point, step, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    story.begin(world, server_id)
    world.settle()


if __name__ == "__main__":
    main(*sys.argv[1:])
