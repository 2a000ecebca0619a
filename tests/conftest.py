"""Fixtures shared by every kind of test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from lamina.hosts.directory import Hosts
from lamina.model.clock import SystemClock
from lamina.model.settings import Settings
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.store import schema
from lamina.store.database import Database

structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, structlog.processors.LogfmtRenderer()],
    logger_factory=structlog.PrintLoggerFactory(),
)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane without hosts on a database of its own."""
    settings = Settings(state=tmp_path)
    settings.images.mkdir()
    db = Database.at(tmp_path)
    schema.upgrade(db)
    plane = ControlPlane.assemble(settings, db, SystemClock(), Hosts(), KINDS)
    yield plane
    plane.db.close()
