"""The contract suites, the same code as on simulated machines, run inside the lab's machine on the real thing."""

from __future__ import annotations

import re

import pytest
from lab.machine import Machine
from lab.stages import PROJECT, say


@pytest.mark.parametrize("suite", ["test_sysfs.py", "test_frameworks.py", "test_hypervisor.py"])
def test_the_simulation_keeps_its_word(host: Machine, suite: str) -> None:
    """Every test passes, and none is skipped."""
    host.put_tree("/root/project", PROJECT / "tests/__init__.py", PROJECT / "tests/contract", PROJECT / "pyproject.toml")
    command = f"cd /root/project; LAMINA_TEST_REAL=1 python3 -m pytest -q -p no:cacheprovider tests/contract/{suite}"
    code, output = host.do("bash", "-c", command)
    say(f"\nlab: {suite} on the real thing: {output.strip().splitlines()[-1]}")
    assert code == 0, output[-6000:]
    assert re.search(r"(?m)^[1-9][0-9]* passed in [0-9.]+s", output), output[-2000:]
