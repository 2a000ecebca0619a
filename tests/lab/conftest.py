"""One machine for a whole module of tests: booted on a fresh disk, with Lamina's wheel installed in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.machine import Machine, machine
from lab.stages import CACHE, PROJECT, Lab, say

PIP = ("python3", "-m", "pip", "install", "-qq", "--no-index", "--no-deps", "--break-system-packages", "--root-user-action=ignore")


@pytest.fixture(scope="session")
def lab() -> Lab:
    built = Lab(CACHE)
    built.build()
    return built


@pytest.fixture(scope="session")
def wheel() -> Iterator[Path]:
    """Lamina's wheel, built from this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--disable-pip-version-check", "--no-deps", "--wheel-dir", folder, str(PROJECT)]
        subprocess.run(pip, check=True)
        (built,) = Path(folder).glob("lamina-*.whl")
        yield built


@pytest.fixture(scope="module")
def host(lab: Lab, wheel: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The lab's machine. What it said stays in the cache folder when a test of the module has failed."""
    folder = CACHE / "machines" / request.module.__name__.rpartition(".")[2]
    shutil.rmtree(folder, ignore_errors=True)
    with machine(lab, folder) as one:
        begun = time.monotonic()
        one.put(f"/root/{wheel.name}", wheel.read_bytes())
        one.run(*PIP, f"/root/{wheel.name}")
        say(f"lab: install  {time.monotonic() - begun:6.1f} s")
        yield one
