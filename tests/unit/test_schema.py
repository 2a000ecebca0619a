"""The migrations build exactly the tables that the queries are written against."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command, config, script
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lamina.model.errors import BadRequest
from lamina.store import domains, identity, schema, tables
from lamina.store.database import Database
from lamina.store.domains import DOMAIN_ID
from tests.empty_database import Postgres


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


def test_processes_that_start_at_once_on_an_empty_database_make_it_once(postgres: Postgres) -> None:
    program = "import sys; from lamina.store import database, schema; schema.upgrade(database.Database(sys.argv[1]))"
    with postgres.database("template0") as url:
        several = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(3)]
        assert [one.wait(60) for one in several] == [0, 0, 0]
        db = Database(url)
        assert schema.version(db) == schema.HEAD
        db.close()


def test_who_was_there_before_there_were_domains_is_in_the_default_one(tmp_path: Path) -> None:
    db = Database.at(tmp_path)
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with db.write() as tx:
        settings.attributes["connection"] = tx
        command.upgrade(settings, "0015")
        tx.exec_driver_sql("INSERT INTO users (id, name, description, enabled) VALUES ('i', 'ann', '', TRUE)")
        tx.exec_driver_sql("INSERT INTO projects (id, name, description, enabled) VALUES ('i', 'ann', '', TRUE)")
    schema.upgrade(db)
    with db.write() as tx:
        # as a process of the version before goes on to do
        tx.exec_driver_sql("INSERT INTO users (id, name, description, enabled) VALUES ('j', 'bob', '', TRUE)")
    with db.read() as tx:
        assert [identity.password_of(tx, name=name)[0] for name in ("ann", "bob")] == identity.list_users(tx, domain_id=DOMAIN_ID)
        assert [project.name for project in identity.list_projects(tx, domain_id=DOMAIN_ID)] == ["ann"]
        assert [domain.id for domain in domains.list_domains(tx)] == [DOMAIN_ID]
    db.close()


#: what a process of the version before does not notice
ADDING = {"create_table", "create_index", "add_column", "execute", "f", "get_bind"}
#: what a statement of SQL may do: also, to refuse what no process does
ADDING_BY_SQL = ("INSERT INTO", "CREATE TRIGGER audit_", "CREATE FUNCTION audit_", "ENABLE ALWAYS TRIGGER audit_")


@pytest.mark.weakness(439)
def test_a_migration_only_adds_so_that_processes_of_the_version_before_go_on_beside_it() -> None:
    """From 0007 on, the first version that several processes may run of."""
    folder = Path(schema.__file__).parent / "migrations" / "versions"
    newer = [path for path in sorted(folder.glob("*.py")) if path.name > "0007"]
    assert len(newer) > 1
    for path in newer:
        (upgrade,) = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef) and node.name == "upgrade"]
        calls = [node for node in ast.walk(upgrade) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
        done = [(node.func.attr, node) for node in calls if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "op"]
        assert {name for name, _ in done} <= ADDING, path.name
        for name, node in done:
            told = ast.unparse(node)
            assert name != "execute" or any(words in told for words in ADDING_BY_SQL), told
            assert name != "add_column" or "nullable=True" in told or "server_default=" in told, told
