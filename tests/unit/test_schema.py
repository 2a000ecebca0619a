"""The migrations build exactly the tables that the queries are written against."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import config, script
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lamina.model.errors import BadRequest
from lamina.store import schema, tables
from lamina.store.database import Database


def test_migrations_build_the_tables(tmp_path: Path) -> None:
    db = Database.at(tmp_path)
    schema.upgrade(db)
    with db.read() as tx:
        assert compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), tables.metadata) == []
        built = {row[0]: row[1] for row in tx.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")}
    reference = sa.create_engine("sqlite://")
    tables.metadata.create_all(reference)
    with reference.connect() as tx:
        wanted = {row[0]: row[1] for row in tx.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")}
    assert built.keys() - {"alembic_version"} == wanted.keys()
    # constraints that Alembic's comparison does not look at
    assert "WHERE state IN" in built["ux_sagas_one_at_a_time"]
    assert "abandoned_reason IS NOT NULL" in built["sagas"]
    assert "DEFERRED" in built["vgpus"]
    db.close()


def test_head_is_the_newest_script() -> None:
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert script.ScriptDirectory.from_config(settings).get_current_head() == schema.HEAD


def test_an_upgrade_twice_is_an_upgrade_once(tmp_path: Path) -> None:
    db = Database.at(tmp_path)
    schema.upgrade(db)
    schema.upgrade(db)
    assert schema.version(db) == schema.HEAD
    db.close()


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    db = Database.at(tmp_path)
    schema.upgrade(db)
    with db.write() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadRequest, match="newer"):
        schema.upgrade(db)
    assert schema.version(db) == "9999"
    db.close()
