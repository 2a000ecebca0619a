"""This installation: Python, the packages, and the state directory with its database."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from lamina.cli.checks.finding import Finding, Verdict
from lamina.cli.database_option import VARIABLE, open_database
from lamina.model.errors import LaminaError
from lamina.store import schema

#: free space below which an image or the database's log may not fit
LEAST_FREE = 1 << 30

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?:>=(?P<least>[0-9.]+))?(?P<rest>.*)")


def python(version: tuple[int, int], needs: tuple[int, int] = (3, 11)) -> Finding:
    told = f"Python {version[0]}.{version[1]}"
    if version >= needs:
        return Finding("python", Verdict.OK, told)
    return Finding("python", Verdict.PROBLEM, f"{told} is older than {needs[0]}.{needs[1]}", "make up PYTHON=python3.11")


def packages(requirements: Iterable[str], installed: Callable[[str], str | None]) -> Finding:
    """`requirements` as the distribution's metadata has them; `installed` gives a package's version or None."""
    wrong = []
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None or "extra ==" in match["rest"]:
            continue
        found = installed(match["name"])
        if found is None:
            wrong.append(f"{match['name']} is not installed")
        elif match["least"] and _numbers(found) < _numbers(match["least"]):
            wrong.append(f"{match['name']} {found} is older than {match['least']}")
    if wrong:
        return Finding("packages", Verdict.PROBLEM, "; ".join(wrong), "pip install --upgrade lamina")
    return Finding("packages", Verdict.OK, "everything Lamina depends on is installed")


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def state_directory(state: Path, may_write: Callable[[Path], bool], free_bytes: Callable[[Path], int]) -> list[Finding]:
    """Whether the directory is there, may be written to, is closed to others, and has room."""
    name = "state directory"
    if not state.is_dir():
        if state.exists():
            return [Finding(name, Verdict.PROBLEM, f"{state} is not a directory", f"mv {state} {state}.old")]
        told = f"{state} is made by the first start"
        return [Finding(name, Verdict.MISSING, told, f"lamina up --fleet demo --state {state}", needed=False)]
    if not may_write(state):
        return [Finding(name, Verdict.PROBLEM, f"{state} cannot be written to", f"sudo chown -R $USER {state}")]
    findings = [Finding(name, Verdict.OK, str(state))]
    if state.stat().st_mode & 0o077:
        findings.append(Finding("privacy", Verdict.PROBLEM, f"{state} holds passwords and is open to others", f"chmod 700 {state}"))
    free = free_bytes(state)
    if free < LEAST_FREE:
        told = f"{free >> 20} MiB are free on the disk of {state}"
        findings.append(Finding("free space", Verdict.PROBLEM, told, f"du -sh {state}/images"))
    else:
        findings.append(Finding("free space", Verdict.OK, f"{free >> 30} GiB are free"))
    return findings


def free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def database(state: Path, head: str) -> Finding:
    """Whether the state directory's database opens, is sound, and has the schema `head`. Only reads, and beside a running Lamina."""
    path = state / "lamina.db"
    if not path.exists():
        return Finding("database", Verdict.MISSING, f"{path} is made by the first start", needed=False)
    restore = f"restore a backup of {state}"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            sound = connection.execute("PRAGMA quick_check").fetchone()[0]
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if made else None
    except sqlite3.Error as error:
        return Finding("database", Verdict.PROBLEM, f"{path} cannot be read: {error}", restore)
    if sound != "ok":
        return Finding("database", Verdict.PROBLEM, f"{path} is damaged: {sound}", restore)
    return _at(found[0] if found else None, head)


def served_database(url: str, head: str) -> Finding:
    """Whether the database at a URL answers, and has the schema `head`. Only reads."""
    try:
        with closing(open_database(url, Path())) as db:
            return _at(schema.version(db), head)
    except LaminaError as error:
        why = str(error.context.get("cause", "")).partition("\n")[0]
        return Finding("database", Verdict.PROBLEM, f"{error.message} {why}".strip(), f"mend ${VARIABLE}, or the server that it names")


def _at(version: str | None, head: str) -> Finding:
    if version == head:
        return Finding("database", Verdict.OK, f"sound, schema {version}")
    if version is not None and version > head:
        told = f"schema {version} was written by a newer Lamina than this one, which knows {head}"
        return Finding("database", Verdict.PROBLEM, told, "pip install --upgrade lamina")
    return Finding("database", Verdict.OK, f"sound, {f'schema {version}' if version else 'empty'}; the next start brings it to {head}")
