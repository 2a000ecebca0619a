"""Every scenario runs on both frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.cloud import Cloud, cloud_of

Launch = Callable[..., Cloud]


@pytest.fixture(params=["mdev", "vfio"])
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a Lamina on these hosts; it is stopped, cleanly, when the scenario ends."""
    with ExitStack() as stack:

        def start(*hosts: dict[str, Any]) -> Cloud:
            return stack.enter_context(cloud_of(tmp_path, list(hosts)))

        yield start
