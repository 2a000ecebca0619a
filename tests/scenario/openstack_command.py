"""The `openstack` command, as a user of a cloud runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.scenario.cloud import Cloud


def openstack(cloud: Cloud, *words: str, name: str = "lamina", refused: str | None = None) -> Any:
    """What it prints, decoded where that is asked for as JSON; with `refused` it must fail and say so. Raises AssertionError."""
    command = [str(Path(sys.executable).parent / "openstack"), *words]
    ours = {"OS_CLIENT_CONFIG_FILE": str(cloud.state / "clouds.yaml"), "OS_CLOUD": name}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    done = subprocess.run(command, env=kept | ours, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) == (refused is None), f"{' '.join(words)}: {done.stdout}{done.stderr}"
    assert (refused or "") in done.stderr
    return json.loads(done.stdout) if "json" in words and refused is None else done.stdout
