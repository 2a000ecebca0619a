"""Where the records are kept: what is taken for a database, what is refused, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lamina.cli.checks import installation
from lamina.cli.checks.finding import Verdict
from lamina.cli.database_option import VARIABLE, open_database
from lamina.cli.main import group
from lamina.model.errors import BadRequest
from lamina.store.schema import HEAD
from tests.empty_database import Postgres

SECRET = "hunter2"


@pytest.mark.parametrize("url", [f"postgresql://u:{SECRET}@h/d", f"postgresql://u@h/d?password={SECRET}", f"postgres://:{SECRET}@h/d"])
@pytest.mark.parametrize("verb", ["up", "api", "doctor"])
def test_a_password_on_the_command_line_is_refused_and_not_repeated(verb: str, url: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(group, [verb, "--state", str(tmp_path / "state"), "--database", url])
    assert refused.exit_code == 2
    assert "would be seen in the list of processes" in refused.output
    assert SECRET not in refused.output
    assert not (tmp_path / "state").exists()


def test_a_password_in_the_environment_is_not_repeated_either(tmp_path: Path) -> None:
    told = CliRunner().invoke(group, ["doctor", "--state", str(tmp_path), "--json"], env={VARIABLE: f"postgresql://u:{SECRET}@127.0.0.1:1/d"})
    assert '"problem"' in told.output
    assert SECRET not in told.output


@pytest.mark.parametrize("url", ["", "lamina", "mysql://h/d", "sqlite:///lamina.db", "postgresql://h", "postgresql:///", f"oracle://u:{SECRET}@h/d"])
def test_what_lamina_cannot_use_is_refused_with_a_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"postgresql://lamina@db\.example\.org/lamina") as refused:
        open_database(url, tmp_path)
    assert SECRET not in refused.value.message


def test_without_one_the_records_are_in_the_state_directory(tmp_path: Path) -> None:
    db = open_database(None, tmp_path)
    with db.read():
        pass
    db.close()
    assert (tmp_path / "lamina.db").exists()


def test_the_doctor_says_which_schema_a_database_has(postgres: Postgres) -> None:
    with postgres.database() as url:
        finding = installation.served_database(url, HEAD)
        assert (finding.verdict, finding.told) == (Verdict.OK, f"sound, schema {HEAD}")
        assert installation.served_database(url, "0001").bad


def test_the_doctor_says_that_a_database_does_not_answer(tmp_path: Path) -> None:
    finding = installation.served_database(f"postgresql://u@/d?host={tmp_path}", HEAD)
    assert finding.bad
    assert "does not answer" in finding.told
    assert finding.mend is not None
    assert VARIABLE in finding.mend
