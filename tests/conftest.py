"""Fixtures shared by every kind of test."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from lamina.cli.own_postgres import own_postgres
from lamina.hosts.directory import Hosts
from lamina.model.clock import SystemClock
from lamina.model.settings import Settings
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.store.database import Database
from tests.empty_database import Postgres, empty_database
from tests.faults.desk import Desk
from tests.faults.world import FRAMEWORKS

structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, structlog.processors.LogfmtRenderer()],
    logger_factory=structlog.PrintLoggerFactory(),
)

# what a machine has to do beside the tests decides nothing
hypothesis.settings.register_profile("lamina", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("lamina")


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command that a test runs in this process has the log go where that command's goes; the next test has its own again."""
    kept = structlog.get_config()
    yield
    structlog.configure(**kept)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked ``databases`` run on each kind of database that Lamina keeps its records in."""
    if "database" in metafunc.fixturenames and metafunc.definition.get_closest_marker("databases"):
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)


#: in CI, whose time is bounded, what a fault or a scenario does with either kind of vGPU it does with one, drawn by its name
ONE_KIND = os.environ.get("CI") == "true"


def pytest_report_header() -> str | None:
    return f"CI: each of tests/faults and tests/scenario that there is for {' and '.join(FRAMEWORKS)} runs with one" if ONE_KIND else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not ONE_KIND:
        return
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        (left if _is_of_the_other_kind(item) else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def _is_of_the_other_kind(item: pytest.Item) -> bool:
    given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    framework = next((value for value in given if value in FRAMEWORKS), None)
    if framework is None or not item.nodeid.startswith(("tests/faults/", "tests/scenario/")):
        return False
    name = item.nodeid.replace(framework, "")
    return framework != FRAMEWORKS[zlib.crc32(name.encode()) % len(FRAMEWORKS)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of this process that want one."""
    with own_postgres(durable=False) as url:
        yield Postgres(url)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of one's own with this version's schema."""
    if getattr(request, "param", "sqlite") == "postgresql":
        with request.getfixturevalue("postgres").database() as url:
            db = Database(url)
            yield db
            db.close()
    else:
        (tmp_path / "lamina.db").write_bytes(empty_database())
        db = Database.at(tmp_path)
        yield db
        db.close()


@pytest.fixture(scope="session")
def desk() -> Iterator[Desk]:
    """Where worlds of this process stand, one after the other."""
    made = Desk()
    yield made
    made.close()


@pytest.fixture
def plane(database: Database, tmp_path: Path) -> ControlPlane:
    """A control plane without hosts."""
    settings = Settings(state=tmp_path)
    settings.images.mkdir()
    return ControlPlane.assemble(settings, database, SystemClock(), Hosts(), KINDS)
