"""A real Keystone of one's own, on SQLite and loopback, from the environment that ``make test`` makes beside the checkout."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from openstack.connection import Connection

HERE = Path(__file__).parent
#: where the Makefile installs it
BIN = HERE.parent.parent / ".keystone" / "bin"
START_SECONDS = 60


class RealKeystone:
    """``admin`` has the role of that name on the project of that name, and on the system."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.password = secrets.token_urlsafe(12)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v3"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        assert (BIN / "keystone-manage").exists(), f"there is no Keystone in {BIN.parent}: 'make test' installs one"
        folders = {name: self.directory / name for name in ("fernet", "credential")}
        for folder in folders.values():
            folder.mkdir(mode=0o700)
        (self.directory / "keystone.conf").write_text(
            f"[DEFAULT]\nuse_stderr = false\nlog_file = {self.directory}/keystone.log\n"
            f"[database]\nconnection = sqlite:///{self.directory}/keystone.db\n"
            f"[fernet_tokens]\nkey_repository = {folders['fernet']}\n[credential]\nkey_repository = {folders['credential']}\n"
            "[cache]\nenabled = false\n"
        )
        self._manage("db_sync")
        owner = ("--keystone-user", pwd.getpwuid(os.getuid()).pw_name, "--keystone-group", grp.getgrgid(os.getgid()).gr_name)
        self._manage("fernet_setup", *owner)
        self._manage("bootstrap", "--bootstrap-public-url", self.url, "--bootstrap-region-id", "RegionOne")

    def _manage(self, *words: str) -> None:
        command = [str(BIN / "keystone-manage"), "--config-file", str(self.directory / "keystone.conf"), *words]
        subprocess.run(command, check=True, env=self._environment(), capture_output=True)

    def _environment(self) -> dict[str, str]:
        own = {"OS_BOOTSTRAP_PASSWORD": self.password, "PYTHONWARNINGS": "ignore"}
        return os.environ | own | {"OS_KEYSTONE_CONFIG_FILES": str(self.directory / "keystone.conf")}

    def start(self) -> None:
        command = [str(BIN / "python"), str(HERE / "serve_keystone.py"), str(self.port)]
        with (self.directory / "serve.log").open("a") as log:
            self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(self.url, trust_env=False)
                return
            time.sleep(0.1)
        raise AssertionError(f"Keystone did not start:\n{(self.directory / 'serve.log').read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None

    def connect(self, username: str, password: str, **scope: str) -> Connection:
        """As openstacksdk logs in; without a scope named, to the project of the user's name."""
        where = scope or {"project_name": username, "project_domain_id": "default"}
        return Connection(
            auth={"auth_url": self.url, "username": username, "password": password, "user_domain_id": "default", **where},
            region_name="RegionOne",
            identity_api_version="3",
            compute_default_microversion="2.96",
        )


@contextlib.contextmanager
def real_keystone(directory: Path) -> Iterator[RealKeystone]:
    made = RealKeystone(directory)
    made.prepare()
    made.start()
    try:
        yield made
    finally:
        made.stop()
