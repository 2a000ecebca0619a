"""A control plane without hosts of its own, and hosts that join it, each an agent in a process of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from tests.scenario.cloud import START_SECONDS, Cloud, eventually

#: seconds of silence after which a host is down here
SERVICE_DOWN = 4.0


def lamina(*arguments: str, inside: tuple[str, ...] = (), stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    command = [*inside, sys.executable, "-m", "lamina.cli.main", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=START_SECONDS, check=False)


class ControlPlane(Cloud):
    """A running `lamina api`."""

    def __init__(self, directory: Path, hosts: list[dict[str, Any]], *options: str, address: str = "127.0.0.1") -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(directory, hosts, *options)
        self._directory = directory
        self._address = address
        #: where hosts dial in; the port is kept over a restart
        self.agents_url = ""

    def verb(self) -> list[str]:
        port = self.agents_url.rpartition(":")[2] or "0"
        return ["api", "--agents", f"{self._address}:{port}", "--service-down", str(SERVICE_DOWN), *self.options]

    def token(self, host: str) -> str:
        made = lamina("fleet", "token", "create", "--state", str(self.state), "--host", host)
        assert made.returncode == 0, made.stderr
        self.agents_url = self.agents_url or made.stderr.partition("lamina join ")[2].partition("'")[0]
        return made.stdout

    @contextlib.contextmanager
    def host(self, name: str, inside: tuple[str, ...] = ()) -> Iterator[Agent]:
        """A host of the fleet file, from its joining to the clean end of its agent. `inside` is put before its commands."""
        agent = Agent(name, self._directory / name, self.fleet_file, inside)
        token = self.token(name)
        done = lamina("join", self.agents_url, "--name", name, "--state", str(agent.state), inside=inside, stdin=token)
        assert done.returncode == 0, done.stderr
        agent.start()
        try:
            yield agent
        finally:
            if agent.process is not None:
                agent.process.send_signal(signal.SIGCONT)
                assert agent.stop(signal.SIGTERM) == 0, f"lamina agent did not stop cleanly:\n{agent.log.read_text()}"

    def services(self, conn: Connection) -> dict[str, str]:
        """Host -> up or down, as `openstack compute service list` shows it."""
        return {s.host: s.state for s in conn.compute.services() if s.binary == "nova-compute"}

    def until(self, conn: Connection, **states: str) -> None:
        """Until these hosts are so."""
        eventually(lambda: self.services(conn), lambda seen: all(seen.get(name) == state for name, state in states.items()), 60.0)


class Agent:
    """A `lamina agent --fleet`."""

    def __init__(self, name: str, state: Path, fleet_file: Path, inside: tuple[str, ...]) -> None:
        self.name = name
        self.state = state
        self.log = state.with_suffix(".log")
        self.process: subprocess.Popen[str] | None = None
        self._command = [*inside, sys.executable, "-m", "lamina.cli.main", "agent", "--fleet", str(fleet_file), "--host", name]

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self._command, "--state", str(self.state)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"ready {self.name}\n", self.log.read_text()

    def stop(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(START_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def pause(self) -> None:
        """It goes on as if nothing had been, once it is let."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
